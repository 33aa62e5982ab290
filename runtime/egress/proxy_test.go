package egress_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/egress/proxytest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// plain makes connections without a guard.
var plain egress.DialFunc = new(net.Dialer).DialContext

// through is how connections are made through a proxy.
func through(t *testing.T, p egress.Proxy) egress.DialFunc {
	t.Helper()
	dial, err := p.Through(plain)
	if err != nil {
		t.Fatal(err)
	}
	return dial
}

func TestATunnelLeadsToTheServerAlone(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Proxy-Authorization")+"hello")
	}))
	t.Cleanup(server.Close)
	proxy := proxytest.Start("ens", "swordfish")
	t.Cleanup(proxy.Close)
	proxy.Permit(server.URL)
	client := server.Client()
	client.Transport.(*http.Transport).DialContext = through(t, egress.Proxy{
		URL: proxy.URL() + "/", Username: secret.FromString("ens\r\n"), Password: secret.FromString("swordfish\n"),
	})
	response, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "hello" || proxy.Passed() != 1 {
		t.Errorf("got %q over %d tunnels", body, proxy.Passed())
	}
}

// peer is a proxy that does what a test says with each connection.
func peer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// saying reads a request's head and answers it.
func saying(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		head := make([]byte, 4096)
		_, _ = conn.Read(head)
		_, _ = io.WriteString(conn, answer)
	}
}

func TestAProxyThatMakesNoTunnelIsToldApartByWhatToDo(t *testing.T) {
	t.Parallel()
	// lasting and status are those of a ProxyError; without one the proxy may be there again soon.
	tests := map[string]struct {
		serve   func(net.Conn)
		lasting bool
		says    string
	}{
		"another password":   {saying("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\nswordfish"), true, "correct the proxy's credentials"},
		"not permitted":      {saying("HTTP/1.1 403 Forbidden\r\n\r\n"), true, "permit CONNECT to mail.example.com:443"},
		"not a proxy":        {saying("HTTP/1.1 405 Method Not Allowed\r\n\r\n"), true, "permit CONNECT"},
		"the server is away": {saying("HTTP/1.1 502 Bad Gateway\r\n\r\n"), false, "status 502"},
		"the proxy is busy":  {saying("HTTP/1.0 503 Busy\r\n\r\n"), false, "status 503"},
		"a redirect":         {saying("HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n"), false, "status 302"},
		"another protocol":   {saying("220 mail.example.com ESMTP\r\n"), true, "does not speak HTTP"},
		"an answer without an end": {func(conn net.Conn) {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(conn, strings.Repeat("X-A: b\r\n", 512))
			}
		}, true, "does not speak HTTP"},
		"a tunnel that speaks": {saying("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), true, "does not speak HTTP"},
		"a word and no more":   {func(net.Conn) {}, false, "ask the proxy for a tunnel"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial := through(t, egress.Proxy{URL: peer(t, test.serve), Username: secret.FromString("ens"), Password: secret.FromString("swordfish")})
			conn, err := dial(t.Context(), "tcp", "mail.example.com:443")
			if err == nil {
				_ = conn.Close()
				t.Fatal("there is a tunnel")
			}
			refusal, ok := errors.AsType[*egress.ProxyError](err)
			if lasting := ok && refusal.Lasting(); lasting != test.lasting || !strings.Contains(err.Error(), test.says) ||
				strings.Contains(err.Error(), "swordfish") {
				t.Errorf("err = %v, lasting: %v", err, lasting)
			}
		})
	}
}

func TestAProxyThatIsSilentIsGivenUpWithTheContext(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	dial := through(t, egress.Proxy{URL: peer(t, func(net.Conn) { <-silent })})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, "tcp", "mail.example.com:443"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the context's", err)
	}
}

func TestTheProxyItselfIsGuarded(t *testing.T) {
	t.Parallel()
	dial, err := egress.Proxy{URL: "http://127.0.0.1:3128"}.Through(egress.Guard{}.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t.Context(), "tcp", "mail.example.com:443"); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("err = %v, want the guard's", err)
	}
}

func TestAProxysAddressIsCheckedWithoutBeingTold(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"over TLS":       "https://proxy.example.com:3128",
		"without a port": "http://proxy.example.com",
		"with a user":    "http://ens:swordfish@proxy.example.com:3128",
		"with a path":    "http://proxy.example.com:3128/swordfish",
		"with a query":   "http://proxy.example.com:3128?swordfish",
		"none":           "",
		"no URL":         "http://swordfish:%",
	} {
		if _, err := (egress.Proxy{URL: url}).Through(plain); err == nil || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func FuzzAnswerToConnect(f *testing.F) {
	f.Add("HTTP/1.1 200 Connection established\r\n\r\n")
	f.Add("HTTP/1.1 407 \r\nProxy-Authenticate: Basic\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, answer string) {
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			saying(answer)(server)
		}()
		dial, err := egress.Proxy{URL: "http://proxy.example.com:3128"}.Through(
			func(context.Context, string, string) (net.Conn, error) { return client, nil })
		if err != nil {
			t.Fatal(err)
		}
		conn, err := dial(t.Context(), "tcp", "mail.example.com:443")
		if err == nil {
			_ = conn.Close()
		}
		if err == nil && !strings.HasPrefix(answer, "HTTP/") {
			t.Errorf("a tunnel came of %q", answer)
		}
	})
}
