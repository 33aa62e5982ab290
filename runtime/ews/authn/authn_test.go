package authn_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// presentations are credentials, what the endpoint allows, what the server offers, and what comes of it.
var presentations = map[string]struct {
	methods      []config.AuthenticationMethod
	schemes      []ewstest.Scheme
	certificates ewstest.ClientCertificates
	user         func(t *testing.T, exchange *ewstest.Server) credential.Credential
	status       int
	// requests on the wire, and a part of the hint.
	requests int
	hint     string
}{
	"Basic": {
		methods: []config.AuthenticationMethod{config.AuthBasic}, user: alicesPassword, status: 200, requests: 1,
	},
	"NTLM": {
		methods: []config.AuthenticationMethod{config.AuthNTLM}, user: alicesPassword, status: 200, requests: 2,
	},
	"NTLM with a domain before the name": {
		methods: []config.AuthenticationMethod{config.AuthNTLM}, status: 200, requests: 2,
		user: func(*testing.T, *ewstest.Server) credential.Credential { return basic(aliceLogin, alicePassword) },
	},
	"Basic where both are allowed and offered": {
		methods: []config.AuthenticationMethod{config.AuthNTLM, config.AuthBasic}, user: alicesPassword, status: 200, requests: 1,
	},
	"NTLM where both are allowed and Basic is switched off": {
		methods: []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM},
		schemes: []ewstest.Scheme{ewstest.Negotiate, ewstest.NTLM}, user: alicesPassword, status: 200, requests: 3,
	},
	"NTLM inside Negotiate where NTLM itself is not offered": {
		methods: []config.AuthenticationMethod{config.AuthNTLM},
		schemes: []ewstest.Scheme{ewstest.Negotiate}, user: alicesPassword, status: 200, requests: 3,
	},
	"no NTLM where only Basic is allowed": {
		methods: []config.AuthenticationMethod{config.AuthBasic}, schemes: []ewstest.Scheme{ewstest.Negotiate, ewstest.NTLM},
		user: alicesPassword, status: 401, requests: 1, hint: "the server does not take Basic, only Negotiate, NTLM",
	},
	"no Basic where only NTLM is allowed": {
		methods: []config.AuthenticationMethod{config.AuthNTLM}, schemes: []ewstest.Scheme{ewstest.Basic},
		user: alicesPassword, status: 401, requests: 1, hint: "the server does not take NTLM, only Basic",
	},
	"a wrong password by Basic": {
		methods: []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM}, status: 401, requests: 1,
		user: func(*testing.T, *ewstest.Server) credential.Credential { return basic(alice, "wrong") }, hint: "the user name or password is wrong",
	},
	"a wrong password by NTLM": {
		methods: []config.AuthenticationMethod{config.AuthNTLM}, status: 401, requests: 2,
		user: func(*testing.T, *ewstest.Server) credential.Credential { return basic(alice, "wrong") }, hint: "or Extended Protection is set to Require",
	},
	"a token": {
		methods: []config.AuthenticationMethod{config.AuthOAuth}, schemes: []ewstest.Scheme{ewstest.OAuth}, status: 200, requests: 1,
		user: alicesToken,
	},
	"a token where the server takes none": {
		methods: []config.AuthenticationMethod{config.AuthOAuth}, status: 401, requests: 1,
		user: alicesToken, hint: "the server does not take Bearer, only Basic, Negotiate, NTLM",
	},
	"a certificate": {
		methods: []config.AuthenticationMethod{config.AuthClientCertificate}, certificates: ewstest.ClientCertificatesRequire,
		user: alicesCertificate, status: 200, requests: 1,
	},
	"a certificate where it may be shown": {
		methods: []config.AuthenticationMethod{config.AuthClientCertificate}, certificates: ewstest.ClientCertificatesAccept,
		user: alicesCertificate, status: 200, requests: 1,
	},
	"a certificate that nobody asks for": {
		methods: []config.AuthenticationMethod{config.AuthClientCertificate},
		user:    alicesCertificate, status: 401, requests: 1, hint: "the server never asked for the client certificate",
	},
	"a certificate of another authority": {
		methods: []config.AuthenticationMethod{config.AuthClientCertificate}, certificates: ewstest.ClientCertificatesAccept,
		user: func(t *testing.T, _ *ewstest.Server) credential.Credential {
			return cba(t, ewstest.StartT(t, ewstest.Options{}), alice)
		},
		status: 403, requests: 1, hint: "the server does not accept the client certificate",
	},
	"a certificate beside a password": {
		methods:      []config.AuthenticationMethod{config.AuthClientCertificate, config.AuthBasic},
		certificates: ewstest.ClientCertificatesRequire, status: 200, requests: 1,
		user: func(t *testing.T, exchange *ewstest.Server) credential.Credential {
			return beside(cba(t, exchange, alice), basic(alice, alicePassword))
		},
	},
	"a certificate beside a password by NTLM": {
		methods:      []config.AuthenticationMethod{config.AuthClientCertificate, config.AuthNTLM},
		certificates: ewstest.ClientCertificatesRequire, status: 200, requests: 2,
		user: func(t *testing.T, exchange *ewstest.Server) credential.Credential {
			return beside(cba(t, exchange, alice), basic(alice, alicePassword))
		},
	},
	"a certificate beside a token": {
		methods:      []config.AuthenticationMethod{config.AuthClientCertificate, config.AuthOAuth},
		certificates: ewstest.ClientCertificatesRequire, schemes: []ewstest.Scheme{ewstest.OAuth}, status: 200, requests: 1,
		user: func(t *testing.T, exchange *ewstest.Server) credential.Credential {
			return beside(cba(t, exchange, alice), oauth(exchange.IssueToken(alice, time.Hour)))
		},
	},
	"a right certificate beside a wrong password": {
		methods:      []config.AuthenticationMethod{config.AuthClientCertificate, config.AuthBasic},
		certificates: ewstest.ClientCertificatesRequire, status: 401, requests: 1, hint: "the user name or password is wrong",
		user: func(t *testing.T, exchange *ewstest.Server) credential.Credential {
			return beside(cba(t, exchange, alice), basic(alice, "wrong"))
		},
	},
	"a right password without the certificate that is required": {
		methods: []config.AuthenticationMethod{config.AuthBasic}, certificates: ewstest.ClientCertificatesRequire,
		user: alicesPassword, status: 403, requests: 1,
	},
}

func alicesPassword(*testing.T, *ewstest.Server) credential.Credential {
	return basic(alice, alicePassword)
}

func alicesToken(_ *testing.T, exchange *ewstest.Server) credential.Credential {
	return oauth(exchange.IssueToken(alice, time.Hour))
}

func alicesCertificate(t *testing.T, exchange *ewstest.Server) credential.Credential {
	return cba(t, exchange, alice)
}

func TestEachCredentialIsPresentedAsTheEndpointAllowsAndNotOtherwise(t *testing.T) {
	t.Parallel()
	for name, c := range presentations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange := newExchange(t, ewstest.Options{Authentication: c.schemes, ClientCertificates: c.certificates})
			conn := connect(t, newAuthenticator(t, exchange, authn.Options{}, c.methods...), c.user(t, exchange))
			got, err := ask(t, conn, exchange.URL(), nil)
			if err != nil {
				t.Fatal(err)
			}
			requests := exchange.Requests()
			if got.response.StatusCode != c.status || len(requests) != c.requests {
				t.Errorf("status %d after %d requests, want %d after %d", got.response.StatusCode, len(requests), c.status, c.requests)
			}
			if last := requests[len(requests)-1]; c.status == http.StatusOK && last.User != alice {
				t.Errorf("the request ran as %q", last.User)
			}
			if hint := conn.Hint(got.response); !strings.Contains(hint, c.hint) || (hint == "") != (c.hint == "") {
				t.Errorf("the hint is %q, want %q", hint, c.hint)
			}
			if failures := exchange.AuthFailures(alice); failures > 1 {
				t.Errorf("%d failed logons: more than one brings the account nearer to its lock-out than the user did", failures)
			}
		})
	}
}

func TestMethodsThatAreNotAllowedAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	certificate, password, token := cba(t, exchange, alice), basic(alice, alicePassword), oauth("token")
	for name, c := range map[string]struct {
		user    credential.Credential
		methods []config.AuthenticationMethod
	}{
		"nothing":                              {password, nil},
		"a token":                              {token, []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM, config.AuthClientCertificate}},
		"a password":                           {password, []config.AuthenticationMethod{config.AuthOAuth, config.AuthClientCertificate}},
		"a certificate":                        {certificate, []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM, config.AuthOAuth}},
		"a password beside a certificate":      {beside(certificate, password), []config.AuthenticationMethod{config.AuthOAuth, config.AuthClientCertificate}},
		"a certificate beside a password":      {beside(certificate, password), []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM}},
		"a token beside a certificate":         {beside(certificate, token), []config.AuthenticationMethod{config.AuthBasic, config.AuthClientCertificate}},
		"a certificate that is none":           {credential.Credential{AuthType: credential.CBA}, []config.AuthenticationMethod{config.AuthClientCertificate}},
		"a certificate whose key is no key":    {withKey(certificate, "key"), []config.AuthenticationMethod{config.AuthClientCertificate}},
		"an authentication type that is wrong": {credential.Credential{AuthType: 5}, []config.AuthenticationMethod{config.AuthBasic, config.AuthOAuth}},
	} {
		if _, err := newAuthenticator(t, exchange, authn.Options{}, c.methods...).Conn(c.user); !errors.Is(err, authn.ErrNotAvailable) {
			t.Errorf("%s: error %v, want ErrNotAvailable", name, err)
		}
	}
}

func withKey(user credential.Credential, key string) credential.Credential {
	user.Certificate.Key = secret.FromString(key)
	return user
}

func TestAServerWithoutBasicIsRememberedForAnHour(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}})
	authenticator := newAuthenticator(t, exchange, authn.Options{Clock: clock}, config.AuthBasic, config.AuthNTLM)
	requests := 0
	wantRequests := func(more int, when string) {
		t.Helper()
		inboxOf(t, exchange, connect(t, authenticator, basic(alice, alicePassword)), alice)
		requests += more
		if got := len(exchange.Requests()); got != requests {
			t.Fatalf("%s: %d requests, want %d", when, got, requests)
		}
	}
	wantRequests(3, "Basic, then the handshake")
	clock.Step(time.Hour)
	wantRequests(2, "the handshake at once")
	clock.Step(time.Second)
	wantRequests(3, "Basic again")
}

func TestAServerThatWasRememberedForNTLMMayTakeBasicOnlyOneDay(t *testing.T) {
	t.Parallel()
	before := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}})
	after := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}})
	current := before
	authenticator := newAuthenticator(t, before, authn.Options{
		TLS: trust(before, after),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, strings.TrimSuffix(strings.TrimPrefix(current.URL(), "https://"), ewstest.Path))
		},
	}, config.AuthBasic, config.AuthNTLM)
	inboxOf(t, before, connect(t, authenticator, basic(alice, alicePassword)), alice)
	authenticator.Close() // what is left of the old server's connections
	current = after
	inboxOf(t, after, connect(t, authenticator, basic(alice, alicePassword)), alice)
	if after.AuthFailures(alice) != 0 {
		t.Error("a failed logon was counted")
	}
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := newExchange(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}, Clock: clock})
	authenticator := newAuthenticator(t, exchange, authn.Options{Clock: clock}, config.AuthOAuth)
	user := oauth(exchange.IssueToken(alice, time.Hour))
	conn := connect(t, authenticator, user)
	inboxOf(t, exchange, conn, alice)

	clock.Step(time.Hour)
	got, err := ask(t, conn, exchange.URL(), nil)
	if err != nil || got.response.StatusCode != http.StatusUnauthorized || !authn.TokenExpired(got.response.Header) ||
		!strings.Contains(conn.Hint(got.response), "the access token has expired") {
		t.Errorf("a token that the server finds expired: %v, error %v", got.response, err)
	}

	sent := len(exchange.Requests())
	user.Expires = clock.Now()
	if _, err := ask(t, connect(t, authenticator, user), exchange.URL(), nil); !errors.Is(err, authn.ErrTokenExpired) {
		t.Errorf("a token that is known to have ended: error %v", err)
	}
	if len(exchange.Requests()) != sent {
		t.Error("it was sent")
	}

	revoked := connect(t, authenticator, oauth(exchange.IssueToken(alice, time.Hour)))
	exchange.RevokeTokens(alice)
	got, err = ask(t, revoked, exchange.URL(), nil)
	if err != nil || got.response.StatusCode != http.StatusUnauthorized || authn.TokenExpired(got.response.Header) ||
		!strings.Contains(revoked.Hint(got.response), "the access token was refused") {
		t.Errorf("a revoked token: %v, error %v", got.response, err)
	}
	inboxOf(t, exchange, connect(t, authenticator, oauth(exchange.IssueToken(alice, time.Hour))), alice)
}

func TestTheEndOfATokenIsReadFromTheDiagnostics(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		`2000002;reason="The token has expired.";error_category="token_expired"`: true,
		`2000002`: true,
		`2000008;reason="a; b";error_category="token_expired"`: true,
		`2000003; error_category=token_expired `:               true,
		`2000003;reason="x";error_category="invalid_token"`:    false,
		`12000002;reason="x"`:                                  false,
		`token_expired`:                                        false,
		``:                                                     false,
	} {
		if got := authn.TokenExpired(http.Header{"X-Ms-Diagnostics": {value}}); got != want {
			t.Errorf("%s: %v, want %v", value, got, want)
		}
	}
}

func TestNoErrorAndNoHintHoldsAnythingOfTheUser(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	user := basic("ali:ce", "horse")
	conn := connect(t, newAuthenticator(t, exchange, authn.Options{}, config.AuthBasic), user)
	_, err := ask(t, conn, exchange.URL(), nil)
	if !errors.Is(err, authn.ErrNotAvailable) {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %+v", err, err, conn); strings.Contains(text, "ali:ce") || strings.Contains(text, "horse") {
		t.Errorf("printed %s", text)
	}
}

func TestAnonymousRequestsCarryNoCredential(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	authenticator := newAuthenticator(t, exchange, authn.Options{}, config.AuthBasic)
	inboxOf(t, exchange, connect(t, authenticator, basic(alice, alicePassword)), alice)
	got, err := ask(t, authenticator.Anonymous(), exchange.URL(), nil)
	if err != nil || got.response.StatusCode != http.StatusUnauthorized {
		t.Errorf("answered %v, error %v", got.response, err)
	}
}

func TestAnOutageOfTheDirectoryRefusesEverybody(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesAccept})
	exchange.Outage(true)
	for _, method := range []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM} {
		got, err := ask(t, connect(t, newAuthenticator(t, exchange, authn.Options{}, method), basic(alice, alicePassword)), exchange.URL(), nil)
		if err != nil || got.response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: answered %v, error %v", method, got.response, err)
		}
	}
	exchange.Outage(false)
	inboxOf(t, exchange, connect(t, newAuthenticator(t, exchange, authn.Options{}, config.AuthNTLM), basic(alice, alicePassword)), alice)
	if exchange.AuthFailures(alice) != 0 {
		t.Error("the outage counted as a wrong password")
	}
}

func TestConnectionsWithAClientCertificateEndAtTheTLSVersionThatIISRenegotiatesIn(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesRequire})
	for least, want := range map[uint16]uint16{0: tls.VersionTLS12, tls.VersionTLS12: tls.VersionTLS12, tls.VersionTLS13: tls.VersionTLS13} {
		verification := trust(exchange)
		verification.MinVersion = least
		conn := connect(t, newAuthenticator(t, exchange, authn.Options{TLS: verification}, config.AuthClientCertificate), cba(t, exchange, alice))
		got, err := ask(t, conn, exchange.URL(), nil)
		if err != nil || got.response.StatusCode != http.StatusOK || got.response.TLS.Version != want {
			t.Errorf("least version %x: answer %v, error %v", least, got.response, err)
		}
	}
}
