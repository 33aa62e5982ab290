package exchange

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/ens-operator/ens-operator/runtime/ews/ntlmtest"
)

// Scheme is a way of authenticating.
type Scheme string

// The schemes.
const (
	Basic Scheme = "Basic"
	OAuth Scheme = "Bearer"
	NTLM  Scheme = "NTLM"
)

// challenge is the scheme's WWW-Authenticate header.
func (s Scheme) challenge() string {
	switch s {
	case Basic:
		return `Basic realm="load"`
	case OAuth:
		return `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="load@example.com", ` +
			`token_types="app_asserted_user_v1 service_asserted_app_v1"`
	default:
		return string(s)
	}
}

var (
	errCredential = errors.New("the credential is not right")
	errOutdated   = errors.New("the credential was right before")
	errScheme     = errors.New("a credential by a scheme that is not switched on")
	// errStep is no refusal but the first half of a handshake.
	errStep = errors.New("the handshake has begun")
)

// connection is what the server keeps for a TCP connection, as IIS does with NTLM.
type connection struct {
	mu sync.Mutex
	// challenge is that of the handshake under way, nil if there is none.
	challenge []byte
	// user is whom a handshake has bound the connection to, 0 if nobody.
	user Mailbox
}

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(connection))
}

// admit finds out whose request it is. If that cannot be seen it answers, and reports false.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (user Mailbox, ok bool) {
	user, header, err := s.authenticate(r)
	switch {
	case err == nil:
		return user, true
	case errors.Is(err, errOutdated), errors.Is(err, errStep):
		s.challenge(w, header)
	default:
		s.note(err)
		s.challenge(w, header)
	}
	return 0, false
}

// authenticate finds the user of a request's credential. The header is for an answer of 401.
func (s *Server) authenticate(r *http.Request) (user Mailbox, header http.Header, err error) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if s.options.Scheme == NTLM { // a connection that is somebody's needs no credential any more
		return s.byNTLM(r, scheme, value)
	}
	if !strings.EqualFold(scheme, string(s.options.Scheme)) {
		return 0, nil, errScheme
	}
	if s.options.Scheme == OAuth {
		return s.byToken(value)
	}
	user, err = s.byPassword(r)
	return user, nil, err
}

func (s *Server) byPassword(r *http.Request) (Mailbox, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return 0, errors.New("no Basic credential")
	}
	user, err := parseAddress(name)
	if err != nil {
		return 0, errCredential
	}
	switch ok, outdated := s.passwords.judge(user, password); {
	case outdated:
		return 0, errOutdated
	case !ok:
		return 0, errCredential
	}
	return user, nil
}

// byNTLM takes one step of a handshake. What comes on a connection after it is the user's whom it was bound to, whatever
// credential it carries, as with IIS: a client that mixes up connections is shown another's mailbox.
func (s *Server) byNTLM(r *http.Request, scheme, value string) (Mailbox, http.Header, error) {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	c.mu.Lock()
	defer c.mu.Unlock()
	message, ok := ntlmtest.ParseMessage(value)
	switch {
	case c.user != 0:
		return c.user, nil, nil
	case !strings.EqualFold(scheme, string(NTLM)) || !ok:
		return 0, nil, errScheme
	case message.Negotiates():
		c.challenge = make([]byte, ntlmtest.ChallengeBytes)
		_, _ = rand.Read(c.challenge) // never fails
		return 0, http.Header{authenticateHeader: {string(NTLM) + " " + ntlmtest.Challenge(c.challenge, s.options.Now())}}, errStep
	case !message.Authenticates() || c.challenge == nil:
		return 0, nil, errors.New("the end of an NTLM handshake that did not begin on its connection")
	}
	name, err := message.Login()
	user, unknown := parseAddress(name)
	if err != nil || unknown != nil || !message.Proves(c.challenge, user.Password()) {
		return 0, nil, errCredential
	}
	c.user, c.challenge = user, nil
	return user, nil, nil
}

const authenticateHeader = "Www-Authenticate"

// challenge answers 401, with the scheme that is switched on unless the header has something to say of its own.
func (s *Server) challenge(w http.ResponseWriter, header http.Header) {
	maps.Copy(w.Header(), header)
	if w.Header().Get(authenticateHeader) == "" {
		w.Header().Set(authenticateHeader, s.options.Scheme.challenge())
	}
	http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
}

// note takes note of a request that is refused.
func (s *Server) note(err error) {
	s.refused.Add(1)
	problem := err.Error()
	s.problem.Store(&problem)
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	s.note(err)
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}
