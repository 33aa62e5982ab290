// Package cnstest is a fake of VMware's Cloud Notification Service, as far as the service is known (C-01 to C-10): HTTPS
// with a detached CMS signature over the URL's path, mutual TLS if asked for, and the answers of the original's logs.
// The body of a request is our own form, which the fake reads strictly and judges as Apple or Google would.
//
// Within what a server may do it varies, as drawn from a seed: fields in answers that a client must ignore, and
// connections that end after an answer. Options.Calm turns that off.
package cnstest

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push/internal/inbox"
	"github.com/ens-operator/ens-operator/runtime/push/internal/localcert"
)

// Path is what the service is reached under, and what is signed (C-01).
const Path = "/nws/notify/apns"

// Options change how the fake behaves. The zero value is a good one.
type Options struct {
	// Seed replays an earlier run; 0 draws one, which is reported through Logf.
	Seed uint64
	// Calm turns the seeded whims off.
	Calm bool
	// MutualTLS wants a client certificate of the server's authority (C-06).
	MutualTLS bool
	// Address is where to listen, 127.0.0.1 on a free port if empty.
	Address string
	// Clock judges the age of signatures and certificates; nil is the real one.
	Clock clock.PassiveClock
	// Logf gets the seed and every refusal with its reason in words; nil is log.Printf. It never gets a device token or
	// a text.
	Logf func(format string, args ...any)
}

// Server is a running fake. Close it after use.
type Server struct {
	options     Options
	authority   *Authority
	certificate localcert.Certificate
	listener    net.Listener
	http        *http.Server
	done        chan struct{}
	received    inbox.Inbox[Notification]

	mu      sync.Mutex
	whims   *rand.Rand
	devices map[string]bool
	faults  faults
	stats   Stats
}

// Stats counts what happened since the start.
type Stats struct {
	// Requests is how many came in, Accepted how many were answered with success.
	Requests, Accepted int
	// UnderWay is how many are being worked on, MostUnderWay the most at once.
	UnderWay, MostUnderWay int
	// Signatures is how many different ones were accepted.
	Signatures int
}

const headerTimeout = 10 * time.Second

// Start starts a fake with an authority of its own. Like net/http/httptest it panics if it cannot listen.
func Start(o Options) *Server {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logf == nil {
		o.Logf = log.Printf
	}
	certificate, err := localcert.New("fake CNS")
	if err != nil {
		panic("cnstest: " + err.Error())
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		panic("cnstest: " + err.Error())
	}
	s := &Server{
		options: o, authority: NewAuthority(), certificate: certificate, listener: listener, done: make(chan struct{}),
		whims: rand.New(rand.NewPCG(o.Seed, o.Seed)), devices: make(map[string]bool),
	}
	settings := &tls.Config{Certificates: []tls.Certificate{certificate.TLS}, MinVersion: tls.VersionTLS12}
	if o.MutualTLS {
		settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, s.authority.pool
	}
	seen := make(map[string]bool)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, seen) }),
		TLSConfig:         settings,
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          log.New(discard{}, "", 0),
	}
	o.Logf("fake CNS at %s, seed %d", s.URL(), o.Seed)
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(listener, "", "")
	}()
	return s
}

// discard swallows net/http's complaints about clients that hang up.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Authority is who issues the certificates that the server trusts.
func (s *Server) Authority() *Authority { return s.authority }

// URL is the service's full address, for config.CNS.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() + Path }

// PublicKeySHA256 is the fingerprint of the server's public key, for config.CNS.
func (s *Server) PublicKeySHA256() string {
	sum := sha256.Sum256(s.certificate.TLS.Leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// RootCAs trusts the server's certificate.
func (s *Server) RootCAs() *x509.CertPool { return s.certificate.Pool }

// CertificatePEM is the server's certificate as a CA bundle.
func (s *Server) CertificatePEM() []byte { return s.certificate.PEM }

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close ends all connections and waits until the server has stopped.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}

// AddDevice registers a phone with the app. Adding it again installs the app again.
func (s *Server) AddDevice(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[token] = true
}

// Unregister removes the app from a phone.
func (s *Server) Unregister(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[token] = false
}
