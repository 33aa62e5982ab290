package authn_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// renegotiator is `openssl s_server`, which does what IIS does for a directory with client certificates, and what no
// server in Go can: it reads the request and only then asks for the certificate, by renegotiating.
type renegotiator struct {
	address     string
	fingerprint string
	commands    io.WriteCloser
	lines       chan string
}

// startRenegotiator starts a server for one connection. It is of TLS 1.2, the last version with renegotiation.
func startRenegotiator(t *testing.T) *renegotiator {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("this test needs the openssl command (package openssl): only it can renegotiate as IIS does")
	}
	file, fingerprint := serverCertificate(t)
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, openssl, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-tls1_2",
		"-cert", file, "-key", file)
	commands, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, writer := io.Pipe()
	server.Stdout, server.Stderr = writer, writer
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // it was killed
		_ = writer.Close()
	})
	r := &renegotiator{fingerprint: fingerprint, commands: commands, lines: make(chan string, 1000)}
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			r.lines <- scanner.Text()
		}
		close(r.lines)
	}()
	r.address = strings.TrimPrefix(r.await(t, regexp.MustCompile(`^ACCEPT 127`)), "ACCEPT ")
	return r
}

// await returns the next line of the server's output that matches.
func (r *renegotiator) await(t *testing.T, pattern *regexp.Regexp) string {
	t.Helper()
	ctx := testContext(t)
	for {
		select {
		case line, more := <-r.lines:
			if !more {
				t.Fatalf("openssl has ended before it wrote %s", pattern)
			}
			t.Log("openssl: " + line)
			if pattern.MatchString(line) {
				return line
			}
		case <-ctx.Done():
			t.Fatalf("openssl did not write %s", pattern)
		}
	}
}

func (r *renegotiator) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(r.commands, text); err != nil {
		t.Fatal(err)
	}
}

// serverCertificate writes a self-signed certificate with its key.
func serverCertificate(t *testing.T) (file, fingerprint string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "server.pem")
	content := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return file, hex.EncodeToString(sum[:])
}

func TestAServerGetsTheClientCertificateByRenegotiating(t *testing.T) {
	t.Parallel()
	server := startRenegotiator(t)
	pinned := egress.TLSConfig(egress.Verification{SHA256: []string{server.fingerprint}})
	var checks atomic.Int64
	check := pinned.VerifyConnection
	pinned.VerifyConnection = func(state tls.ConnectionState) error {
		checks.Add(1)
		return check(state)
	}
	issuer := newExchange(t, ewstest.Options{})
	authenticator := newAuthenticator(t, issuer, authn.Options{TLS: pinned}, config.AuthClientCertificate)
	conn := connect(t, authenticator, cba(t, issuer, alice))

	done := make(chan answer, 1)
	go func() {
		got, err := ask(t, conn, "https://"+server.address+ewstest.Path, nil)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	server.await(t, regexp.MustCompile(`<soap:Envelope.*</soap:Envelope>`)) // the request is there, and no certificate yet
	server.write(t, "R\n")
	if seen := server.await(t, regexp.MustCompile(`depth=0`)); !strings.Contains(seen, alice) {
		t.Errorf("openssl saw the certificate %q", seen)
	}
	server.write(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfound\n")
	got := <-done
	if got.response == nil || got.response.StatusCode != http.StatusOK || got.body != "found" {
		t.Errorf("answered %+v", got)
	}
	if state := got.response.TLS; state.Version != tls.VersionTLS12 {
		t.Errorf("TLS version %x", state.Version)
	}
	if checks.Load() != 1 {
		t.Errorf("the pin was checked %d times; in a renegotiation crypto/tls itself insists on the certificate of the first handshake", checks.Load())
	}
}

func TestTheClientCertificateIsNotShownToAServerThatIsNotPinned(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesRequire})
	other := newExchange(t, ewstest.Options{})
	pinned := egress.TLSConfig(egress.Verification{SHA256: []string{other.Fingerprint()}})
	authenticator := newAuthenticator(t, exchange, authn.Options{
		TLS: pinned, DialContext: new(net.Dialer).DialContext,
	}, config.AuthClientCertificate)
	conn := connect(t, authenticator, cba(t, exchange, alice))
	if got, err := ask(t, conn, exchange.URL(), nil); err == nil {
		t.Errorf("answered %v", got.response)
	}
	if hint := conn.Hint(&http.Response{StatusCode: http.StatusUnauthorized}); !strings.Contains(hint, "never asked for the client certificate") {
		t.Errorf("the certificate was shown before the server was verified; hint %q", hint)
	}
}
