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
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

var (
	// ErrNotAvailable says that the server's endpoint allows no method by which this credential could be presented, or
	// that the credential has a form that the method cannot carry.
	ErrNotAvailable = errors.New("authentication type not available")
	// ErrTokenExpired says that the access token had ended before anything was sent. A server that finds it out itself
	// answers 401, see TokenExpired.
	ErrTokenExpired = errors.New("access token expired")
)

const (
	// IIS closes idle connections after 120 s. Ours are closed well before, so that a request is not sent into one that
	// the server is just closing.
	idleConnectionTimeout = 60 * time.Second
	// Connections kept for the next requests: as many as an endpoint allows requests at once unless it says otherwise, since a
	// connection that is opened anew costs more than the request.
	maxIdleConnections = 256
	// IIS itself limits headers to 16 kB; some proxies add cookies.
	maxResponseHeaderBytes = 64 << 10
	tlsHandshakeTimeout    = 10 * time.Second
	// dialTimeout is for Options without a DialContext.
	dialTimeout = 10 * time.Second
	// ntlmMemory is how long a server that takes NTLM and no Basic is not asked by Basic again, which would send it the
	// password in vain. It may have been configured anew since.
	ntlmMemory = time.Hour
)

// Options are a server as it is reached.
type Options struct {
	// Name is what errors call the server, e.g. `the endpoint "mail"`.
	Name string
	// Methods are those that are allowed. No other is ever used, whatever the server offers.
	Methods []config.AuthenticationMethod
	// TLS verifies the server.
	TLS *tls.Config
	// DialContext opens connections. Nil dials anything.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock tells when tokens and memories end. Nil is the real one.
	Clock clock.PassiveClock
}

// Authenticator presents credentials to one server. It is safe for concurrent use and holds no credential.
type Authenticator struct {
	options Options
	pool    *http.Transport
	// refusedBasic is when the server last offered NTLM and no Basic, in Unix nanoseconds; 0 is never.
	refusedBasic atomic.Int64
}

// New makes an Authenticator. Close it.
func New(o Options) *Authenticator {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.DialContext == nil {
		o.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return &Authenticator{options: o, pool: newTransport(o)}
}

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

func (a *Authenticator) allows(method config.AuthenticationMethod) bool {
	return slices.Contains(a.options.Methods, method)
}

// fits reports whether there is an allowed method for every part of a credential of type t.
func (a *Authenticator) fits(t credential.AuthType) bool {
	return t.Known() &&
		(!t.HasPassword() || a.allows(config.AuthBasic) || a.allows(config.AuthNTLM)) &&
		(!t.HasToken() || a.allows(config.AuthOAuth)) &&
		(!t.HasCertificate() || a.allows(config.AuthClientCertificate))
}

// prefersNTLM says whether a password is presented by NTLM: Basic is not allowed, or the server was found not to take it.
func (a *Authenticator) prefersNTLM() bool {
	if !a.allows(config.AuthBasic) || !a.allows(config.AuthNTLM) {
		return a.allows(config.AuthNTLM)
	}
	refused := a.refusedBasic.Load()
	return refused != 0 && a.options.Clock.Since(time.Unix(0, refused)) <= ntlmMemory
}

// Conn sends one user's requests. It must be closed, and is for one request at a time.
type Conn struct {
	authenticator *Authenticator
	credential    credential.Credential
	// own is this user's own connection. Nil is the shared pool, which is for requests that carry all there is to know
	// about the user.
	own *ownConnection
	// certificate is what is presented in the TLS handshake, and asked for says that the server wanted to see it.
	certificate *tls.Certificate
	askedFor    atomic.Bool
	// byNTLM says how the last password was presented.
	byNTLM bool
}

// Conn starts one user's requests. The credential is used until the last request returns and never kept beyond; the
// caller wipes it. Error: ErrNotAvailable.
func (a *Authenticator) Conn(user credential.Credential) (*Conn, error) {
	if !a.fits(user.AuthType) {
		return nil, fmt.Errorf("%w: %s does not allow %s (its authentication methods: %s)",
			ErrNotAvailable, a.options.Name, user.AuthType, a.methods())
	}
	c := &Conn{authenticator: a, credential: user}
	if user.AuthType.HasCertificate() {
		certificate, err := parseCertificate(user.Certificate)
		if err != nil {
			return nil, err
		}
		c.certificate = &certificate
		c.own = newOwnConnection(a.options, c.presentCertificate(a.options.TLS))
	}
	return c, nil
}

func (a *Authenticator) methods() string {
	names := make([]string, len(a.options.Methods))
	for i, method := range a.options.Methods {
		names[i] = string(method)
	}
	return strings.Join(names, ", ")
}

// RoundTrip implements http.RoundTripper. A redirect is an answer like any other. Errors: ErrNotAvailable,
// ErrTokenExpired, ErrHandshake, and those of the network.
func (c *Conn) RoundTrip(request *http.Request) (*http.Response, error) {
	r, err := newRepeatable(request)
	if err != nil {
		return nil, fmt.Errorf("taking the request's own body: %w", err)
	}
	switch user := c.credential; {
	case user.AuthType.HasToken():
		if user.Expired(c.authenticator.options.Clock.Now()) {
			return nil, ErrTokenExpired
		}
		token := user.Token.RevealString()
		if token == "" || strings.Trim(token, tokenAlphabet) != "" {
			return nil, fmt.Errorf("%w: the access token is not one (RFC 6750, section 2.1)", ErrNotAvailable)
		}
		return c.transport().RoundTrip(r.with("Bearer " + token))
	case user.AuthType.HasPassword():
		return c.byPassword(r)
	default:
		return c.transport().RoundTrip(r.with(""))
	}
}

// tokenAlphabet is b64token of RFC 6750. Anything else could not stand in a header.
const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="

// byPassword sends the request by Basic or NTLM. Where both are allowed, the server's challenge decides, and only
// between these two: a 401 to one that it does not offer is no verdict on the password.
func (c *Conn) byPassword(r repeatable) (*http.Response, error) {
	if c.credential.Username.IsZero() {
		return nil, fmt.Errorf("%w: there is no user name beside the password", ErrNotAvailable)
	}
	a := c.authenticator
	both := a.allows(config.AuthBasic) && a.allows(config.AuthNTLM)
	if !a.prefersNTLM() {
		response, err := c.byBasic(r)
		if err != nil || !both || response.StatusCode != http.StatusUnauthorized || !onlyNTLM(response.Header) {
			return response, err
		}
		_ = drain(response) // the next request opens another connection if it must
		a.refusedBasic.Store(a.options.Clock.Now().UnixNano())
		return c.authenticate(r)
	}
	response, err := c.authenticate(r)
	if err != nil || !both || response.StatusCode != http.StatusUnauthorized || !onlyBasic(response.Header) {
		return response, err
	}
	_ = drain(response)
	a.refusedBasic.Store(0)
	return c.byBasic(r)
}

// byBasic sends the password in UTF-8. The header is a string and cannot be wiped; it lives as long as the request.
func (c *Conn) byBasic(r repeatable) (*http.Response, error) {
	c.byNTLM = false
	name, password := c.credential.Username.Reveal(), c.credential.Password.Reveal()
	if slices.Contains(name, ':') {
		return nil, fmt.Errorf("%w: Basic needs a user name without a colon", ErrNotAvailable)
	}
	pair := slices.Concat(name, []byte(":"), password)
	defer clear(pair)
	return c.transport().RoundTrip(r.with("Basic " + base64.StdEncoding.EncodeToString(pair)))
}

// transport is where requests go that need no handshake of HTTP's.
func (c *Conn) transport() http.RoundTripper {
	if c.certificate != nil {
		return c.own.transport
	}
	return c.authenticator.pool
}

// Close closes the connections that are this user's own.
func (c *Conn) Close() {
	if c.own != nil {
		c.own.transport.CloseIdleConnections()
	}
}
