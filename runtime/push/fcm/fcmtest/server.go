// Package fcmtest is a fake of Firebase Cloud Messaging that speaks its real protocol: HTTP v1 over TLS, with the OAuth
// token endpoint that a service account signs in at.
//
// It checks the signed assertion, the access token, and each message as strictly as Google does or more so, and answers
// with Google's statuses and error documents. Within what Google may do it varies, as drawn from a seed: how long
// access tokens live, and fields that a client must ignore. Options.Calm turns that off; Options.Flaky adds a 503 now
// and then.
package fcmtest

import (
	"crypto/rsa"
	"log"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
	"github.com/ens-operator/ens-operator/runtime/push/internal/inbox"
)

// DefaultProject is the project of a server whose options name none.
const DefaultProject = "ens-demo-project"

// Options change how the fake behaves. The zero value is a good one.
type Options struct {
	// Seed replays an earlier run; 0 draws one, which is reported through Logf.
	Seed uint64
	// Calm turns the seeded whims off.
	Calm bool
	// Flaky answers one message in twenty with 503 and a Retry-After of a second.
	Flaky bool
	// Project is the Firebase project that is served; DefaultProject if empty.
	Project string
	// Address is where to listen, 127.0.0.1 on a free port if empty.
	Address string
	// Clock judges assertions and access tokens; nil is the real one.
	Clock clock.PassiveClock
	// MaxDelay lets each answer to a message take up to this time.
	MaxDelay time.Duration
	// Observe gets what a phone is sent, by its token, in place of its being kept: for load, where there are too many. It is
	// called before the message is answered, by several goroutines at once.
	Observe func(token string, m Message)
	// Logf gets the seed and every refusal with its reason in words; nil is log.Printf. It never gets a registration
	// token, an access token or a text.
	Logf func(format string, args ...any)
}

// Request is what a fault hook sees of a request.
type Request = fake.Request

// Fault is what tests have the server do wrong.
type Fault = fake.Fault

// Server is a running fake. Close it after use.
type Server struct {
	*fake.Server
	fake.Faults[Request, Fault]

	// logins are the faults of the token endpoint.
	logins fake.Faults[Request, Fault]

	options  Options
	received inbox.Inbox[Message]

	mu       sync.Mutex
	whims    *rand.Rand
	accounts map[string]trusted
	access   map[string]time.Time
	devices  map[string]bool
	stats    Stats
}

// trusted is a service account that may sign in.
type trusted struct {
	email  string
	public *rsa.PublicKey
}

// Stats counts what happened since the start.
type Stats struct {
	// Logins is how many access tokens were given out, LoginRequests how many were asked for.
	Logins, LoginRequests int
	// Load counts the messages.
	fake.Load

	// Accepted is how many messages were answered 200.
	Accepted int
}

// Start starts a fake. Like net/http/httptest it panics if it cannot listen.
func Start(o Options) *Server {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Project == "" {
		o.Project = DefaultProject
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logf == nil {
		o.Logf = log.Printf
	}
	s := &Server{
		options:  o,
		whims:    rand.New(rand.NewPCG(o.Seed, o.Seed)),
		accounts: make(map[string]trusted), access: make(map[string]time.Time), devices: make(map[string]bool),
	}
	s.Server = fake.Start("FCM", o.Address, nil, s.routes().ServeHTTP)
	o.Logf("fake FCM at %s, seed %d", s.URL(), o.Seed)
	return s
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	// The method follows a colon in the last part of the path, so it is taken apart by the handler.
	mux.HandleFunc("POST /v1/projects/{project}/{method}", s.send)
	return mux
}

// TokenURL is the address of the OAuth token endpoint, for config.FCM.
func (s *Server) TokenURL() string { return s.URL() + "/token" }

// Project is the project that is served.
func (s *Server) Project() string { return s.options.Project }

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// FailNextLogins lets the next n requests for an access token fail with f; it replaces what was asked for before.
func (s *Server) FailNextLogins(n int, f Fault) {
	s.logins.FailNoMore()
	s.logins.FailNext(n, f)
}

// count changes the statistics.
func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
