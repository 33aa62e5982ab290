package egress_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

// document is what administrators read about TLS.
func document(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "tls.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// recommended is the list of the original's guide (T-02).
var recommended = []string{
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
	"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
}

// documentedSuite is a row of the document's tables of cipher suites.
var documentedSuite = regexp.MustCompile("(?m)^\\| `(TLS_[A-Z0-9_]+)` \\| (.+) \\|$")

// The settings of GODEBUG that the document tells of.
var settings = []string{"tlsrsakex=1", "tls3des=1", "tlsrsakex=1,tls3des=1"}

// It sets GODEBUG, and so runs while no other test does.
func TestTheDocumentedCipherSuitesAreThoseThatAreOffered(t *testing.T) {
	documented := map[string]string{}
	for _, row := range documentedSuite.FindAllStringSubmatch(document(t), -1) {
		documented[row[1]] = row[2]
	}
	offered := map[string]string{}
	for _, suite := range offer(t) {
		offered[tls.CipherSuiteName(suite)] = "offered"
	}
	for _, suite := range tls.CipherSuites() {
		if slices.Equal(suite.SupportedVersions, []uint16{tls.VersionTLS13}) && offered[suite.Name] != "" {
			offered[suite.Name] += ", TLS 1.3"
		}
	}
	for _, setting := range settings {
		t.Setenv("GODEBUG", setting)
		for _, suite := range offer(t) {
			if name := tls.CipherSuiteName(suite); offered[name] == "" {
				offered[name] = "only with `GODEBUG=" + setting + "`"
			}
		}
	}
	implemented := slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites())
	for _, name := range recommended {
		known := slices.ContainsFunc(implemented, func(s *tls.CipherSuite) bool { return s.Name == name })
		switch {
		case offered[name] != "":
		case known:
			offered[name] = "never offered"
		default:
			offered[name] = "not implemented"
		}
	}
	for name, how := range offered {
		if documented[name] != how {
			t.Errorf("%s is %q, docs/tls.md says %q", name, how, documented[name])
		}
	}
	for name, how := range documented {
		if offered[name] == "" {
			t.Errorf("docs/tls.md says that %s is %q, but no connection offers it", name, how)
		}
	}
}

// offer returns the cipher suites that a connection to an Exchange server offers, in the ClientHello itself.
func offer(t *testing.T) []uint16 {
	t.Helper()
	var suites []uint16
	serve, dial := ends(t)
	serve.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		suites = hello.CipherSuites
		return nil, nil
	}
	if server, client := shakeHands(t, answering(serve), dial); server != nil || client != nil {
		t.Fatalf("the handshake failed: %v, %v", server, client)
	}
	return suites
}

// ends are a server's settings that are as the runtime's own, and a client's settings to connect to it.
func ends(t *testing.T) (serve, dial *tls.Config) {
	t.Helper()
	server := newServer(t, nil) // for its certificate
	serve = &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}
	return serve, egress.TLSConfig(egress.Verification{SHA256: []string{egress.Fingerprint(server.Certificate())}})
}

func answering(config *tls.Config) func(net.Conn) error {
	return func(conn net.Conn) error { return tls.Server(conn, config).Handshake() }
}

// shakeHands has a client connect to a server, and returns what either of them says.
func shakeHands(t *testing.T, serve func(net.Conn) error, dial *tls.Config) (server, client error) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = serve(conn)
			_ = conn.Close()
		}
		served <- err
	}()
	conn, client := (&tls.Dialer{Config: dial}).DialContext(t.Context(), "tcp", listener.Addr().String())
	server = <-served
	if client == nil {
		_ = conn.Close()
	}
	return server, client
}

// choosingTLS11 answers as a server does that knows nothing of TLS 1.3's list of versions, nor of 1.2: with the newest
// version that is its own.
func choosingTLS11(conn net.Conn) error {
	var hello [1 << 14]byte
	if _, err := conn.Read(hello[:]); err != nil {
		return err
	}
	const version = "\x03\x02"
	random, session, suite, compression := strings.Repeat("r", 32), "\x00", "\xc0\x13", "\x00"
	message := "\x02\x00\x00\x26" + version + random + session + suite + compression
	if _, err := io.WriteString(conn, "\x16"+version+"\x00\x2a"+message); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn) // its alert
	return err
}

func TestTheDocumentedErrorsAreThoseThatComeUp(t *testing.T) {
	t.Parallel()
	oldest := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }
	only := func(suite uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
	}
	for name, c := range map[string]struct {
		// server or client is the other side; if it is a server, the runtime dials it.
		server, client func(*tls.Config)
		says           string
	}{
		"a server without a suite in common": {server: only(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256), says: "remote error: tls: handshake failure"},
		"a server of TLS 1.1 that says so":   {server: oldest, says: "remote error: tls: protocol version not supported"},
		"a caller without a suite in common": {client: only(tls.TLS_RSA_WITH_AES_128_CBC_SHA), says: "tls: no cipher suite supported by both client and server"},
		"a caller of TLS 1.1":                {client: oldest, says: "tls: client offered only unsupported versions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve, dial := ends(t)
			if c.server != nil {
				c.server(serve)
				_, got := shakeHands(t, answering(serve), dial)
				wantDocumented(t, got, c.says)
				return
			}
			c.client(dial)
			got, _ := shakeHands(t, answering(serve), dial)
			wantDocumented(t, got, c.says)
		})
	}
	t.Run("a server that chooses TLS 1.1", func(t *testing.T) {
		t.Parallel()
		_, dial := ends(t)
		_, got := shakeHands(t, choosingTLS11, dial)
		wantDocumented(t, got, "tls: server selected unsupported protocol version 302")
	})
}

func wantDocumented(t *testing.T, got error, says string) {
	t.Helper()
	if got == nil || !strings.Contains(got.Error(), says) {
		t.Errorf("the error is %v, want %q", got, says)
	}
	if !strings.Contains(document(t), "| `"+says+"` |") {
		t.Errorf("docs/tls.md does not tell of %q", says)
	}
}
