package ews_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// allowing is the exchange as an endpoint with these methods.
func allowing(exchange *ewstest.Server, methods ...config.AuthenticationMethod) config.Endpoint {
	endpoint := effectiveEndpoint(exchange.URL())
	endpoint.AuthenticationMethods = methods
	return endpoint
}

func TestATokenThatHasEndedIsToldFromOneThatIsRefused(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}, Clock: clock})
	client := newClient(t, ews.Options{
		Endpoint: allowing(exchange, config.AuthOAuth), TLS: trust(exchange.CertificatePEM()), Clock: clock,
	})
	session := func(token string, expires time.Time) *ews.Session {
		user := oauth(token)
		user.Expires = expires
		return client.Session(user, activityID)
	}
	ctx := testContext(t)
	if inbox, err := session(exchange.IssueToken(alice, time.Hour), clock.Now().Add(time.Hour)).Inbox(ctx, ""); err != nil || inbox.ID != exchange.InboxID(alice) {
		t.Fatalf("the Inbox is %+v, error %v", inbox, err)
	}

	_, err := session(exchange.IssueToken(alice, time.Hour), clock.Now()).Inbox(ctx, "")
	wantError(t, err, ews.ErrTokenExpired, false, 0, "EWS GetFolder failed at")
	if e, _ := errors.AsType[*ews.Error](err); e.HTTPStatus != 0 || len(exchange.Requests()) != 1 {
		t.Error("a token that is known to have ended was sent")
	}
	_, err = session(exchange.IssueToken(alice, -time.Second), time.Time{}).Inbox(ctx, "")
	wantError(t, err, errors.Join(ews.ErrTokenExpired, ews.ErrUnauthorized), false, 0, "(the access token has expired; the device has to send a new one)")

	revoked := exchange.IssueToken(alice, time.Hour)
	exchange.RevokeTokens(alice)
	_, err = session(revoked, time.Time{}).Inbox(ctx, "")
	wantError(t, err, ews.ErrUnauthorized, false, 0, "(the access token was refused; it must be meant for this server")
}

func TestNTLMFailsAsWhatItIs(t *testing.T) {
	t.Parallel()
	ntlm := []config.AuthenticationMethod{config.AuthNTLM}
	exchange := newExchange(t, ewstest.Options{})
	client := newClient(t, ews.Options{Endpoint: allowing(exchange, ntlm...), TLS: trust(exchange.CertificatePEM())})
	session := client.Session(basic(`EXAMPLE\alice`, alicePassword), activityID)
	defer session.Close()
	ctx := testContext(t)

	exchange.OnRequest(func(operation, _ string) ewstest.Fault { return ewstest.Fault{Close: operation == ""} })
	_, err := session.Inbox(ctx, "")
	wantError(t, err, nil, true, 0, "the server closed the connection in the middle of the NTLM handshake")
	exchange.OnRequest(nil)
	if _, err := session.Inbox(ctx, ""); err != nil {
		t.Fatal(err)
	}
	_, err = client.Session(basic(alice, "wrong"), activityID).Inbox(ctx, "")
	wantError(t, err, ews.ErrUnauthorized, false, 0, "(the user name or password is wrong, or Extended Protection is set to Require for this virtual directory)")

	nonsense := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "NTLM alice@example.com")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(nonsense.Close)
	_, err = sessionWith(t, nonsense, func(e *config.Endpoint) { e.AuthenticationMethods = ntlm }).Inbox(ctx, "")
	wantError(t, err, nil, false, 0, "EWS GetFolder failed at")
	if !errors.Is(err, authn.ErrHandshake) {
		t.Errorf("error %v, want ErrHandshake", err)
	}
}

func TestACertificateOpensItsOwnMailboxAndNoOther(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesRequire})
	client := newClient(t, ews.Options{
		Endpoint: allowing(exchange, config.AuthClientCertificate), TLS: trust(exchange.CertificatePEM()),
	})
	session := client.Session(cba(t, exchange, "bob@example.com"), activityID)
	defer session.Close()
	ctx := testContext(t)
	if inbox, err := session.Inbox(ctx, ""); err != nil || inbox.ID != exchange.InboxID("bob@example.com") {
		t.Errorf("the Inbox is %+v, error %v", inbox, err)
	}
	_, err := session.Inbox(ctx, alice)
	wantError(t, err, ews.ErrAccessDenied, false, 0, "answered ErrorAccessDenied to GetFolder at")
}

func TestWhatIsMissingForACertificateIsSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setting ewstest.ClientCertificates
		foreign bool
		kind    error
		text    string
	}{
		"the server does not ask":       {ewstest.ClientCertificatesOff, false, ews.ErrUnauthorized, "the server never asked for the client certificate"},
		"the server does not accept it": {ewstest.ClientCertificatesRequire, true, ews.ErrForbidden, "the server does not accept the client certificate"},
	} {
		exchange := newExchange(t, ewstest.Options{ClientCertificates: c.setting})
		issuer := exchange
		if c.foreign {
			issuer = newExchange(t, ewstest.Options{})
		}
		client := newClient(t, ews.Options{
			Endpoint: allowing(exchange, config.AuthClientCertificate), TLS: trust(exchange.CertificatePEM()),
		})
		_, err := client.Session(cba(t, issuer, alice), activityID).Inbox(testContext(t), "")
		t.Log(name)
		wantError(t, err, c.kind, false, 0, c.text)
	}
}

func TestSessionsOfSeveralUsersWithEveryMethodAreNeverMixedUp(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{
		Authentication:     []ewstest.Scheme{ewstest.NTLM, ewstest.OAuth},
		ClientCertificates: ewstest.ClientCertificatesAccept,
	})
	client := newClient(t, ews.Options{
		Endpoint: allowing(exchange, config.AuthBasic, config.AuthNTLM, config.AuthOAuth, config.AuthClientCertificate),
		TLS:      trust(exchange.CertificatePEM()),
	})
	users := map[string][]credential.Credential{
		alice:             {basic(alice, alicePassword), oauth(exchange.IssueToken(alice, time.Hour)), cba(t, exchange, alice)},
		"bob@example.com": {basic("bob@example.com", "bob's"), oauth(exchange.IssueToken("bob@example.com", time.Hour)), cba(t, exchange, "bob@example.com")},
	}
	const rounds = 5
	failed := make(chan error, rounds*6)
	ctx := testContext(t)
	for range rounds {
		for address, credentials := range users {
			for _, user := range credentials {
				go func() {
					session := client.Session(user, activityID)
					defer session.Close()
					inbox, err := session.Inbox(ctx, "")
					if err == nil && inbox.ID != exchange.InboxID(address) {
						err = errors.New("the Inbox of somebody else")
					}
					failed <- err
				}()
			}
		}
	}
	for range rounds * 6 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	for _, request := range exchange.Requests() {
		if request.Presented != "" && request.Presented != request.User {
			t.Errorf("users were mixed up: %+v", request)
		}
	}
}
