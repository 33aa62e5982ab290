package segtest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/internal/journal"
	"github.com/ens-operator/ens-operator/runtime/ews/internal/localcert"
)

// The headers of the calls, and of the answers that name the devices' statuses, unless Options say otherwise.
const (
	DeviceIDHeader = "Request-DeviceId"
	DevicesHeader  = "EnsDevices"
)

// TransactionHeader is on every answer (G-06).
const TransactionHeader = "X-AW-SEG-TRANSACTION-ID"

// Exchange is what a gateway has to know of the server behind it.
type Exchange interface {
	// URL is the full EWS address.
	URL() string
	// CertificatePEM is the authority of the server's certificate.
	CertificatePEM() []byte
}

// Options set the scene.
type Options struct {
	// Exchange is what stands behind, an *ewstest.Server as a rule. It is needed.
	Exchange Exchange
	// TrustedProxy is the secret of the Exchange's own Options.TrustedProxy, by which the users of client certificates
	// are presented to it. Empty asks for no client certificates; others need an Exchange that has users with some.
	TrustedProxy string
	// NameDevices makes every answer that is passed on name the status of each device of the call.
	NameDevices bool
	// DeviceIDHeader and DevicesHeader replace the names of the headers.
	DeviceIDHeader, DevicesHeader string
	// Seed makes the fake's choices repeatable; 0 draws one. Calm turns the awkward ones off.
	Seed uint64
	Calm bool
	// Listen is the address to serve on; empty is a free port of 127.0.0.1.
	Listen string
	// Logf gets the seed and one line a call. Nil is silent.
	Logf func(format string, args ...any)
}

// Server is a running fake. All methods are safe for concurrent use.
type Server struct {
	// Seed is what the choices are drawn from.
	Seed uint64

	options     Options
	certificate tls.Certificate
	listener    net.Listener
	http        *http.Server
	upstream    *http.Transport
	calls       journal.Journal[Request]

	logging sync.Mutex // guards silent
	silent  bool

	mu       sync.Mutex // guards what follows
	random   *rand.Rand
	policies map[string]bool // by device id in lower case: compliant
	unloaded bool
	disabled bool
}

// Start starts a server. Close it before the Exchange behind it.
func Start(options Options) (*Server, error) {
	if options.Exchange == nil {
		return nil, errors.New("starting the fake SEG: there is no Exchange behind it")
	}
	if options.Seed == 0 {
		options.Seed = rand.Uint64()
	}
	if options.DeviceIDHeader == "" {
		options.DeviceIDHeader = DeviceIDHeader
	}
	if options.DevicesHeader == "" {
		options.DevicesHeader = DevicesHeader
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	s := &Server{
		Seed: options.Seed, options: options,
		random: rand.New(rand.NewPCG(options.Seed, 0)), policies: map[string]bool{},
	}
	s.upstream = &http.Transport{DialTLSContext: s.dialExchange, DisableCompression: true, MaxIdleConnsPerHost: maxIdle}
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("starting the fake SEG: %w", err)
	}
	options.Logf("segtest: fake SEG at %s, seed %d", s.URL(), s.Seed)
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

const (
	readHeaderTimeout = 10 * time.Second
	// maxIdle connections to Exchange are kept: a gateway under load that opened one for each call would be what is measured.
	maxIdle = 256
)

func (s *Server) listen() (err error) {
	if s.certificate, err = localcert.New("fake SEG", s.options.Listen); err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", s.options.Listen); err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS12}
	if s.options.TrustedProxy != "" {
		authority, ok := s.options.Exchange.(interface{ ClientAuthorityPEM() []byte })
		if !ok {
			return errors.New("the Exchange behind it issues no client certificates")
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM(authority.ClientAuthorityPEM())
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), TLSConfig: config, ReadHeaderTimeout: readHeaderTimeout,
		// Handshakes that fail are what tests provoke.
		ErrorLog:     log.New(io.Discard, "", 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() {
		if err := s.http.ServeTLS(s.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.logf("segtest: serving ended: %v", err)
		}
	}()
	return nil
}

// dialExchange trusts the certificate that Exchange has now, since it may get another one.
func (s *Server) dialExchange(ctx context.Context, network, address string) (net.Conn, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.options.Exchange.CertificatePEM())
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots}}
	return dialer.DialContext(ctx, network, address)
}

// Close cuts all connections.
func (s *Server) Close() {
	_ = s.http.Close()
	s.upstream.CloseIdleConnections()
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
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() + ewstest.Path }

// CertificatePEM is the server's certificate, usable as its own authority.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Certificate[0]})
}

// Fingerprint is the SHA-256 of the server's certificate in lower-case hex, as it is pinned.
func (s *Server) Fingerprint() string {
	sum := sha256.Sum256(s.certificate.Certificate[0])
	return hex.EncodeToString(sum[:])
}

// SetCompliant puts a device into the policy cache, as compliant or not. Case does not matter.
func (s *Server) SetCompliant(deviceID string, compliant bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies[strings.ToLower(deviceID)] = compliant
}

// Forget takes a device out of the policy cache.
func (s *Server) Forget(deviceID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.policies, strings.ToLower(deviceID))
}

// SetPolicyLoaded says whether there is policy data at all; without, every call is answered 204 (G-07). It is loaded
// unless set otherwise.
func (s *Server) SetPolicyLoaded(loaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unloaded = !loaded
}

// SetProxyEnabled says whether the EWS proxy is switched on (enable.boxer.ens.ews.proxy); without, every call is
// answered 404 (G-11). It is on unless set otherwise.
func (s *Server) SetProxyEnabled(enabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disabled = !enabled
}

// Request is a call that was answered.
type Request struct {
	// Number counts the calls from 1.
	Number int
	// DeviceID and Devices are what the two headers said.
	DeviceID        string
	Devices         []string
	ClientRequestID string
	// Transaction is the id that the answer carried.
	Transaction string
	// Forwarded says that the call went to Exchange.
	Forwarded bool
	// Status is that of the answer.
	Status int
}

// Requests returns all calls so far.
func (s *Server) Requests() []Request { return s.calls.All() }

// WaitRequest returns the first call, past or future, that matches.
func (s *Server) WaitRequest(ctx context.Context, match func(Request) bool) (Request, error) {
	return s.calls.Wait(ctx, "call through the SEG", match)
}
