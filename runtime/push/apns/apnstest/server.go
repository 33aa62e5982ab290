// Package apnstest is a fake of Apple's push service that speaks its real protocol: HTTP/2 over TLS, token
// authentication or client certificates, and the limits that make Apple's server awkward to talk to.
//
// It grants one stream on a connection until the first valid push, falls back to one after a refusal, counts the
// changes of a team's provider token, and refuses with Apple's statuses and reasons whatever Apple refuses. Within what
// Apple may do it behaves differently from connection to connection, as drawn from a seed: the number of streams, the
// order of SETTINGS and answer, a GOAWAY after some pushes. Options.Calm turns that off.
package apnstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
	"github.com/ens-operator/ens-operator/runtime/push/internal/inbox"
	"github.com/ens-operator/ens-operator/runtime/push/internal/localcert"
)

// Options change how the fake behaves. The zero value is a good one.
type Options struct {
	// Seed replays an earlier run; 0 draws one, which is reported through Logf.
	Seed uint64
	// Calm turns the seeded whims off: every connection grants 100 streams and lives for ever.
	Calm bool
	// MaxDelay lets each answer take up to this time, drawn from the seed.
	MaxDelay time.Duration
	// SettingsDelay lets a changed number of streams be told so much later than the answer that changed it.
	SettingsDelay time.Duration
	// Address is where to listen, 127.0.0.1 on a free port if empty.
	Address string
	// Sandbox makes it Apple's sandbox, which takes certificates for it alone.
	Sandbox bool
	// RefuseInHandshake ends the TLS connections of certificates that are not trusted, instead of answering 403.
	RefuseInHandshake bool
	// Clock judges the age of provider tokens and certificates; nil is the real one.
	Clock clock.PassiveClock
	// Observe gets what a phone is sent, by its token, in place of its being kept: for load, where there are too many. It is
	// called before the push is answered, by several goroutines at once.
	Observe func(token string, n Notification)
	// Logf gets the seed and every refusal with its reason in words; nil is log.Printf. It never gets a device token,
	// a provider token or a text.
	Logf func(format string, args ...any)
}

// Server is a running fake. Close it after use.
type Server struct {
	fake.Faults[Request, Fault]

	options     Options
	authority   *fake.Authority
	certificate localcert.Certificate
	tls         *tls.Config
	listener    net.Listener
	lifetime    context.Context
	end         context.CancelFunc
	workers     sync.WaitGroup
	received    inbox.Inbox[Notification]

	mu      sync.Mutex
	keys    map[string]trusted
	teams   map[string]*team
	devices map[string]*device
	// issued holds what the certificates are for by their serial numbers.
	issued map[string]Certificate
	topics map[string]bool
	// judged are the provider tokens that were read, by their text: every push of a connection has the same.
	judged map[string]providerToken
	stats  Stats
	conns  map[*conn]bool
}

// Stats counts what happened since the start.
type Stats struct {
	// Connections is how many were made.
	Connections int
	// Requests is how many were answered or deliberately left unanswered.
	Requests int
	// Accepted is how many pushes were answered 200.
	Accepted int
	// RefusedStreams is how many requests came beyond the limit in force; a good client causes none.
	RefusedStreams int
	// MostStreams is the largest number of requests at once on one connection.
	MostStreams int
	// ProviderTokens is how many different valid provider tokens were seen.
	ProviderTokens int
}

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
	certificate, err := localcert.New("fake APNs", o.Address)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		panic("apnstest: " + err.Error())
	}
	lifetime, end := context.WithCancel(context.Background())
	s := &Server{
		options: o, authority: fake.NewAuthority("Apple Worldwide Developer Relations"), certificate: certificate, listener: listener, lifetime: lifetime, end: end,
		tls: &tls.Config{
			Certificates: []tls.Certificate{certificate.TLS}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequestClientCert,
		},
		keys: make(map[string]trusted), teams: make(map[string]*team), devices: make(map[string]*device),
		topics: make(map[string]bool), issued: make(map[string]Certificate), judged: make(map[string]providerToken),
		conns: make(map[*conn]bool),
	}
	if o.RefuseInHandshake {
		s.tls.VerifyConnection = s.refuseInHandshake
	}
	o.Logf("fake APNs at %s, seed %d", s.URL(), o.Seed)
	s.workers.Go(s.accept)
	return s
}

// URL is the server's address, for config.APNs.
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

// Close ends all connections and waits until nothing runs any more.
func (s *Server) Close() {
	s.end()
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	s.workers.Wait()
}

func (s *Server) accept() {
	for {
		raw, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.stats.Connections++
		c := newConn(s, tls.Server(raw, s.tls), s.stats.Connections)
		s.conns[c] = true
		s.mu.Unlock()
		// Close may have passed by between Accept and here.
		if s.lifetime.Err() != nil {
			_ = raw.Close()
		}
		s.workers.Go(func() {
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
