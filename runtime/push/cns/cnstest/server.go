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
	"encoding/hex"
	"log"
	"math/rand/v2"
	"net/http"
	"sync"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
	"github.com/ens-operator/ens-operator/runtime/push/internal/inbox"
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

// Request is what a fault hook sees of a request.
type Request = fake.Request

// Fault is what tests have the server do wrong.
type Fault = fake.Fault

// Authority issues certificates.
type Authority = fake.Authority

// NewAuthority makes an authority. No server trusts it but the one it was made by.
func NewAuthority() *Authority { return fake.NewAuthority("AW Cloud Notification Authority") }

// Server is a running fake. Close it after use.
type Server struct {
	*fake.Server
	fake.Faults[Request, Fault]

	options   Options
	authority *Authority
	received  inbox.Inbox[Notification]

	mu      sync.Mutex
	whims   *rand.Rand
	devices map[string]bool
	stats   Stats
}

// Stats counts what happened since the start.
type Stats struct {
	fake.Load

	// Accepted is how many requests were answered with success.
	Accepted int
	// Signatures is how many different ones were accepted.
	Signatures int
}

// Start starts a fake with an authority of its own. Like net/http/httptest it panics if it cannot listen.
func Start(o Options) *Server {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logf == nil {
		o.Logf = log.Printf
	}
	s := &Server{
		options: o, authority: NewAuthority(),
		whims: rand.New(rand.NewPCG(o.Seed, o.Seed)), devices: make(map[string]bool),
	}
	seen := make(map[string]bool)
	s.Server = fake.Start("CNS", o.Address, func(settings *tls.Config) {
		if o.MutualTLS {
			settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, s.authority.Pool
		}
	}, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, seen) })
	o.Logf("fake CNS at %s, seed %d", s.URL(), o.Seed)
	return s
}

// Authority is who issues the certificates that the server trusts.
func (s *Server) Authority() *Authority { return s.authority }

// URL is the service's full address, for config.CNS.
func (s *Server) URL() string { return s.Server.URL() + Path }

// PublicKeySHA256 is the fingerprint of the server's public key, for config.CNS.
func (s *Server) PublicKeySHA256() string {
	sum := sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
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

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
