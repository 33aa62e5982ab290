package ewstest

import (
	"context"
	"crypto/subtle"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Scheme is a way of authenticating that the server's virtual directory has switched on.
type Scheme string

// The schemes. Client certificates are none of HTTP's, see Options.ClientCertificates.
const (
	Negotiate Scheme = "Negotiate" // with NTLM inside; there is no Kerberos
	NTLM      Scheme = "NTLM"
	Basic     Scheme = "Basic"
	OAuth     Scheme = "Bearer"
)

// defaultSchemes are what an Exchange with Basic enabled offers.
var defaultSchemes = []Scheme{Negotiate, NTLM, Basic}

// Challenge is the scheme's WWW-Authenticate header.
func (s Scheme) Challenge() string {
	switch s {
	case Basic:
		return `Basic realm="fake.example.com"`
	case OAuth:
		return `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="fake@example.com", ` +
			`token_types="app_asserted_user_v1 service_asserted_app_v1"`
	default:
		return string(s)
	}
}

// TrustedLoginHeader names the user that a gateway has authenticated, as `<secret> <address>` with the secret of
// Options.TrustedProxy. It stands for the Kerberos ticket that a real gateway gets by constrained delegation (G-14).
const TrustedLoginHeader = "X-Fake-Trusted-Login"

// connection is what the server keeps for a TCP connection, as IIS does.
type connection struct {
	mu sync.Mutex
	// challenge is that of the NTLM handshake under way, nil if there is none.
	challenge []byte
	// user is whom an NTLM handshake has bound the connection to.
	user *mailbox
}

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(connection))
}

// login is what came of looking at a request's credential.
type login struct {
	// user is the mailbox whose credential was presented, right or wrong, nil if unknown.
	user *mailbox
	// ok says that the credential was right.
	ok bool
	// wrongPassword counts towards the account's lock-out.
	wrongPassword bool
	// header is added to the 401.
	header http.Header
	// forbidden is the answer to an unacceptable client certificate.
	forbidden bool
}

// Outage makes the server refuse everybody with 401, as it does while it cannot reach the directory.
func (s *Server) Outage(on bool) { s.outage.Store(on) }

// identify finds out whose request it is: the user that the connection is bound to, else the one whose credential the
// request carries.
func (s *Server) identify(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.certificate = s.certificateUser(c.request)
	if s.outage.Load() {
		return
	}
	bound, _ := c.request.Context().Value(connectionKey{}).(*connection)
	bound.mu.Lock()
	defer bound.mu.Unlock()
	c.login = s.presented(c.request, bound, c.certificate)
	if c.login.user != nil {
		c.presented = c.login.user.Address
	}
	if c.login.forbidden || !s.certificateSuffices(c.request) {
		c.login.forbidden, c.login.ok = true, false
	}
	if bound.user != nil && !c.login.forbidden {
		// IIS does not look at the credential of a request on a connection that it has authenticated.
		c.login = login{user: bound.user, ok: true}
	}
	if c.login.user != nil {
		c.user, c.authenticated = c.login.user, c.login.ok
		c.address, c.alias = c.user.Address, c.user.Alias
	}
	if c.login.wrongPassword {
		c.user.authFailures++
	}
}

// presented looks at the credential that the request itself carries; s.mu and the connection's are held.
func (s *Server) presented(r *http.Request, conn *connection, certificate *mailbox) login {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case scheme == "" && s.options.TrustedProxy != "" && r.Header.Get(TrustedLoginHeader) != "":
		return s.trustedLogin(r.Header.Get(TrustedLoginHeader))
	case scheme == "" && certificate != nil:
		return login{user: certificate, ok: true}
	case !s.offers(scheme):
		return login{}
	case strings.EqualFold(scheme, string(Basic)):
		name, password, _ := r.BasicAuth()
		user, ok := s.login(name, password)
		return login{user: user, ok: ok, wrongPassword: user != nil && !ok}
	case strings.EqualFold(scheme, string(OAuth)):
		return s.tokenLogin(value)
	default:
		return s.ntlmLogin(conn, scheme, value)
	}
}

func (s *Server) trustedLogin(header string) login {
	secret, address, _ := strings.Cut(header, " ")
	if subtle.ConstantTimeCompare([]byte(secret), []byte(s.options.TrustedProxy)) != 1 {
		return login{}
	}
	user := s.mailbox(address)
	return login{user: user, ok: user != nil}
}

func (s *Server) offers(scheme string) bool {
	return slices.ContainsFunc(s.options.Authentication, func(offered Scheme) bool { return strings.EqualFold(string(offered), scheme) })
}

// challenge answers 401 with what the server offers, or 403 if it is a certificate that is missing or wrong.
func (s *Server) challenge(c *call) *answer {
	if c.login.forbidden {
		return page(http.StatusForbidden) // IIS's 403.7 and 403.16 look alike from outside
	}
	a := page(http.StatusUnauthorized)
	maps.Copy(a.header, c.login.header)
	if len(a.header["Www-Authenticate"]) > 0 {
		return a // the step of a handshake
	}
	for _, scheme := range s.options.Authentication {
		a.header["Www-Authenticate"] = append(a.header["Www-Authenticate"], scheme.Challenge())
	}
	return a
}
