package ewstest

import (
	"encoding/binary"
	"net/http"

	"github.com/ens-operator/ens-operator/runtime/ews/ntlmtest"
)

// ntlmLogin takes one step of a handshake, as scheme NTLM or inside Negotiate. A connection has one handshake at a time.
func (s *Server) ntlmLogin(conn *connection, scheme, value string) login {
	message, ok := ntlmtest.ParseMessage(value)
	switch {
	case !ok:
		return login{}
	case message.Negotiates():
		conn.challenge = make([]byte, ntlmtest.ChallengeBytes)
		binary.LittleEndian.PutUint64(conn.challenge, s.random.Uint64())
		return login{header: http.Header{"Www-Authenticate": {scheme + " " + ntlmtest.Challenge(conn.challenge, s.options.Clock.Now())}}}
	case message.Authenticates():
		challenge := conn.challenge
		conn.challenge = nil
		if challenge == nil {
			return login{} // the first message went over another connection
		}
		user, ok := s.ntlmVerify(challenge, message)
		if ok {
			conn.user = user
		}
		return login{user: user, ok: ok, wrongPassword: user != nil && !ok}
	}
	return login{}
}

// ntlmVerify finds the user of the last message of a handshake and checks the proof of the password.
func (s *Server) ntlmVerify(challenge []byte, message ntlmtest.Message) (user *mailbox, ok bool) {
	name, err := message.Login()
	if err != nil {
		return nil, false
	}
	if user, _ = s.login(name, ""); user == nil {
		return nil, false
	}
	return user, message.Proves(challenge, user.Password)
}
