package ews

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

const (
	// IIS closes idle connections after 120 s. Ours are closed well before, so that a request is not sent into one that
	// the server is just closing.
	idleConnectionTimeout = 60 * time.Second
	// Connections kept for the next requests; a burst may open more, up to the concurrency limit.
	maxIdleConnections = 32
	// IIS itself limits headers to 16 kB; some proxies add cookies.
	maxResponseHeaderBytes = 64 << 10
	dialTimeout            = 10 * time.Second
	tlsHandshakeTimeout    = 10 * time.Second
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
	// Clock times out requests. Nil is the real one.
	Clock clock.Clock
	// Logger gets one debug line a request, without a user. Nil is slog.Default.
	Logger *slog.Logger
}

// Client serves one endpoint. It is safe for concurrent use and holds no credential.
type Client struct {
	options Options
	// address is what errors and logs say: scheme, host and path.
	address string
	// pool is shared by the schemes that authenticate each request (protocol.md, rule 6). A scheme that
	// authenticates the connection needs a transport of its own per credential.
	pool  *http.Transport
	slots *semaphore.Weighted
	// before2013 is when the server last refused a request of version Exchange2013, in Unix nanoseconds; 0 is never.
	before2013 atomic.Int64
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
	if options.DialContext == nil {
		options.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return &Client{
		options: options,
		address: (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path}).String(),
		pool:    newTransport(options),
		slots:   semaphore.NewWeighted(int64(endpoint.MaxConcurrentRequests)),
	}, nil
}

// newTransport never asks the environment for a proxy, and speaks HTTP/1.1 as Exchange's own clients do.
func newTransport(options Options) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            options.DialContext,
		TLSClientConfig:        explainCertificates(options.TLS),
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		IdleConnTimeout:        idleConnectionTimeout,
		MaxIdleConns:           maxIdleConnections,
		MaxIdleConnsPerHost:    maxIdleConnections,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		Protocols:              protocols,
	}
}

// Close closes idle connections. Calls that are under way end as usual.
func (c *Client) Close() { c.pool.CloseIdleConnections() }

// Endpoint is the name of the endpoint that the client serves.
func (c *Client) Endpoint() string { return c.options.Endpoint.Name }

// Session makes the calls of one user. The credential is used until the last call returns and is never kept beyond; the
// caller wipes it. activityID is sent as client-request-id, so that Exchange's logs can be searched for it (E-18).
func (c *Client) Session(user credential.Credential, activityID string) *Session {
	return &Session{client: c, credential: user, activityID: activityID}
}

// Session is one user's calls to one endpoint, for one piece of work.
type Session struct {
	client     *Client
	credential credential.Credential
	activityID string
}
