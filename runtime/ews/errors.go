package ews

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/authn"
)

// What an *Error can be, for errors.Is.
var (
	// ErrUnauthorized: 401. The credential was refused; asking again may lock the account out.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: 403, but not through a SEG. EWS is not allowed to this user, application or licence, or the URL has no path (E-06).
	ErrForbidden = errors.New("forbidden")
	// ErrNotFound: 404. There is no EWS at this URL.
	ErrNotFound = errors.New("not found")
	// ErrRedirect: 3xx. Redirects are never followed.
	ErrRedirect = errors.New("redirected")
	// ErrWrongServer: this server does not serve the mailbox (any longer), and Autodiscover has to be run again: a
	// redirect, ErrorWrongServerVersion or ErrorProxyRequestNotAllowed.
	ErrWrongServer = errors.New("wrong server")
	// ErrGatewayNotReady: 204 of a SEG that has not loaded its policies (G-07).
	ErrGatewayNotReady = errors.New("gateway not ready")
	// ErrDevicesUnknown: 400 of a SEG that knows none of the devices (G-09).
	ErrDevicesUnknown = errors.New("devices unknown")
	// ErrNotCompliant: 403 of a SEG for which none of the devices is compliant (G-08).
	ErrNotCompliant = errors.New("devices not compliant")
	// ErrUnavailable: 429, 502, 503 or 504. The server or a proxy before it is overloaded or down.
	ErrUnavailable = errors.New("unavailable")
	// ErrServerBusy: ErrorServerBusy. BackOff says how long to leave this mailbox alone.
	ErrServerBusy = errors.New("server busy")
	// ErrItemNotFound: ErrorItemNotFound or ErrorFolderNotFound.
	ErrItemNotFound = errors.New("item not found")
	// ErrAccessDenied: this user has no right to the mailbox that was named, or it is not there.
	ErrAccessDenied = errors.New("access denied")
	// ErrAccountUnusable: Exchange says that the account is disabled or its password has expired or must be changed.
	ErrAccountUnusable = errors.New("account unusable")
	// ErrCertificate: the server's certificate is not the one that the endpoint's pinning wants.
	ErrCertificate = errors.New("certificate refused")
	// ErrTimeout: no whole answer in time. The server may have done the work.
	ErrTimeout = errors.New("timed out")
	// ErrResponse: an answer that is not the SOAP that was expected, or too much of it.
	ErrResponse = errors.New("unusable response")
	// ErrAuthType: the credential's type is not allowed by the endpoint. Nothing was sent.
	ErrAuthType = authn.ErrNotAvailable
	// ErrTokenExpired: the access token has ended. Either the server says so, which is ErrUnauthorized too, or it was
	// known before: then nothing was sent, and the server has refused nobody.
	ErrTokenExpired = authn.ErrTokenExpired
)

// Error is why a call, or one item of it, failed. Its text is fit for an administrator and free of anything secret.
type Error struct {
	Operation Operation
	// Endpoint is scheme, host and path of the server.
	Endpoint string
	// HTTPStatus is 0 if no answer came.
	HTTPStatus int
	// Code is the response code of a fault or response message, or empty.
	Code ResponseCode
	// BackOff is how long the server asks to wait: BackOffMilliseconds or Retry-After. It may be minutes.
	BackOff time.Duration
	// GatewayTransaction is the SEG's own name for the call (G-06), if there is a SEG and it gave one.
	GatewayTransaction string
	// Err is the cause below HTTP, if there is one.
	Err error
	// hint is what the answer itself adds to the text.
	hint string
	// tokenExpired says that a 401 gives the token's end as its reason.
	tokenExpired bool
	// gateway says that a SEG was asked.
	gateway bool
}

// Error says what happened, where, and what to do about it.
func (e *Error) Error() string {
	what, detail, hint := e.describe()
	text := fmt.Sprintf("EWS %s at %s", what, e.Endpoint)
	if detail != "" {
		text += ": " + detail
	}
	if e.BackOff > 0 {
		hint = strings.TrimPrefix(hint+fmt.Sprintf("; it asks to wait %s", e.BackOff.Round(time.Second)), "; ")
	}
	if hint != "" {
		text += " (" + hint + ")"
	}
	if e.GatewayTransaction != "" {
		text += ", SEG transaction " + e.GatewayTransaction
	}
	return text
}

func (e *Error) describe() (what, detail, hint string) {
	switch {
	case e.Code != "":
		return fmt.Sprintf("answered %s to %s", e.Code, e.Operation), "", codeHints[e.Code]
	case errors.Is(e.Err, ErrTimeout), errors.Is(e.Err, ErrResponse), errors.Is(e.Err, ErrAuthType), errors.Is(e.Err, ErrTokenExpired),
		errors.Is(e.Err, authn.ErrHandshake), errors.Is(e.Err, context.Canceled):
		return fmt.Sprintf("%s failed", e.Operation), e.Err.Error(), e.hint
	case errors.Is(e.Err, ErrCertificate):
		return "was not called", e.Err.Error(), e.hint
	case e.HTTPStatus != 0 && e.Err == nil:
		return fmt.Sprintf("answered %d %s", e.HTTPStatus, http.StatusText(e.HTTPStatus)), "", e.statusHint()
	default:
		return "could not be reached", e.Err.Error(), connectionHint(e.Err)
	}
}

// asmxPath is the path of EWS on every Exchange server.
const asmxPath = "/EWS/Exchange.asmx"

func (e *Error) statusHint() string {
	if e.hint != "" {
		return e.hint
	}
	hasPath := strings.HasSuffix(strings.ToLower(e.Endpoint), strings.ToLower(asmxPath))
	switch e.HTTPStatus {
	case http.StatusForbidden, http.StatusNotFound:
		if !hasPath {
			return "is the path " + asmxPath + " missing?"
		}
		if e.HTTPStatus == http.StatusNotFound {
			return "is this host an Exchange server, and is EWS published on it?"
		}
		return "EWS is blocked there for this user, application, licence or client address"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return "the server is overloaded or being restarted"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return "a proxy in front of Exchange cannot reach it"
	}
	return ""
}

// tlsAlert is the operation of a net.OpError by which the other side breaks a TLS handshake off (E-25). It has decided
// so, and will again.
const tlsAlert = "remote error"

func connectionHint(err error) string {
	_, unknownHost := errors.AsType[*net.DNSError](err)
	operation, _ := errors.AsType[*net.OpError](err)
	switch {
	case operation != nil && operation.Op == tlsAlert:
		return "the server broke off the TLS handshake; compare TLS versions, cipher suites, and which client certificates it accepts"
	case unknownHost:
		return "check the host name and the DNS that the runtime uses"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens on this port, or a firewall refuses it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to the server"
	}
	return ""
}

// Unwrap returns the cause below HTTP.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether e is of the kind target, one of this package's Err values.
func (e *Error) Is(target error) bool {
	is, known := kinds[target]
	return known && is(e)
}

// kinds are what can be told from an answer. The others are told from Err.
var kinds = map[error]func(e *Error) bool{
	ErrUnauthorized:    func(e *Error) bool { return e.HTTPStatus == http.StatusUnauthorized },
	ErrTokenExpired:    func(e *Error) bool { return e.tokenExpired },
	ErrForbidden:       func(e *Error) bool { return e.HTTPStatus == http.StatusForbidden && !e.gateway },
	ErrNotCompliant:    func(e *Error) bool { return e.HTTPStatus == http.StatusForbidden && e.gateway },
	ErrDevicesUnknown:  func(e *Error) bool { return e.HTTPStatus == http.StatusBadRequest && e.gateway },
	ErrGatewayNotReady: func(e *Error) bool { return e.HTTPStatus == http.StatusNoContent && e.gateway },
	ErrNotFound:        func(e *Error) bool { return e.HTTPStatus == http.StatusNotFound },
	ErrRedirect:        redirected,
	ErrWrongServer: func(e *Error) bool {
		return redirected(e) || e.Code == ErrorWrongServerVersion || e.Code == ErrorProxyRequestNotAllowed
	},
	ErrUnavailable:  func(e *Error) bool { return unavailable(e.HTTPStatus) },
	ErrServerBusy:   func(e *Error) bool { return e.Code == ErrorServerBusy },
	ErrItemNotFound: func(e *Error) bool { return e.Code == ErrorItemNotFound || e.Code == ErrorFolderNotFound },
	ErrAccessDenied: func(e *Error) bool {
		return e.Code == ErrorAccessDenied || e.Code == ErrorNonExistentMailbox || e.Code == ErrorSubscriptionDelegateAccess
	},
	ErrAccountUnusable: func(e *Error) bool {
		return e.Code == ErrorAccountDisabled || e.Code == ErrorPasswordExpired || e.Code == ErrorPasswordChangeRequired
	},
}

func redirected(e *Error) bool {
	return e.HTTPStatus >= http.StatusMultipleChoices && e.HTTPStatus < http.StatusBadRequest
}

func unavailable(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Transient reports whether the same call may succeed within seconds (E-07). It is false after 401, 403, a certificate
// that was refused, a cancelled context, and whenever the server asked to wait.
func Transient(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.BackOff > 0 || errors.Is(err, context.Canceled) {
		return false
	}
	switch {
	case e.Code != "":
		return e.Code.transient()
	case errors.Is(e.Err, ErrTimeout):
		return true
	case errors.Is(e.Err, ErrResponse):
		// A page of a proxy that is just being restarted, or an answer cut short.
		return e.HTTPStatus == http.StatusOK || e.HTTPStatus == http.StatusInternalServerError
	case e.HTTPStatus != 0:
		return unavailable(e.HTTPStatus) || e.HTTPStatus == http.StatusInternalServerError || e.Is(ErrGatewayNotReady)
	default:
		return transientConnection(e.Err)
	}
}

func transientConnection(err error) bool {
	if unknownHost, ok := errors.AsType[*net.DNSError](err); ok {
		return !unknownHost.IsNotFound
	}
	operation, network := errors.AsType[*net.OpError](err)
	return network && operation.Op != tlsAlert || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET)
}
