// Package snstest is a fake of Amazon's Simple Notification Service that speaks its real protocol: the query API over
// TLS, with requests signed by Signature Version 4, and AssumeRoleWithWebIdentity of the Security Token Service.
//
// It checks each signature by its own computation over the request as it came in, knows platform applications and their
// endpoints, and refuses with Amazon's statuses and codes whatever Amazon refuses. A notification is judged as Apple or
// Google would; the real one accepts what they refuse and tells it only in its delivery logs. Like the real one it
// learns that a token is dead only from a notification, which it accepted, and disables the endpoint then.
//
// Within what Amazon may do it varies, as drawn from a seed: how it says that an endpoint is gone, and whether it gives
// the ARN of a disabled endpoint or an error that names it. Options.Calm turns that off.
package snstest

import (
	"crypto/tls"
	"crypto/x509"
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

// Where the fake's applications are, and whose.
const (
	Region  = "eu-central-1"
	Account = "123456789012"
)

// Options change how the fake behaves. The zero value is a good one.
type Options struct {
	// Seed replays an earlier run; 0 draws one, which is reported through Logf.
	Seed uint64
	// Calm turns the seeded whims off.
	Calm bool
	// Address is where to listen, 127.0.0.1 on a free port if empty.
	Address string
	// Clock judges the age of requests and of a role's credentials; nil is the real one.
	Clock clock.PassiveClock
	// Logf gets the seed and every refusal with its reason in words; nil is log.Printf. It never gets a device token, a
	// key or a text.
	Logf func(format string, args ...any)
}

// Server is a running fake. Close it after use.
type Server struct {
	options     Options
	certificate localcert.Certificate
	listener    net.Listener
	http        *http.Server
	done        chan struct{}
	received    inbox.Inbox[Notification]

	mu           sync.Mutex
	whims        *rand.Rand
	keys         map[string]signingKey
	roles        map[string]string
	applications map[string]*application
	endpoints    map[string]*endpoint
	gone         map[string]bool
	faults       faults
	stats        Stats
}

// application is a platform application.
type application struct {
	arn, platform string
	disabled      bool
}

// endpoint is a platform endpoint.
type endpoint struct {
	arn, token string
	app        *application
	enabled    bool
	userData   string
}

// Stats counts what happened since the start.
type Stats struct {
	// Requests is how many came in, UnderWay how many are being worked on, MostUnderWay the most at once.
	Requests, UnderWay, MostUnderWay int
	// Created is how many endpoints were made, Enabled how often attributes were set, Accepted how many notifications
	// were accepted, SignIns how often a role was taken.
	Created, Enabled, Accepted, SignIns int
}

const headerTimeout = 10 * time.Second

// Start starts a fake. Like net/http/httptest it panics if it cannot listen.
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
	certificate, err := localcert.New("fake SNS")
	if err != nil {
		panic("snstest: " + err.Error())
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		panic("snstest: " + err.Error())
	}
	s := &Server{
		options: o, certificate: certificate, listener: listener, done: make(chan struct{}),
		whims: rand.New(rand.NewPCG(o.Seed, o.Seed)),
		keys:  make(map[string]signingKey), roles: make(map[string]string),
		applications: make(map[string]*application), endpoints: make(map[string]*endpoint), gone: make(map[string]bool),
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate.TLS}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          log.New(discard{}, "", 0),
	}
	o.Logf("fake SNS at %s, seed %d", s.URL(), o.Seed)
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(listener, "", "")
	}()
	return s
}

// discard swallows net/http's complaints about clients that hang up.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// URL is the server's address, for config.SNS, both of SNS and of STS.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() }

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

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Close ends all connections and waits until the server has stopped.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}
