package autodiscovertest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Form is a form of the service.
type Form string

// The forms.
const (
	JSON Form = "json"
	SOAP Form = "soap"
	POX  Form = "pox"
)

// AllForms are the forms of an Exchange 2016 or later.
var AllForms = []Form{JSON, SOAP, POX}

// Options set the scene. The zero value is a good one.
type Options struct {
	// Seed makes the fake's choices repeatable; 0 draws one.
	Seed uint64
	// Calm turns the awkward choices off.
	Calm bool
	// Bearer returns the address of the user whose access token it is, "" if it is nobody's. Nil: no token is taken.
	Bearer func(token string) string
	// Logf gets the seed and one line a request. Nil is silent.
	Logf func(format string, args ...any)
}

// Host is one host of the service.
type Host struct {
	// Forms are those that are there; the others are answered 404.
	Forms []Form
	// Redirect is the Location that plain HTTP answers with; empty: connections to port 80 are refused.
	Redirect string
	// RedirectStatus replaces the status 302 of that.
	RedirectStatus int
	// Certificate is what the host presents, ClientCertificate how it wants to see one of the user.
	Certificate       Certificate
	ClientCertificate ClientCertificate
	// Faults make forms misbehave.
	Faults map[Form]Fault
}

// Fault is how a host misbehaves. What is set first in this order happens.
type Fault struct {
	// Tarpit answers a byte at a time, for ever.
	Tarpit bool
	// RefuseCredentials answers 401 whatever is presented.
	RefuseCredentials bool
	// Status is answered at once, with Location if there is one.
	Status   int
	Location string
	// Content is answered with 200 at once, whatever was asked.
	Content []byte
	// RedirectURL and RedirectAddress are told in the form's own words to those who authenticated.
	RedirectURL     string
	RedirectAddress string
}

// User is a mailbox that the service knows.
type User struct {
	Address string
	// Login is the user name for Basic; empty is the address.
	Login    string
	Password string
	// Certificate is the user's client certificate (DER), which is as good as the password.
	Certificate []byte
	// EWSURL is the address from outside, InternalEWSURL the one from inside. JSON and SOAP tell what is there.
	EWSURL         string
	InternalEWSURL string
	// Protocols replaces the EWS addresses in POX: elements named Protocol, as they stand.
	Protocols string
}

// Server is a running fake. All methods are safe for concurrent use.
type Server struct {
	// Seed is what the choices are drawn from.
	Seed uint64

	options             Options
	authority, stranger *authority
	secure, plain       net.Listener
	servers             []*http.Server
	serving             sync.WaitGroup
	ctx                 context.Context // ends with the server
	cancel              context.CancelFunc
	records             records

	mu           sync.Mutex // guards what follows
	random       *rand.Rand
	hosts        map[string]Host
	certificates map[string]*tls.Certificate
	users        map[string]User
	srv          map[string][]*net.SRV
	closed       bool
}

const readHeaderTimeout = 10 * time.Second

// Start starts a service without hosts and users. Close it.
func Start(options Options) (*Server, error) {
	if options.Seed == 0 {
		options.Seed = rand.Uint64()
	}
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	s := &Server{
		Seed: options.Seed, options: options, random: rand.New(rand.NewPCG(options.Seed, 0)),
		hosts: make(map[string]Host), certificates: make(map[string]*tls.Certificate),
		users: make(map[string]User), srv: make(map[string][]*net.SRV),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("starting the fake Autodiscover service: %w", err)
	}
	options.Logf("autodiscovertest: seed %d", s.Seed)
	return s, nil
}

// StartT starts a service that ends with the test and logs to it.
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
	if s.authority, err = newAuthority("fake Autodiscover authority"); err != nil {
		return err
	}
	if s.stranger, err = newAuthority("somebody else"); err != nil {
		return err
	}
	const anyPort = "127.0.0.1:0"
	if s.secure, err = net.Listen("tcp", anyPort); err != nil {
		return err
	}
	if s.plain, err = net.Listen("tcp", anyPort); err != nil {
		s.secure.Close()
		return err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if certificate, ok := s.certificates[hello.ServerName]; ok {
				return certificate, nil
			}
			return nil, errors.New("no host of that name")
		},
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		own := config.Clone()
		if s.hosts[hello.ServerName].ClientCertificate == ClientCertificateInHandshake {
			own.ClientAuth = tls.RequireAnyClientCert
		}
		return own, nil
	}
	for _, listener := range []net.Listener{tls.NewListener(s.secure, config), s.plain} {
		server := &http.Server{
			Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: readHeaderTimeout,
			// Handshakes that a client refuses are what tests provoke.
			ErrorLog: log.New(io.Discard, "", 0),
		}
		s.servers = append(s.servers, server)
		s.serving.Go(func() { _ = server.Serve(listener) })
	}
	return nil
}

// Close cuts all connections and waits until nothing is served.
func (s *Server) Close() {
	s.cancel()
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.serving.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// logf is Options.Logf until the server is closed: a test's log must not be written to after its end.
func (s *Server) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.options.Logf(format, args...)
	}
}

// AddHost adds a host or replaces it.
func (s *Server) AddHost(name string, host Host) {
	certificate, err := s.certificateOf(name, host.Certificate)
	if err != nil {
		panic("making a certificate: " + err.Error()) // only without entropy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[name], s.certificates[name] = host, certificate
}

// AddUser adds a mailbox or replaces it.
func (s *Server) AddUser(user User) {
	if user.Login == "" {
		user.Login = user.Address
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[strings.ToLower(user.Address)] = user
}

// AddSRV adds a service record to _autodiscover._tcp of a domain.
func (s *Server) AddSRV(domain, target string, port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv[domain] = append(s.srv[domain], &net.SRV{Target: target + ".", Port: port})
}

// LookupSRV is net.Resolver's, for the service records that were added.
func (s *Server) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	full := "_" + service + "._" + proto + "." + name
	if err := ctx.Err(); err != nil {
		return "", nil, &net.DNSError{Err: err.Error(), Name: full, IsTimeout: true}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records := s.srv[name]
	if service != "autodiscover" || proto != "tcp" || len(records) == 0 {
		return "", nil, &net.DNSError{Err: "no such host", Name: full, IsNotFound: true}
	}
	return full + ".", slices.Clone(records), nil
}

// DialContext connects to a host's loopback listener. Names that were not added do not resolve, addresses and other
// ports than 443 and 80 refuse.
func (s *Server) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	s.records.addDial(address)
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	host, known := s.hosts[name]
	s.mu.Unlock()
	if !known && net.ParseIP(name) == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
	}
	var dialer net.Dialer
	switch {
	case known && port == "443":
		return dialer.DialContext(ctx, network, s.secure.Addr().String())
	case known && port == "80" && host.Redirect != "":
		return dialer.DialContext(ctx, network, s.plain.Addr().String())
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
}
