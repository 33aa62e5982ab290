// Package probe looks at Exchange servers as anybody may: without a credential, for a bounded time, and reading no more than
// it needs. It says what a server shows, not what to think of it.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

const (
	// timeout bounds one look, from resolving the name to the end of the answer.
	timeout = 10 * time.Second
	// maxBody is what is read of an answer, so that its connection ends in good order.
	maxBody = 16 << 10
	// maxCertificates and maxSchemes bound what is repeated of a server's words.
	maxCertificates = 8
	maxSchemes      = 8
	maxVersion      = 32
)

// Question is which server to look at, and which certificate it should show.
type Question struct {
	URL          string
	Verification egress.Verification
	// UserAgent is that of the tenants' requests, so that a server which lets only some pass lets this one pass as well.
	UserAgent string
}

// Result is what a server shows.
type Result struct {
	// Err is why there was no answer; nil if there was one.
	Err error
	// Certificates are those that the server showed, its own first; none if it came to no handshake.
	Certificates []*x509.Certificate
	// TLSVersion is e.g. "TLS 1.2".
	TLSVersion string
	// Verification is why the certificates are not those that they should be; nil if they are, or if there was nothing to
	// compare them with.
	Verification error
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Schemes are the authentication schemes that are offered, as the server spells them, e.g. NTLM.
	Schemes []string
	// Version is the build of Exchange, where the server tells it to everybody; else empty.
	Version string
}

// AsksForCredentials reports whether the server wants to know who asks.
func (r Result) AsksForCredentials() bool { return r.Status == http.StatusUnauthorized }

// Prober looks at servers through a guard. The zero value is ready for use.
type Prober struct{ Guard egress.Guard }

// Look asks the server once. The certificate does not stop it: what it should be is compared, and told.
func (p Prober) Look(ctx context.Context, q Question) Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return Result{Err: errors.New("the url cannot be used")}
	}
	request.Header.Set("User-Agent", q.UserAgent)
	shown := &handshake{}
	transport := p.Guard.Transport(egress.Settings{TLS: shown.watch(request.URL, q.Verification), MaxConnections: 1})
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	result := shown.result()
	if err != nil {
		result.Err = explain(ctx, err)
		return result
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxBody)
	result.Status = response.StatusCode
	result.Schemes = schemes(response.Header)
	result.Version = version(response.Header)
	return result
}

// handshake is what one showed. It may still be under way after a look that took too long.
type handshake struct {
	mu    sync.Mutex
	shown Result
}

// result is what was shown so far.
func (h *handshake) result() Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shown
}

// watch is a configuration under which every certificate passes and is noted, with what its verification says.
func (h *handshake) watch(target *url.URL, v egress.Verification) *tls.Config {
	verify := egress.TLSConfig(v)
	watching := verify.Clone()
	watching.InsecureSkipVerify = true //nolint:gosec // nothing is sent that others may not know, and the verdict is told
	watching.VerifyConnection = func(state tls.ConnectionState) error {
		shown := Result{
			Certificates: state.PeerCertificates[:min(len(state.PeerCertificates), maxCertificates)],
			TLSVersion:   tls.VersionName(state.Version),
		}
		if !verify.InsecureSkipVerify {
			shown.Verification = verifyChain(state, verify.RootCAs, target.Hostname())
		}
		if shown.Verification == nil && verify.VerifyConnection != nil {
			shown.Verification = verify.VerifyConnection(state)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.shown = shown
		return nil
	}
	return watching
}

// verifyChain is what the handshake would do.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: host})
	return err
}

// explain leaves the address out, which stands in the object that it is about.
func explain(ctx context.Context, err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

// schemes are the first words of the challenges, without repetition.
func schemes(header http.Header) []string {
	var found []string
	for _, challenge := range header.Values("WWW-Authenticate") {
		name, _, _ := strings.Cut(strings.TrimSpace(challenge), " ")
		if isToken(name) && !slices.Contains(found, name) && len(found) < maxSchemes {
			found = append(found, name)
		}
	}
	return found
}

// version is what some parts of Exchange tell to everybody.
func version(header http.Header) string {
	build := header.Get("X-OWA-Version")
	if len(build) > maxVersion || strings.Trim(build, "0123456789.") != "" {
		return ""
	}
	return build
}

// isToken reports whether text may stand in a status: letters and hyphens, not too many.
func isToken(text string) bool {
	const longest = 32
	return text != "" && len(text) <= longest &&
		strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz-") == ""
}
