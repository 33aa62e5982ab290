package ews

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// Options say which server a Client serves and how it is reached.
type Options struct {
	// Endpoint is the effective configuration of the server (see config.Config.Effective): URL, time-out, concurrency,
	// user agent and the authentication methods it takes.
	Endpoint config.Endpoint
	// TLS verifies the server's certificate as the endpoint's pinning says. Nil verifies against the system's
	// authorities.
	TLS *tls.Config
	// DialContext opens connections, and refuses those to addresses that the tenant must not reach. Nil dials anything.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock times out requests and tells when tokens end. Nil is the real one.
	Clock clock.WithDelayedExecution
	// Logger gets one debug line a request, without a user. Nil is slog.Default.
	Logger *slog.Logger
}

// Client serves one endpoint. It is safe for concurrent use and holds no credential.
type Client struct {
	options Options
	// address is what errors and logs say: scheme, host and path.
	address  string
	authn    *authn.Authenticator
	slots    *semaphore.Weighted
	versions versionMemory
	// namesNone says that a SEG has answered for several devices and named none of them.
	namesNone atomic.Bool
}

// NewClient returns a Client. It does not connect. Close it when the endpoint's configuration changes.
func NewClient(options Options) (*Client, error) {
	endpoint := options.Endpoint
	target, err := url.Parse(endpoint.URL)
	if err != nil || target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("endpoint %q: the url must be https://host/EWS/Exchange.asmx", endpoint.Name)
	}
	if endpoint.TimeoutSeconds <= 0 || endpoint.MaxConcurrentRequests <= 0 {
		return nil, fmt.Errorf("endpoint %q: the time-out and the number of concurrent requests must be positive", endpoint.Name)
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	return &Client{
		options: options,
		address: (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path}).String(),
		authn: authn.New(authn.Options{
			Name:    fmt.Sprintf("the endpoint %q", endpoint.Name),
			Methods: endpoint.AuthenticationMethods, TLS: explainCertificates(options.TLS), DialContext: options.DialContext,
			Clock: options.Clock,
		}),
		slots: semaphore.NewWeighted(int64(endpoint.MaxConcurrentRequests)),
	}, nil
}

// Close closes idle connections. Calls that are under way end as usual.
func (c *Client) Close() { c.authn.Close() }

// Endpoint is the name of the endpoint that the client serves.
func (c *Client) Endpoint() string { return c.options.Endpoint.Name }

// Session makes the calls of one user. The credential is used until the last call returns and is never kept beyond; the
// caller closes the session and wipes the credential. activityID is sent as client-request-id, so that Exchange's logs
// can be searched for it (E-18).
func (c *Client) Session(user credential.Credential, activityID string) *Session {
	conn, err := c.authn.Conn(user)
	return &Session{client: c, conn: conn, unfit: err, activityID: activityID}
}

// Session is one user's calls to one endpoint, for one piece of work, one call at a time.
type Session struct {
	client *Client
	conn   *authn.Conn
	// unfit is why no call can be made: the endpoint does not allow the credential.
	unfit      error
	activityID string
	gateway    gateway
	// reader has the last answer until forget is called; nil if there was none.
	reader *soap.Reader
}

// forget lets go of the last answer.
func (s *Session) forget() {
	if s.reader != nil {
		s.reader.Return()
		s.reader = nil
	}
}

// Close gives the session's own connections back.
func (s *Session) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
}
