package authn_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/go-ntlmssp"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// onlyNTLM is a server on which every connection becomes its first user's.
var onlyNTLM = ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}}

func TestInterleavedUsersNeverRunAsEachOther(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesAccept})
	both := []config.AuthenticationMethod{config.AuthNTLM, config.AuthClientCertificate}
	authenticator := newAuthenticator(t, exchange, authn.Options{}, both...)
	users := []struct {
		address string
		conn    *authn.Conn
	}{
		{alice, connect(t, authenticator, basic(alice, alicePassword))},
		{bob, connect(t, authenticator, basic(bob, bobPassword))},
		{alice, connect(t, authenticator, cba(t, exchange, alice))},
		{bob, connect(t, authenticator, cba(t, exchange, bob))},
	}
	for range 3 {
		for _, user := range users {
			inboxOf(t, exchange, user.conn, user.address)
		}
	}
	// New ones of the same users, while the old connections are still open.
	inboxOf(t, exchange, connect(t, authenticator, basic(bob, bobPassword)), bob)
	inboxOf(t, exchange, connect(t, authenticator, basic(alice, alicePassword)), alice)
	for _, request := range exchange.Requests() {
		if request.Presented != "" && request.Presented != request.User || request.Certificate != "" && request.Certificate != request.User {
			t.Errorf("users were mixed up: %+v", request)
		}
	}
}

func TestTheFakeWouldShowThatUsersShareAConnection(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	shared := &http.Transport{TLSClientConfig: trust(exchange)}
	t.Cleanup(shared.CloseIdleConnections)
	as := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	if _, err := ask(t, ntlmssp.Negotiator{RoundTripper: shared}, exchange.URL(), as(alice, alicePassword)); err != nil {
		t.Fatal(err)
	}
	got, err := ask(t, shared, exchange.URL(), as(bob, bobPassword))
	if err != nil {
		t.Fatal(err)
	}
	requests := exchange.Requests()
	if last := requests[len(requests)-1]; !strings.Contains(got.body, exchange.InboxID(alice)) || last.User != alice || last.Presented != bob {
		t.Errorf("Bob's request on Alice's connection was answered %d and recorded as %+v", got.response.StatusCode, last)
	}
}

func TestAnAuthenticatedConnectionIsUsedAgainAndReplacedWhenTheServerClosesIt(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, onlyNTLM)
	conn := connect(t, newAuthenticator(t, exchange, authn.Options{}, config.AuthNTLM), basic(alice, alicePassword))
	wantRequests := func(want int, when string) {
		t.Helper()
		inboxOf(t, exchange, conn, alice)
		if got := len(exchange.Requests()); got != want {
			t.Fatalf("%s: %d requests, want %d", when, got, want)
		}
	}
	wantRequests(2, "the handshake")
	wantRequests(3, "the same connection")
	exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Close: true} })
	wantRequests(4, "the same connection, which the server closes")
	exchange.OnRequest(nil)
	wantRequests(6, "a handshake on another connection")
	var refused atomic.Bool
	exchange.OnRequest(func(string, string) ewstest.Fault {
		if refused.CompareAndSwap(false, true) {
			return ewstest.Fault{Status: http.StatusUnauthorized}
		}
		return ewstest.Fault{}
	})
	wantRequests(9, "a connection that the server has forgotten, and a handshake on another")
	for _, request := range exchange.Requests() {
		if request.User != "" && request.User != alice {
			t.Errorf("request %+v", request)
		}
	}
	if exchange.AuthFailures(alice) != 0 {
		t.Error("a failed logon was counted")
	}
}

func TestAUsersOwnConnectionEndsWithTheConn(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesAccept})
	for name, user := range map[string]credential.Credential{"NTLM": basic(alice, alicePassword), "certificate": cba(t, exchange, alice)} {
		closed := make(chan struct{}, 10)
		var opened atomic.Int64
		authenticator := newAuthenticator(t, exchange, authn.Options{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				opened.Add(1)
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return watched{conn, closed}, err
			},
		}, config.AuthNTLM, config.AuthClientCertificate)
		conn, err := authenticator.Conn(user)
		if err != nil {
			t.Fatal(err)
		}
		inboxOf(t, exchange, conn, alice)
		inboxOf(t, exchange, conn, alice)
		if opened.Load() != 1 || len(closed) != 0 {
			t.Errorf("%s: %d connections were opened and %d closed for two requests", name, opened.Load(), len(closed))
		}
		conn.Close()
		select {
		case <-closed:
		case <-testContext(t).Done():
			t.Errorf("%s: the connection is still open", name)
		}
	}
}

// watched tells when it is closed.
type watched struct {
	net.Conn
	closed chan<- struct{}
}

func (w watched) Close() error {
	select {
	case w.closed <- struct{}{}:
	default:
	}
	return w.Conn.Close()
}

func TestAHandshakeThatIsCutIsNoRefusedCredential(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, last ewstest.Fault
		failure     error
	}{
		"instead of the challenge": {first: ewstest.Fault{LoseAnswer: true}, failure: io.EOF},
		"after the challenge":      {first: ewstest.Fault{Close: true}, failure: io.ErrUnexpectedEOF},
		"instead of the answer":    {last: ewstest.Fault{LoseAnswer: true}, failure: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange := newExchange(t, onlyNTLM)
			exchange.OnRequest(func(operation, _ string) ewstest.Fault {
				if operation == "" {
					return c.first
				}
				return c.last
			})
			conn := connect(t, newAuthenticator(t, exchange, authn.Options{}, config.AuthNTLM), basic(alice, alicePassword))
			if got, err := ask(t, conn, exchange.URL(), nil); !errors.Is(err, c.failure) {
				t.Errorf("answer %v, error %v, want %v", got.response, err, c.failure)
			}
			exchange.OnRequest(nil)
			inboxOf(t, exchange, conn, alice)
			if exchange.AuthFailures(alice) != 0 {
				t.Error("a failed logon was counted")
			}
		})
	}
}

func TestWhatComesInsteadOfAChallengeIsHandedOn(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusFound, http.StatusServiceUnavailable} {
		exchange := newExchange(t, onlyNTLM)
		exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Status: status} })
		conn := connect(t, newAuthenticator(t, exchange, authn.Options{}, config.AuthNTLM), basic(alice, alicePassword))
		got, err := ask(t, conn, exchange.URL(), nil)
		if err != nil || got.response.StatusCode != status || len(exchange.Requests()) != 1 {
			t.Errorf("%d: answer %v after %d requests, error %v", status, got.response, len(exchange.Requests()), err)
		}
	}
}

func TestAServersNonsenseIsAnErrorThatDoesNotQuoteIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status    int
		challenge string
	}{
		"a success without a challenge":     {http.StatusOK, "NTLM"},
		"a challenge that is not base64":    {http.StatusUnauthorized, "NTLM alice@example.com"},
		"a challenge that is too short":     {http.StatusUnauthorized, "NTLM YWxpY2U="},
		"a challenge of another type":       {http.StatusUnauthorized, "NTLM " + base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x03"+strings.Repeat("alice", 20)))},
		"a target outside of the challenge": {http.StatusUnauthorized, "NTLM " + base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x02\x00\x00\x00"+strings.Repeat("alice", 20)))},
		"an endless answer":                 {http.StatusUnauthorized, "NTLM TlRMTVNTUAACAAAA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", c.challenge)
				w.WriteHeader(c.status)
				if name == "an endless answer" {
					_, _ = w.Write(make([]byte, 1<<20))
				}
			}))
			t.Cleanup(server.Close)
			authenticator := authn.New(authn.Options{
				Methods: []config.AuthenticationMethod{config.AuthNTLM}, DialContext: new(net.Dialer).DialContext,
				TLS: server.Client().Transport.(*http.Transport).TLSClientConfig,
			})
			t.Cleanup(authenticator.Close)
			_, err := ask(t, connect(t, authenticator, basic(alice, alicePassword)), server.URL, nil)
			if err == nil || strings.Contains(err.Error(), "alice") {
				t.Errorf("error %v", err)
			}
			if name != "an endless answer" && !errors.Is(err, authn.ErrHandshake) {
				t.Errorf("error %v, want ErrHandshake", err)
			}
		})
	}
}
