package egress_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

// serverName is in the certificate of net/http/httptest.
const serverName = "example.com"

var local = egress.Guard{AllowLoopback: true}

func newServer(t *testing.T, prepare func(*httptest.Server)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are what is tested
	if prepare != nil {
		prepare(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func rootsOf(server *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return roots
}

// get asks server under the URL's host and returns the protocol of the answer.
func get(t *testing.T, transport *http.Transport, url string) (string, error) {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestServersAreVerified(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	pin := egress.Fingerprint(server.Certificate())
	key := egress.PublicKeyFingerprint(server.Certificate())
	other := strings.Repeat("0", len(pin))
	tests := map[string]struct {
		verification egress.Verification
		fails        string // "", "pin" or "chain"
	}{
		"a pinned certificate needs no authority":                   {egress.Verification{SHA256: []string{pin}}, ""},
		"one of several pins is enough":                             {egress.Verification{SHA256: []string{other, pin}}, ""},
		"a pinned certificate may bear another name":                {egress.Verification{SHA256: []string{pin}, ServerName: "other.test"}, ""},
		"another certificate than the pinned is refused":            {egress.Verification{SHA256: []string{other}}, "pin"},
		"a pinned public key needs no certificate":                  {egress.Verification{PublicKeySHA256: []string{key}}, ""},
		"another public key than the pinned is refused":             {egress.Verification{PublicKeySHA256: []string{other}}, "pin"},
		"either the certificate or the key is enough":               {egress.Verification{SHA256: []string{other}, PublicKeySHA256: []string{key}}, ""},
		"a certificate's pin is none of a key":                      {egress.Verification{PublicKeySHA256: []string{pin}}, "pin"},
		"with key and authority both must hold, the chain does not": {egress.Verification{PublicKeySHA256: []string{key}, Roots: x509.NewCertPool()}, "chain"},
		"an authority that is trusted is enough":                    {egress.Verification{Roots: rootsOf(server)}, ""},
		"an authority does not vouch for another name":              {egress.Verification{Roots: rootsOf(server), ServerName: "other.test"}, "chain"},
		"an unknown authority is refused":                           {egress.Verification{Roots: x509.NewCertPool()}, "chain"},
		"the system's authorities do not know the server":           {egress.Verification{}, "chain"},
		"with pin and authority both must hold, and do":             {egress.Verification{SHA256: []string{pin}, Roots: rootsOf(server)}, ""},
		"with pin and authority both must hold, the pin does not":   {egress.Verification{SHA256: []string{other}, Roots: rootsOf(server)}, "pin"},
		"with pin and authority both must hold, the chain does not": {egress.Verification{SHA256: []string{pin}, Roots: x509.NewCertPool()}, "chain"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := get(t, local.Transport(egress.Settings{TLS: egress.TLSConfig(test.verification)}), server.URL)
			pinError, isPin := errors.AsType[*egress.PinError](err)
			_, isChain := errors.AsType[*tls.CertificateVerificationError](err)
			switch test.fails {
			case "":
				if err != nil {
					t.Errorf("refused: %v", err)
				}
			case "pin":
				if !isPin {
					t.Fatalf("got %v, want a *PinError", err)
				}
				if pinError.Seen != pin || !strings.Contains(err.Error(), pin) {
					t.Errorf("the error does not name the fingerprint that was seen: %v", err)
				}
			case "chain":
				if !isChain {
					t.Errorf("got %v, want a verification error", err)
				}
			}
		})
	}
}

func TestAPinErrorNamesTheHost(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	config := egress.TLSConfig(egress.Verification{SHA256: []string{"00"}, ServerName: serverName})
	_, err := get(t, local.Transport(egress.Settings{TLS: config}), server.URL)
	pinError, ok := errors.AsType[*egress.PinError](err)
	if !ok || pinError.Host != serverName || !strings.Contains(err.Error(), serverName) {
		t.Errorf("got %v, want a *PinError that names %s", err, serverName)
	}
}

func TestAResumedSessionIsCheckedAgainstThePinsToo(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t, func(server *httptest.Server) { server.TLS = &tls.Config{MaxVersion: version} })
			cache := tls.NewLRUClientSessionCache(1)
			ask := func(pin string) (resumed bool, err error) {
				config := egress.TLSConfig(egress.Verification{SHA256: []string{pin}, ServerName: serverName})
				config.ClientSessionCache = cache
				verify := config.VerifyConnection
				config.VerifyConnection = func(state tls.ConnectionState) error {
					resumed = state.DidResume
					return verify(state)
				}
				transport := local.Transport(egress.Settings{TLS: config})
				defer transport.CloseIdleConnections()
				_, err = get(t, transport, server.URL)
				return resumed, err
			}
			pin := egress.Fingerprint(server.Certificate())
			for _, want := range []bool{false, true} {
				if resumed, err := ask(pin); err != nil || resumed != want {
					t.Fatalf("got resumed %t, %v, want %t", resumed, err, want)
				}
			}
			resumed, err := ask(strings.Repeat("0", len(pin)))
			if _, refused := errors.AsType[*egress.PinError](err); !refused || !resumed {
				t.Errorf("a pin that was taken back gives %v (resumed %t), want a *PinError on a resumed session", err, resumed)
			}
		})
	}
}

func TestOldTLSIsRefusedUnlessItIsAskedFor(t *testing.T) {
	t.Parallel()
	server := newServer(t, func(server *httptest.Server) {
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	pins := []string{egress.Fingerprint(server.Certificate())}
	for version, accepted := range map[uint16]bool{0: false, tls.VersionTLS10: true, tls.VersionTLS11: true, tls.VersionTLS12: false} {
		config := egress.TLSConfig(egress.Verification{SHA256: pins, MinVersion: version})
		if _, err := get(t, local.Transport(egress.Settings{TLS: config}), server.URL); (err == nil) != accepted {
			t.Errorf("at least %s against TLS 1.1: %v, want accepted %t", tls.VersionName(version), err, accepted)
		}
	}
}

func TestTheTransportSpeaksHTTP2OnlyWhenAsked(t *testing.T) {
	t.Parallel()
	server := newServer(t, func(server *httptest.Server) { server.EnableHTTP2 = true })
	verification := egress.TLSConfig(egress.Verification{Roots: rootsOf(server)})
	for http2, want := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		got, err := get(t, local.Transport(egress.Settings{TLS: verification, HTTP2: http2}), server.URL)
		if err != nil || got != want {
			t.Errorf("HTTP/2 %t: got %q, %v, want %q", http2, got, err, want)
		}
	}
}

func TestTheTransportTakesNoProxyFromTheEnvironment(t *testing.T) {
	server := newServer(t, nil)
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the request went to the proxy")
	}))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("https_proxy", proxy.URL)
	transport := local.Transport(egress.Settings{TLS: egress.TLSConfig(egress.Verification{Roots: rootsOf(server), ServerName: serverName})})
	dial := transport.DialContext
	// net/http never uses a proxy for loopback addresses, so the name must be another one.
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, server.Listener.Addr().String())
	}
	if _, err := get(t, transport, "https://"+serverName+"/"); err != nil {
		t.Error(err)
	}
}

func TestTheStrictTransportDoesNotReachLoopback(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	server := newServer(t, func(server *httptest.Server) {
		server.Config.ConnState = func(net.Conn, http.ConnState) { reached.Store(true) }
	})
	_, err := get(t, egress.Guard{}.Transport(egress.Settings{}), server.URL)
	if !errors.Is(err, egress.ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
	if reached.Load() {
		t.Error("the server was reached nevertheless")
	}
}

func TestTheTransportBoundsItsConnections(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := newServer(t, func(server *httptest.Server) {
		server.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	})
	transport := local.Transport(egress.Settings{
		TLS:            egress.TLSConfig(egress.Verification{Roots: rootsOf(server)}),
		MaxConnections: 1,
	})
	t.Cleanup(transport.CloseIdleConnections)
	var dials atomic.Int32
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}

	const requests = 3
	started, results := make(chan struct{}, requests), make(chan error, requests)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { started <- struct{}{} }})
	for range requests {
		go func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err == nil {
				var response *http.Response
				if response, err = transport.RoundTrip(request); err == nil {
					err = response.Body.Close()
				}
			}
			results <- err
		}()
	}
	for range requests {
		<-started // all of them want a connection before the first one is given back
	}
	close(release)
	for range requests {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if dials.Load() != 1 {
		t.Errorf("%d connections were opened, want 1", dials.Load())
	}
}
