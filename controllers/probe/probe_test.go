package probe_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/controllers/probe"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

var local = probe.Prober{Guard: egress.Guard{AllowLoopback: true}}

// challenging answers as IIS does to who shows no credential.
func challenging(challenges ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, challenge := range challenges {
			w.Header().Add("WWW-Authenticate", challenge)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func TestWhatAServerShowsIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int
		asks    bool
		schemes []string
		version string
	}{
		"Exchange":                            {challenging("Negotiate", "NTLM", `Basic realm="mail.example.com"`), 401, true, []string{"Negotiate", "NTLM", "Basic"}, ""},
		"Exchange Online":                     {challenging(`Bearer client_id="x", trusted_issuers="y"`, `Basic Realm=""`), 401, true, []string{"Bearer", "Basic"}, ""},
		"a scheme twice and one that is none": {challenging("NTLM", "NTLM", "<script>", ""), 401, true, []string{"NTLM"}, ""},
		"more schemes than there are":         {challenging(strings.Split("a,b,c,d,e,f,g,h,i,j", ",")...), 401, true, strings.Split("a,b,c,d,e,f,g,h", ","), ""},
		"a login page": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.com/", http.StatusFound)
		}, 302, false, nil, ""},
		"a build number":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-OWA-Version", "15.2.1544.4") }, 200, false, nil, "15.2.1544.4"},
		"no build number": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-OWA-Version", "15.2; DROP TABLE") }, 200, false, nil, ""},
		"an endless page": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, 200, false, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(c.handler)
			t.Cleanup(server.Close)
			got := local.Look(t.Context(), probe.Question{URL: server.URL + "/EWS/Exchange.asmx"})
			if got.Err != nil || got.Status != c.status || got.AsksForCredentials() != c.asks || !slices.Equal(got.Schemes, c.schemes) || got.Version != c.version {
				t.Errorf("shown is %+v", got)
			}
			if len(got.Certificates) != 1 || !got.Certificates[0].Equal(server.Certificate()) || got.TLSVersion != "TLS 1.3" {
				t.Errorf("shown are %d certificates over %s", len(got.Certificates), got.TLSVersion)
			}
		})
	}
}

func TestTheCertificateIsComparedAndDoesNotStopTheLook(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(challenging("NTLM"))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	other := strings.Repeat("0", 64)
	pin, key := egress.Fingerprint(server.Certificate()), egress.PublicKeyFingerprint(server.Certificate())
	isPin := func(err error) bool { _, ok := errors.AsType[*egress.PinError](err); return ok }
	isChain := func(err error) bool { return err != nil && !isPin(err) }
	good := func(err error) bool { return err == nil }
	for name, c := range map[string]struct {
		verification egress.Verification
		want         func(error) bool
		url          string
	}{
		"the pinned one":          {egress.Verification{SHA256: []string{pin}}, good, server.URL},
		"one with the pinned key": {egress.Verification{PublicKeySHA256: []string{key}}, good, server.URL},
		"another than the pinned": {egress.Verification{SHA256: []string{other}, PublicKeySHA256: []string{other}}, isPin, server.URL},
		"of an authority":         {egress.Verification{Roots: roots}, good, server.URL},
		"of an unknown authority": {egress.Verification{Roots: x509.NewCertPool()}, isChain, server.URL},
		"of the system's":         {egress.Verification{}, isChain, server.URL},
		"for another name":        {egress.Verification{Roots: roots}, isChain, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)},
	} {
		got := local.Look(t.Context(), probe.Question{URL: c.url, Verification: c.verification})
		if got.Err != nil || got.Status != http.StatusUnauthorized || !c.want(got.Verification) {
			t.Errorf("%s: %d, %v, verification: %v", name, got.Status, got.Err, got.Verification)
		}
	}
}

func TestWhatDoesNotAnswerIsToldWithoutWaitingForEver(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // an old server
	old.StartTLS()
	t.Cleanup(old.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context //nolint:containedctx // a case of a table
		prober probe.Prober
		url    string
		says   string
	}{
		"nothing listens":        {t.Context(), local, "https://127.0.0.1:1/", "connection refused"},
		"it speaks http":         {t.Context(), local, strings.Replace(plain.URL, "http:", "https:", 1), "does not look like a TLS handshake"},
		"its TLS is too old":     {t.Context(), local, old.URL, "protocol version"},
		"nobody has time":        {soon, local, fmt.Sprintf("https://%s/", silent.Addr()), "no answer within"},
		"the guard refuses":      {t.Context(), probe.Prober{}, plain.URL, "refused by the egress guard"},
		"the url cannot be read": {t.Context(), local, "https://[::1/", "cannot be used"},
	} {
		got := c.prober.Look(c.ctx, probe.Question{URL: c.url})
		if got.Err == nil || !strings.Contains(got.Err.Error(), c.says) || got.Status != 0 {
			t.Errorf("%s: %d, %v, want an error that says %q", name, got.Status, got.Err, c.says)
		}
	}
}
