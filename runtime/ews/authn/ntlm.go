package authn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/Azure/go-ntlmssp"
)

// ErrHandshake says that the server's side of an NTLM handshake made no sense. It is no verdict on the credential.
var ErrHandshake = errors.New("NTLM handshake failed")

// authenticate sends the request on a connection that NTLM has authenticated for this user, one that is there from the
// request before or a fresh one.
//
// The messages are those of go-ntlmssp, the handshake is ours. The library's Negotiator sends each request without a
// credential first, it leaves the first answer unread, so that the handshake moves to another connection, and it turns
// an error of the network in the middle into the first 401, which would count as a refused credential.
func (c *Conn) authenticate(r repeatable) (*http.Response, error) {
	c.byNTLM = true
	if c.own == nil {
		c.own = newOwnConnection(c.authenticator.options, c.authenticator.options.TLS.Clone())
	}
	if c.own.authenticated {
		response, err := c.own.stay(r.with(""))
		switch {
		case errors.Is(err, errConnectionGone):
			// The server has closed it in between.
		case err != nil:
			c.own.leave()
			return nil, err
		case response.StatusCode != http.StatusUnauthorized:
			return response, nil
		default:
			// The server wants every request authenticated, or has forgotten us. Our credential was not looked at.
			_ = drain(response) // the connection is given up anyway
		}
	}
	c.own.leave()
	response, err := c.handshake(r, schemeNTLM)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	if offered := offeredSchemes(response.Header); slices.Contains(offered, schemeNTLM) || !slices.Contains(offered, schemeNegotiate) {
		return response, nil
	}
	_ = drain(response)
	c.own.leave()
	return c.handshake(r, schemeNegotiate)
}

// handshake authenticates a fresh connection and sends the request with the last message. A first message goes out
// without the body: the server would read it in vain. The answer may be a 401: the server does not offer the scheme, or
// refuses the credential.
func (c *Conn) handshake(r repeatable, scheme string) (*http.Response, error) {
	negotiate, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	response, err := c.own.transport.RoundTrip(r.empty(scheme + " " + base64.StdEncoding.EncodeToString(negotiate)))
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusMultipleChoices {
		_ = drain(response)
		return nil, fmt.Errorf("%w: the server answered %d to its first message, which asks for a challenge", ErrHandshake, response.StatusCode)
	}
	challenge := challengeFor(scheme, response.Header)
	if response.StatusCode != http.StatusUnauthorized || challenge == "" {
		return response, nil
	}
	if err := drain(response); err != nil {
		return nil, fmt.Errorf("reading the answer with the NTLM challenge: %w", err)
	}
	message, err := c.answerTo(challenge)
	if err != nil {
		return nil, err
	}
	response, err = c.own.stay(r.with(scheme + " " + base64.StdEncoding.EncodeToString(message)))
	if errors.Is(err, errConnectionGone) {
		return nil, fmt.Errorf("the server closed the connection in the middle of the NTLM handshake, which needs one connection"+
			" from end to end; does a proxy in between not keep it? %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	c.own.authenticated = response.StatusCode != http.StatusUnauthorized
	return response, nil
}

// answerTo makes the message that proves the password. The library's errors may quote the challenge, so they are not
// repeated.
func (c *Conn) answerTo(challenge string) ([]byte, error) {
	decoded, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		return nil, fmt.Errorf("%w: the server's challenge is not base64", ErrHandshake)
	}
	message, err := ntlmssp.NewAuthenticateMessage(decoded, c.credential.Username.RevealString(), c.credential.Password.RevealString(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: the server's challenge is malformed, or asks for something other than NTLMv2", ErrHandshake)
	}
	return message, nil
}
