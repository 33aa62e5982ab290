// Package fake is what the fakes of push services that speak HTTPS have in common: a server with a certificate of its
// own, and what tests have it do wrong.
package fake

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push/internal/localcert"
)

const headerTimeout = 10 * time.Second

// Server is a running HTTPS server. Close it after use.
type Server struct {
	certificate localcert.Certificate
	listener    net.Listener
	http        *http.Server
	done        chan struct{}
}

// Start starts a server. Name is whose fake it is, address where to listen, 127.0.0.1 on a free port if empty. Change
// may change the TLS settings, or be nil. Like net/http/httptest it panics if it cannot listen.
func Start(name, address string, change func(*tls.Config), handler http.HandlerFunc) *Server {
	if address == "" {
		address = "127.0.0.1:0"
	}
	certificate, err := localcert.New("fake "+name, address)
	if err != nil {
		panic("fake " + name + ": " + err.Error())
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic("fake " + name + ": " + err.Error())
	}
	settings := &tls.Config{Certificates: []tls.Certificate{certificate.TLS}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(settings)
	}
	s := &Server{certificate: certificate, listener: listener, done: make(chan struct{})}
	s.http = &http.Server{
		Handler: handler, TLSConfig: settings, ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(discard{}, "", 0),
	}
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(listener, "", "")
	}()
	return s
}

// discard swallows net/http's complaints about clients that hang up.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// URL is the server's address.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() }

// Certificate is the server's.
func (s *Server) Certificate() *x509.Certificate { return s.certificate.TLS.Leaf }

// RootCAs trusts the server's certificate.
func (s *Server) RootCAs() *x509.CertPool { return s.certificate.Pool }

// CertificatePEM is the server's certificate as a CA bundle.
func (s *Server) CertificatePEM() []byte { return s.certificate.PEM }

// Close ends all connections and waits until the server has stopped.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}
