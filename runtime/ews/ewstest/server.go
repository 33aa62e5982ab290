package ewstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/journal"
	"github.com/ens-operator/ens-operator/runtime/ews/internal/localcert"
)

// Path is where the fake serves EWS, as every Exchange server does.
const Path = "/EWS/Exchange.asmx"

// Options set the scene. The zero value is a usable server on a free loopback port.
type Options struct {
	// Seed makes the fake's choices repeatable; 0 draws one.
	Seed uint64
	// Calm turns the awkward choices off: one dialect, one post per change, unread counts always, the first post after
	// the answer to Subscribe.
	Calm bool
	// FirstPost says when the first StatusEvent of a subscription is sent; zero draws it.
	FirstPost FirstPost
	// Clock measures heartbeats and retries. Nil is the real one.
	Clock clock.Clock
	// Compression divides every wait, e.g. 900 makes 15 minutes one second. Zero is 1.
	Compression float64
	// Version is the newest RequestServerVersion that the server knows, e.g. Exchange2010_SP2. Empty is Exchange2016.
	Version string
	// Authentication are the schemes that are offered and taken, in the order of the challenges. Nil is Negotiate, NTLM
	// and Basic; OAuth has to be named.
	Authentication []Scheme
	// ClientCertificates says whether the server asks for a client certificate.
	ClientCertificates ClientCertificates
	// TrustedProxy is a secret with which a gateway in front names the user that it has authenticated, see
	// TrustedLoginHeader. Empty trusts nobody.
	TrustedProxy string
	// MaxSubscriptions of one user; 0 is 20, as in Exchange Online.
	MaxSubscriptions int
	// CallbackRoots are the authorities that Exchange trusts when it posts to an https webhook; nil is the system's.
	// See TrustCallbacks.
	CallbackRoots *x509.CertPool
	// DialCallback replaces how webhooks are dialled, e.g. to reach one replica or another. Nil dials the address.
	DialCallback func(ctx context.Context, network, address string) (net.Conn, error)
	// Listen is the address to serve on; empty is a free port of 127.0.0.1.
	Listen string
	// Certificate replaces the server's own self-signed one.
	Certificate *tls.Certificate
	// Logf gets the seed and one line a request and post. Nil is silent.
	Logf func(format string, args ...any)
}

// FirstPost is when a subscription's first StatusEvent is sent.
type FirstPost int

// The times. Both happen with a real Exchange (ews.md, section 1).
const (
	FirstPostDrawn FirstPost = iota
	FirstPostBeforeAnswer
	FirstPostAfterAnswer
)

// defaultMaxSubscriptions is EwsMaxSubscriptions of Exchange Online (ews.md, section 1).
const defaultMaxSubscriptions = 20

// Server is a running fake. All methods are safe for concurrent use.
type Server struct {
	// Seed is what the choices are drawn from.
	Seed uint64

	options Options
	version int
	// certificate is shown, next is not yet.
	certificate atomic.Pointer[tls.Certificate]
	next        atomic.Pointer[tls.Certificate]
	listener    net.Listener
	http        *http.Server
	callbacks   atomic.Pointer[http.Client]

	ctx    context.Context // ends with the server
	cancel context.CancelFunc
	posts  sync.WaitGroup // goroutines that post

	authority *authority // of the client certificates
	tokenKey  []byte
	outage    atomic.Bool

	hook        atomic.Pointer[func(operation, user string) Fault]
	loseReplies atomic.Int64

	requestLog      journal.Journal[Request]
	callbackLog     journal.Journal[Callback]
	subscriptionLog journal.Journal[Subscription]

	logging sync.Mutex // guards silent
	silent  bool

	mu            sync.Mutex // guards what follows
	random        *rand.Rand
	mailboxes     []*mailbox
	subscriptions []*subscription
}

// Start starts a server. Close it.
func Start(options Options) (*Server, error) {
	if options.Seed == 0 {
		options.Seed = rand.Uint64()
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Compression == 0 {
		options.Compression = 1
	}
	if options.MaxSubscriptions == 0 {
		options.MaxSubscriptions = defaultMaxSubscriptions
	}
	if options.Version == "" {
		options.Version = "Exchange2016"
	}
	if options.Authentication == nil {
		options.Authentication = defaultSchemes
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	s := &Server{Seed: options.Seed, options: options, version: versionNumber(options.Version)}
	if s.version < 0 {
		return nil, fmt.Errorf("starting the fake Exchange: unknown version %q", options.Version)
	}
	s.random = s.randomFor(0)
	s.tokenKey = newTokenKey()
	var err error
	if s.authority, err = newAuthority(); err != nil {
		return nil, fmt.Errorf("starting the fake Exchange: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("starting the fake Exchange: %w", err)
	}
	s.TrustCallbacks(options.CallbackRoots)
	options.Logf("ewstest: fake %s at %s, seed %d", options.Version, s.URL(), s.Seed)
	return s, nil
}

// StartT starts a server that ends with the test and logs to it.
func StartT(t testing.TB, options Options) *Server {
	t.Helper()
	if options.Logf == nil {
		options.Logf = t.Logf
	}
	s, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *Server) listen() (err error) {
	certificate := s.options.Certificate
	if certificate == nil {
		made, err := localcert.New("fake Exchange", s.options.Listen)
		if err != nil {
			return err
		}
		certificate = &made
	}
	s.certificate.Store(certificate)
	s.listener, err = net.Listen("tcp", s.options.Listen)
	if err != nil {
		return err
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve),
		TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
			MinVersion:     tls.VersionTLS12,
			ClientAuth:     s.options.ClientCertificates.clientAuth(),
		},
		ConnContext:       withConnection,
		ReadHeaderTimeout: readHeaderTimeout,
		// Handshakes that a client refuses are what tests provoke.
		ErrorLog: log.New(discard{}, "", 0),
		// EWS is HTTP/1.1 in practice.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() {
		if err := s.http.ServeTLS(s.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.logf("ewstest: serving ended: %v", err)
		}
	}()
	return nil
}

const readHeaderTimeout = 10 * time.Second

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Close cuts all connections and waits until no post is under way.
func (s *Server) Close() {
	s.mu.Lock()
	s.cancel() // no post is started after this, see subscription.run
	s.mu.Unlock()
	_ = s.http.Close()
	s.posts.Wait()
	s.callbacks.Load().CloseIdleConnections()
	s.logging.Lock()
	defer s.logging.Unlock()
	s.silent = true
}

// logf is Options.Logf until the server is closed: a test's log must not be written to after its end.
func (s *Server) logf(format string, args ...any) {
	s.logging.Lock()
	defer s.logging.Unlock()
	if !s.silent {
		s.options.Logf(format, args...)
	}
}

// URL is the full EWS address.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() + Path }

// TrustCallbacks replaces the authorities that the server trusts when it posts to https webhooks; nil is the system's.
func (s *Server) TrustCallbacks(roots *x509.CertPool) {
	previous := s.callbacks.Swap(newCallbackClient(roots, s.options.DialCallback))
	if previous != nil {
		previous.CloseIdleConnections()
	}
}

// randomFor returns the choices of one subscription or, with 0, of the server.
func (s *Server) randomFor(number uint64) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, number)) }

// scaled is how long a wait of d takes on the clock.
func (s *Server) scaled(d time.Duration) time.Duration {
	return max(time.Duration(float64(d)/s.options.Compression), 1)
}
