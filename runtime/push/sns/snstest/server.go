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
	"log"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
	"github.com/ens-operator/ens-operator/runtime/push/internal/inbox"
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
	// MaxDelay lets each answer to a publication take up to this time.
	MaxDelay time.Duration
	// Observe gets what a phone is sent, by its token, in place of its being kept: for load, where there are too many. It is
	// called before the publication is answered, by several goroutines at once.
	Observe func(token string, n Notification)
	// Logf gets the seed and every refusal with its reason in words; nil is log.Printf. It never gets a device token, a
	// key or a text.
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

	options  Options
	received inbox.Inbox[Notification]

	mu           sync.Mutex
	whims        *rand.Rand
	keys         map[string]signingKey
	roles        map[string]string
	applications map[string]*application
	endpoints    map[string]*endpoint
	// byToken are the endpoints by application and token.
	byToken map[owner]*endpoint
	gone    map[string]bool
	stats   Stats
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

// owner is whose an endpoint is.
type owner struct {
	app   *application
	token string
}

func (e *endpoint) owner() owner { return owner{e.app, e.token} }

// Stats counts what happened since the start.
type Stats struct {
	fake.Load

	// Created is how many endpoints were made, Enabled how often attributes were set, Accepted how many notifications
	// were accepted, SignIns how often a role was taken.
	Created, Enabled, Accepted, SignIns int
}

// Start starts a fake. Like net/http/httptest it panics if it cannot listen.
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
		options: o,
		whims:   rand.New(rand.NewPCG(o.Seed, o.Seed)),
		keys:    make(map[string]signingKey), roles: make(map[string]string),
		applications: make(map[string]*application), endpoints: make(map[string]*endpoint),
		byToken: make(map[owner]*endpoint), gone: make(map[string]bool),
	}
	s.Server = fake.Start("SNS", o.Address, withoutHTTP2, s.serve)
	o.Logf("fake SNS at %s, seed %d", s.URL(), o.Seed)
	return s
}

// withoutHTTP2 has the server speak HTTP/1.1 alone, which takes the client a connection for each request at once.
func withoutHTTP2(c *tls.Config) {
	old := c.Clone()
	old.NextProtos = []string{"http/1.1"}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return old, nil }
}

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
