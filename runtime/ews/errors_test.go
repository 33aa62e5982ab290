package ews_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// allKinds are the errors that are told apart by errors.Is.
var allKinds = []error{
	ews.ErrUnauthorized, ews.ErrForbidden, ews.ErrNotFound, ews.ErrRedirect, ews.ErrUnavailable, ews.ErrServerBusy,
	ews.ErrItemNotFound, ews.ErrAccessDenied, ews.ErrAccountUnusable, ews.ErrCertificate, ews.ErrTimeout, ews.ErrResponse,
	ews.ErrAuthType, ews.ErrWrongServer, ews.ErrTokenExpired, ews.ErrGatewayNotReady, ews.ErrDevicesUnknown, ews.ErrNotCompliant,
}

// redirected is what every redirect is.
var redirected = errors.Join(ews.ErrRedirect, ews.ErrWrongServer)

// wantError checks the kind (nil is none of allKinds, errors.Join makes it several), whether it is transient, the back-off, and the text.
func wantError(t *testing.T, err error, kind error, transient bool, backOff time.Duration, text string) {
	t.Helper()
	e, ok := errors.AsType[*ews.Error](err)
	if !ok {
		t.Fatalf("error %v, want an *ews.Error", err)
	}
	for _, known := range allKinds {
		if is := errors.Is(err, known); is != errors.Is(kind, known) {
			t.Errorf("%v: errors.Is(%v) is %v", err, known, is)
		}
	}
	if ews.Transient(err) != transient {
		t.Errorf("%v: transient is %v, want %v", err, !transient, transient)
	}
	if e.BackOff != backOff {
		t.Errorf("%v: back-off %s, want %s", err, e.BackOff, backOff)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error text\n%s\nwant\n%s", err, text)
	}
}

func TestWhatExchangeAnswersBecomesAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		fault     ewstest.Fault
		kind      error
		transient bool
		backOff   time.Duration
		text      string
	}{
		"401":                    {ewstest.Fault{Status: 401}, ews.ErrUnauthorized, false, 0, "answered 401 Unauthorized at https://127.0.0.1:"},
		"403 with the full path": {ewstest.Fault{Status: 403}, ews.ErrForbidden, false, 0, "/EWS/Exchange.asmx (EWS is blocked there for this user, application, licence or client address)"},
		"404 with the full path": {ewstest.Fault{Status: 404}, ews.ErrNotFound, false, 0, "answered 404 Not Found at"},
		"a login page": {
			ewstest.Fault{Status: 302, Location: "https://login.example.com/owa?user=alice"},
			redirected, false, 0, `answered 302 Found at`,
		},
		"503":                  {ewstest.Fault{Status: 503}, ews.ErrUnavailable, true, 0, "the server is overloaded or being restarted"},
		"503 with Retry-After": {ewstest.Fault{Status: 503, RetryAfter: time.Minute}, ews.ErrUnavailable, false, time.Minute, "it asks to wait 1m0s"},
		"502":                  {ewstest.Fault{Status: 502}, ews.ErrUnavailable, true, 0, "a proxy in front of Exchange cannot reach it"},
		"throttled": {
			ewstest.Fault{Code: "ErrorServerBusy", BackOff: 178510 * time.Millisecond},
			ews.ErrServerBusy, false, 178510 * time.Millisecond, "answered ErrorServerBusy to GetFolder",
		},
		"throttled for a time that nobody believes": {
			ewstest.Fault{Code: "ErrorServerBusy", BackOff: 1e6 * time.Hour}, ews.ErrServerBusy, false, time.Hour, "1h0m0s",
		},
		"throttled without a time": {ewstest.Fault{Code: "ErrorServerBusy"}, ews.ErrServerBusy, false, 0, "throttles this user"},
		"the mailbox is moving":    {ewstest.Fault{Code: "ErrorMailboxMoveInProgress"}, nil, true, 0, "ErrorMailboxMoveInProgress"},
		"a server that does not serve the mailbox": {
			ewstest.Fault{Code: "ErrorWrongServerVersion"}, ews.ErrWrongServer, false, 0, "run Autodiscover again",
		},
		"a server that may not pass the call on": {
			ewstest.Fault{Code: "ErrorProxyRequestNotAllowed"}, ews.ErrWrongServer, false, 0, "run Autodiscover again",
		},
		"an expired password": {ewstest.Fault{Code: "ErrorPasswordExpired"}, ews.ErrAccountUnusable, false, 0, "the user's password has expired"},
		"a code nobody knows": {ewstest.Fault{Code: "ErrorOfTomorrow"}, nil, false, 0, "answered ErrorOfTomorrow to GetFolder"},
		"garbage":             {ewstest.Fault{Garbage: true}, ews.ErrResponse, true, 0, `"text/html" instead of SOAP`},
		"a lost answer":       {ewstest.Fault{LoseAnswer: true}, nil, true, 0, ": EOF"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange := newExchange(t, ewstest.Options{})
			exchange.OnRequest(func(string, string) ewstest.Fault { return c.fault })
			_, err := aliceAt(t, exchange).Inbox(testContext(t), "")
			wantError(t, err, c.kind, c.transient, c.backOff, c.text)
			if len(exchange.Requests()) != 1 {
				t.Errorf("%d requests, want just the one", len(exchange.Requests()))
			}
			if strings.Contains(err.Error(), "alice") {
				t.Errorf("the error names the user: %v", err)
			}
		})
	}
}

func TestAWrongPasswordAHostOnlyURLAndForeignMailboxes(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	ctx := testContext(t)
	options := ews.Options{Endpoint: effectiveEndpoint(exchange.URL()), TLS: trust(exchange.CertificatePEM())}

	_, err := newClient(t, options).Session(basic(alice, "wrong"), activityID).Inbox(ctx, "")
	wantError(t, err, ews.ErrUnauthorized, false, 0, "(the user name or password is wrong, or Basic authentication is off for this virtual directory)")
	if exchange.AuthFailures(alice) != 1 {
		t.Errorf("%d failed logons, want exactly 1: more would lock the account", exchange.AuthFailures(alice))
	}

	session := newClient(t, options).Session(basic(`example\ALICE`, alicePassword), activityID)
	_, err = session.Inbox(ctx, "bob@example.com")
	wantError(t, err, ews.ErrAccessDenied, false, 0, "answered ErrorAccessDenied to GetFolder at")
	_, err = session.Inbox(ctx, "nobody@example.com")
	wantError(t, err, ews.ErrAccessDenied, false, 0, "there is no such mailbox on this server")

	hostOnly := strings.TrimSuffix(exchange.URL(), ewstest.Path)
	options.Endpoint.URL = hostOnly + "/"
	_, err = newClient(t, options).Session(basic(alice, alicePassword), activityID).Inbox(ctx, "")
	wantError(t, err, ews.ErrForbidden, false, 0,
		"EWS answered 403 Forbidden at "+hostOnly+"/ (is the path /EWS/Exchange.asmx missing?)")
	options.Endpoint.URL = hostOnly + "/exchange?user=alice"
	_, err = newClient(t, options).Session(basic(alice, alicePassword), activityID).Inbox(ctx, "")
	wantError(t, err, ews.ErrNotFound, false, 0,
		"EWS answered 404 Not Found at "+hostOnly+"/exchange (is the path /EWS/Exchange.asmx missing?)")
}

func TestAServerThatTakesNoBasicIsToldFromAWrongPassword(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Www-Authenticate"] = []string{"Negotiate", "NTLM", "X-alice@example.com"}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	_, err := sessionAt(t, server).Inbox(testContext(t), "")
	wantError(t, err, ews.ErrUnauthorized, false, 0, "(the server does not take Basic, only Negotiate, NTLM)")
}

func TestARedirectIsNamedButNotFollowed(t *testing.T) {
	t.Parallel()
	other := newExchange(t, ewstest.Options{})
	exchange := newExchange(t, ewstest.Options{})
	exchange.OnRequest(func(string, string) ewstest.Fault {
		return ewstest.Fault{Status: 307, Location: other.URL() + "?secret=1"}
	})
	_, err := aliceAt(t, exchange).Inbox(testContext(t), "")
	wantError(t, err, redirected, false, 0, `it points to "`+strings.TrimSuffix(other.URL(), ewstest.Path)+`"; redirects are not followed`)
	if len(other.Requests()) != 0 {
		t.Error("the redirect was followed")
	}
}

func TestARefusedCertificateIsNamedByItsFingerprint(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	other := newExchange(t, ewstest.Options{})
	refusal := errors.New("not among the pinned ones")
	cases := map[string]*tls.Config{
		"by the system's authorities": nil,
		"by another authority":        trust(other.CertificatePEM()),
		"by VerifyConnection": {
			InsecureSkipVerify: true,
			VerifyConnection:   func(tls.ConnectionState) error { return refusal },
		},
		"by VerifyPeerCertificate": {
			InsecureSkipVerify:    true,
			VerifyPeerCertificate: pinNothing(refusal),
		},
	}
	for name, config := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, ews.Options{Endpoint: effectiveEndpoint(exchange.URL()), TLS: config})
			_, err := client.Session(basic(alice, alicePassword), activityID).Inbox(testContext(t), "")
			wantError(t, err, ews.ErrCertificate, false, 0,
				"its certificate with the SHA-256 fingerprint "+exchange.Fingerprint()+" was refused:")
			if !strings.Contains(err.Error(), "pin that fingerprint or the authority") {
				t.Errorf("the error does not say what to do: %v", err)
			}
		})
	}
	if len(exchange.Requests()) != 0 {
		t.Error("a credential was sent to a server whose certificate was refused")
	}
}

func TestAServerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		dial      error
		transient bool
		text      string
	}{
		"refused":      {&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, true, "connection refused (nothing listens on this port, or a firewall refuses it)"},
		"no route":     {&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}, true, "(there is no route to the server)"},
		"no such name": {&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "mail", IsNotFound: true}}, false, "(check the host name and the DNS that the runtime uses)"},
		"TLS refused":  {&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, false, "(the server broke off the TLS handshake; compare TLS versions"},
		"DNS is down":  {&net.DNSError{Err: "server misbehaving", Name: "mail", IsTemporary: true}, true, "could not be reached"},
		"not allowed":  {errors.New("loopback addresses are not allowed"), false, "EWS could not be reached at https://mail.example.com/EWS/Exchange.asmx: loopback addresses are not allowed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, ews.Options{
				Endpoint:    effectiveEndpoint("https://mail.example.com/EWS/Exchange.asmx"),
				DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, c.dial },
			})
			_, err := client.Session(basic(alice, alicePassword), activityID).Inbox(testContext(t), "")
			wantError(t, err, nil, c.transient, 0, c.text)
		})
	}
}

func TestACallEndsWithItsTimeoutOnTheClock(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := newExchange(t, ewstest.Options{})
	held := make(chan struct{})
	exchange.OnRequest(func(string, string) ewstest.Fault {
		held <- struct{}{}
		return ewstest.Fault{Wait: t.Context().Done()}
	})
	client := newClient(t, ews.Options{Endpoint: effectiveEndpoint(exchange.URL()), TLS: trust(exchange.CertificatePEM()), Clock: clock})
	failed := make(chan error, 1)
	go func() {
		_, err := client.Session(basic(alice, alicePassword), activityID).Inbox(testContext(t), "")
		failed <- err
	}()
	<-held // the request is at the server, so its timer runs
	clock.Step(30 * time.Second)
	wantError(t, <-failed, ews.ErrTimeout, true, 0, "/EWS/Exchange.asmx: timed out: no answer within 30s")
}

func TestACallEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	exchange.OnRequest(func(string, string) ewstest.Fault {
		cancel()
		return ewstest.Fault{Wait: t.Context().Done()}
	})
	_, err := aliceAt(t, exchange).Inbox(ctx, "")
	wantError(t, err, nil, false, 0, "/EWS/Exchange.asmx: context canceled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestNoMoreRequestsRunAtOnceThanTheEndpointAllows(t *testing.T) {
	t.Parallel()
	const limit, calls = 2, 12
	exchange := newExchange(t, ewstest.Options{})
	var running, most atomic.Int64
	arrived, release := make(chan struct{}, calls), make(chan struct{})
	exchange.OnRequest(func(string, string) ewstest.Fault {
		most.Store(max(most.Load(), running.Add(1)))
		arrived <- struct{}{}
		<-release
		running.Add(-1)
		return ewstest.Fault{}
	})
	endpoint := effectiveEndpoint(exchange.URL())
	endpoint.MaxConcurrentRequests = limit
	client := newClient(t, ews.Options{Endpoint: endpoint, TLS: trust(exchange.CertificatePEM())})
	ctx := testContext(t)
	done := make(chan error, calls)
	for range calls {
		go func() {
			_, err := client.Session(basic(alice, alicePassword), activityID).Inbox(ctx, "")
			done <- err
		}()
	}
	for range limit {
		<-arrived
	}
	close(release)
	for range calls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != limit {
		t.Errorf("up to %d requests ran at once, want %d", most.Load(), limit)
	}
}

func TestACallThatWaitsForASlotEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	arrived, release := make(chan struct{}), make(chan struct{})
	exchange.OnRequest(func(string, string) ewstest.Fault {
		arrived <- struct{}{}
		return ewstest.Fault{Wait: release}
	})
	endpoint := effectiveEndpoint(exchange.URL())
	endpoint.MaxConcurrentRequests = 1
	session := newClient(t, ews.Options{Endpoint: endpoint, TLS: trust(exchange.CertificatePEM())}).Session(basic(alice, alicePassword), activityID)
	ctx := testContext(t)
	first := make(chan error, 1)
	go func() {
		_, err := session.Inbox(ctx, "")
		first <- err
	}()
	<-arrived
	waiting, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err := session.Inbox(waiting, "")
	wantError(t, err, ews.ErrTimeout, true, 0, "context deadline exceeded")
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestAnAnswerThatNeverEndsOrExpandsWithoutEndIsCutOff(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{"plain": endless, "compressed": bomb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(handler)
			t.Cleanup(server.Close)
			_, err := sessionAt(t, server).Inbox(testContext(t), "")
			wantError(t, err, ews.ErrResponse, true, 0, "more than 4194304 bytes")
		})
	}
}

func TestWhatTheEndpointDoesNotAllowIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic, ewstest.NTLM, ewstest.OAuth}})
	cases := map[string]struct {
		methods []config.AuthenticationMethod
		user    credential.Credential
		text    string
	}{
		"a token where passwords are allowed": {
			nil, oauth(exchange.IssueToken(alice, time.Hour)), `does not allow OAuth (its authentication methods: Basic)`,
		},
		"a password where tokens are allowed": {
			[]config.AuthenticationMethod{config.AuthOAuth}, basic(alice, alicePassword), `the endpoint "mail" does not allow Basic Auth`,
		},
		"a certificate beside a password where passwords are allowed": {
			nil, credential.Credential{AuthType: credential.BasicCBA}, `does not allow Basic Auth and CBA`,
		},
		"a type that nobody knows": {nil, credential.Credential{AuthType: 9}, "does not allow unknown"},
		"a user name that Basic cannot carry": {
			nil, basic("ali:ce", alicePassword), "without a colon",
		},
		"a token that no header can carry": {
			[]config.AuthenticationMethod{config.AuthOAuth}, oauth("a\r\nb"), "the access token is not one",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := effectiveEndpoint(exchange.URL())
			if c.methods != nil {
				endpoint.AuthenticationMethods = c.methods
			}
			client := newClient(t, ews.Options{Endpoint: endpoint, TLS: trust(exchange.CertificatePEM())})
			_, err := client.Session(c.user, activityID).Inbox(testContext(t), "")
			wantError(t, err, ews.ErrAuthType, false, 0, c.text)
			if len(exchange.Requests()) != 0 {
				t.Error("a request was sent")
			}
		})
	}
}

func TestClientsNeedAUsableEndpoint(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Endpoint){
		"no https":       func(e *config.Endpoint) { e.URL = "http://mail.example.com/EWS/Exchange.asmx" },
		"no host":        func(e *config.Endpoint) { e.URL = "https:///EWS/Exchange.asmx" },
		"no URL at all":  func(e *config.Endpoint) { e.URL = "::" },
		"no time-out":    func(e *config.Endpoint) { e.TimeoutSeconds = 0 },
		"no concurrency": func(e *config.Endpoint) { e.MaxConcurrentRequests = 0 },
	} {
		endpoint := effectiveEndpoint("https://mail.example.com/EWS/Exchange.asmx")
		change(&endpoint)
		if _, err := ews.NewClient(ews.Options{Endpoint: endpoint}); err == nil {
			t.Errorf("%s: a client was made", name)
		}
	}
}
