// Package authn presents a user's credential to an Exchange server: which of the allowed methods fits, and on which
// connections the requests may go (protocol.md, rule 6).
//
// Schemes that authenticate each request (Basic, Bearer) share the server's pool of connections. Schemes that
// authenticate the connection (NTLM, client certificates) get a connection of their own for each Conn, which is closed
// with it: no request may ever run on a connection that another user authenticated (E-17).
package authn

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

// ErrNotAvailable says that the server's endpoint allows no method by which this credential could be presented.
var ErrNotAvailable = errors.New("authentication type not available")

const (
	// IIS closes idle connections after 120 s. Ours are closed well before, so that a request is not sent into one that
	// the server is just closing.
	idleConnectionTimeout = 60 * time.Second
	// Connections kept for the next requests; a burst may open more, up to the caller's own limit.
	maxIdleConnections = 32
	// IIS itself limits headers to 16 kB; some proxies add cookies.
	maxResponseHeaderBytes = 64 << 10
	tlsHandshakeTimeout    = 10 * time.Second
)

// Options are a server as it is reached.
type Options struct {
	// Name is what errors call the server, e.g. `the endpoint "mail"`.
	Name string
	// Methods are those that are allowed.
	Methods []config.AuthenticationMethod
	// TLS verifies the server.
	TLS *tls.Config
	// DialContext opens connections.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Authenticator presents credentials to one server. It is safe for concurrent use and holds no credential.
type Authenticator struct {
	options Options
	pool    *http.Transport
}

// New makes an Authenticator. Close it.
func New(o Options) *Authenticator { return &Authenticator{options: o, pool: newTransport(o)} }

// newTransport never asks the environment for a proxy, and speaks HTTP/1.1 as Exchange's own clients do.
func newTransport(o Options) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            o.DialContext,
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		IdleConnTimeout:        idleConnectionTimeout,
		MaxIdleConns:           maxIdleConnections,
		MaxIdleConnsPerHost:    maxIdleConnections,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		Protocols:              protocols,
	}
}

// Close closes idle connections. Requests that are under way end as usual.
func (a *Authenticator) Close() { a.pool.CloseIdleConnections() }

// Anonymous sends requests without a credential, on the shared pool.
func (a *Authenticator) Anonymous() http.RoundTripper { return a.pool }

// Conn sends one user's requests. It must be closed, and is for one request at a time.
type Conn struct {
	authenticator *Authenticator
	credential    credential.Credential
}

// Conn starts one user's requests. The credential is used until the last request returns and never kept beyond; the
// caller wipes it. Error: ErrNotAvailable.
func (a *Authenticator) Conn(user credential.Credential) (*Conn, error) {
	needed := config.AuthOAuth
	if user.AuthType.HasPassword() {
		needed = config.AuthBasic
	}
	if user.AuthType.HasCertificate() || !slices.Contains(a.options.Methods, needed) {
		return nil, fmt.Errorf("%w: %s does not allow %s", ErrNotAvailable, a.options.Name, user.AuthType)
	}
	return &Conn{authenticator: a, credential: user}, nil
}

// RoundTrip implements http.RoundTripper. A redirect is an answer like any other.
func (c *Conn) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if c.credential.AuthType.HasToken() {
		request.Header.Set("Authorization", "Bearer "+c.credential.Token.RevealString())
		return c.authenticator.pool.RoundTrip(request)
	}
	if err := setBasic(request, c.credential); err != nil {
		return nil, err
	}
	return c.authenticator.pool.RoundTrip(request)
}

// Close closes the connections that are this user's own.
func (c *Conn) Close() {}

// setBasic sets the Authorization header, in UTF-8. The header is a string and cannot be wiped; it lives as long as the
// request.
func setBasic(request *http.Request, user credential.Credential) error {
	name, password := user.Username.Reveal(), user.Password.Reveal()
	if len(name) == 0 || slices.Contains(name, ':') {
		return fmt.Errorf("%w: Basic needs a user name without a colon", ErrNotAvailable)
	}
	pair := slices.Concat(name, []byte(":"), password)
	defer clear(pair)
	request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString(pair))
	return nil
}
