package autodiscover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
)

// What an error of Find can be, for errors.Is. ErrNoEndpoint and ErrUnauthorized may both be true: one host told an
// address that is of no use, and another wanted another credential.
var (
	// ErrNotLocated: no host told an EWS address.
	ErrNotLocated = errors.New("The Autodiscover service couldn't be located.") //nolint:revive,staticcheck // the original's own words, which scripts look for (E-03)
	// ErrNotAllowed: the address's domain is none of Config.Domains.
	ErrNotAllowed = errors.New("the domain of the e-mail address may not be asked by Autodiscover")
	// ErrNoEndpoint: an EWS address was told, and it is that of none of the tenant's endpoints.
	ErrNoEndpoint = errors.New("no endpoint of this tenant was found by Autodiscover")
	// ErrUnauthorized: at least one host wanted a credential, and all that did refused this one.
	ErrUnauthorized = errors.New("the credential was refused by Autodiscover")
)

// Why a host led nowhere, beside those of bounds.go and answer.go. None of them repeats what a server wrote.
var (
	errForeign  = errors.New("told an address of EWS that is none of the tenant's endpoints")
	errHops     = fmt.Errorf("led to more than %d other addresses", maxHops)
	errRefused  = errors.New("refused the credential")
	errWithheld = fmt.Errorf("wants the credential, which is not sent to it because %d others have refused it", maxRefusals)
	errTooLarge = fmt.Errorf("answered with more than %d bytes", maxAnswerBytes)
	errStopped  = errors.New("was still being asked when the time was up")
	// errAlert says nothing about other users: it is how a host asks for a client certificate that it has to have.
	errAlert = errors.New("broke off the TLS handshake; it may want a client certificate or another version of TLS")
)

// errUnreachable matches failures that have nothing to do with what was asked.
var errUnreachable = errors.New("unreachable")

// unreachableError is a host that gave no answer.
type unreachableError struct {
	text string
	// cause is there if its text is ours.
	cause error
}

func (e *unreachableError) Error() string { return e.text }
func (e *unreachableError) Unwrap() error { return e.cause }

// Is makes it an errUnreachable.
func (e *unreachableError) Is(target error) bool { return target == errUnreachable }

// statusError is an answer with a status that leads nowhere.
type statusError int

func (e statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("answered %d %s", int(e), http.StatusText(int(e))))
}

// explain says in our own words why no answer came. The words of net/http and crypto/x509 hold the URL, and names that
// stand in the server's certificate.
func explain(ctx context.Context, err error) error {
	if limit, ok := errors.AsType[timeoutError](context.Cause(ctx)); ok {
		return &unreachableError{text: limit.Error()}
	}
	if refusal, ok := errors.AsType[*egress.RefusedError](err); ok {
		return &unreachableError{text: "was not asked: " + refusal.Error(), cause: refusal}
	}
	switch {
	case errors.Is(err, authn.ErrNotAvailable):
		return err // the credential cannot be presented; the host is not at fault
	case errors.Is(err, authn.ErrTokenExpired):
		return authn.ErrTokenExpired
	case errors.Is(err, authn.ErrHandshake):
		return authn.ErrHandshake
	}
	if text := certificateProblem(err); text != "" {
		return &unreachableError{text: "was not asked: its certificate " + text}
	}
	if brokenOff(err) {
		return errAlert
	}
	return &unreachableError{text: connectionProblem(err)}
}

// brokenOff reports whether one side ended the TLS connection with an alert: the host because it got no certificate, or
// crypto/tls because it will not renegotiate without one to present. Both come as errors of these operations.
func brokenOff(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && (operation.Op == "remote error" || operation.Op == "local error")
}

func certificateProblem(err error) string {
	if pin, ok := errors.AsType[*egress.PinError](err); ok {
		return "is not pinned for the endpoint of that host (SHA-256 fingerprint " + pin.Seen + ")"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "is for other names"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "is of an authority that is not trusted; add it to autodiscover.caBundle if it is yours"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return "has expired or is not valid yet"
		}
		return "is not valid"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "is not valid"
	}
	return ""
}

func connectionProblem(err error) string {
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		if unknown.IsNotFound {
			return "has no address in the DNS"
		}
		return "could not be looked up in the DNS"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "does not speak TLS"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "cannot be reached: no route"
	default:
		return "cut the connection or did not answer in HTTP"
	}
}

// lookupError says why there are no service records.
func lookupError(ctx context.Context, err error) error {
	if limit, ok := errors.AsType[timeoutError](context.Cause(ctx)); ok {
		return &unreachableError{text: limit.Error()}
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); err == nil || ok && unknown.IsNotFound {
		return &unreachableError{text: "do not exist"}
	}
	return &unreachableError{text: "could not be looked up in the DNS"}
}

// failure is why a step led nowhere at one place.
type failure struct {
	// place is the host, with its scheme.
	place string
	// step is empty where the place says it all.
	step string
	err  error
}

// wholeSearch is the place of what is no single host's fault.
const wholeSearch = "the search as a whole"

func (w *walk) fail(step string, at *url.URL, err error) {
	if step == "srv" {
		w.failures = append(w.failures, failure{place: "the service records of " + at.Host, err: err})
		return
	}
	w.failures = append(w.failures, failure{place: at.Scheme + "://" + at.Host, step: step, err: err})
}

// allUnreachable reports whether nothing came back from any host.
func (w *walk) allUnreachable() bool {
	return !slices.ContainsFunc(w.failures, func(f failure) bool { return !errors.Is(f.err, errUnreachable) })
}

// failedError is a Find that found no endpoint.
type failedError struct {
	kinds    []error
	foreign  []string
	failures []failure
}

// failed is the error of a walk that is over. ctx is that of the whole Find.
func (w *walk) failed(ctx context.Context) error {
	e := &failedError{foreign: slices.Compact(slices.Sorted(slices.Values(w.foreign))), failures: w.failures}
	if len(e.foreign) > 0 {
		e.kinds = append(e.kinds, ErrNoEndpoint)
	}
	if len(w.refused) > 0 && !w.accepted {
		e.kinds = append(e.kinds, ErrUnauthorized)
	}
	if len(e.kinds) == 0 {
		e.kinds = append(e.kinds, ErrNotLocated)
	}
	if limit, ok := errors.AsType[timeoutError](context.Cause(ctx)); ok {
		e.failures = append(e.failures, failure{place: wholeSearch, err: limit})
	}
	return e
}

// Error says what is wrong, what was found, and which hosts were asked with what result.
func (e *failedError) Error() string {
	var b strings.Builder
	for _, kind := range e.kinds {
		b.WriteString(strings.TrimSuffix(kind.Error(), ".") + ". ")
	}
	if len(e.foreign) > 0 {
		b.WriteString("It found " + strings.Join(e.foreign, " and ") + ": make that an endpoint of the tenant if it is right. ")
	}
	b.WriteString("What was asked: " + describe(e.failures))
	return b.String()
}

// describe lists the failures. The same failure of several steps at one host is told once.
func describe(failures []failure) string {
	var told []failure
	for _, f := range failures {
		same := func(t failure) bool { return t.place == f.place && t.err.Error() == f.err.Error() }
		if i := slices.IndexFunc(told, same); i < 0 {
			told = append(told, f)
		} else if !strings.Contains(told[i].step, f.step) {
			told[i].step += ", " + f.step
		}
	}
	texts := make([]string, len(told))
	for i, f := range told {
		texts[i] = f.place
		if f.step != "" {
			texts[i] += " (" + f.step + ")"
		}
		texts[i] += " " + f.err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the kinds and the reasons.
func (e *failedError) Unwrap() []error {
	all := slices.Clone(e.kinds)
	for _, f := range e.failures {
		all = append(all, f.err)
	}
	return all
}
