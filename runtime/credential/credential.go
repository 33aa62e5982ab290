// Package credential is everything that touches a user's credential: how the device encrypts it (scheme), how it rests
// inside the webhook URL (sealing, mark), and the plaintext itself for the moment it is needed.
//
// It is the only place where a plaintext credential is made; others hold a Credential, pass it to Exchange and wipe it.
package credential

import "github.com/ens-operator/ens-operator/runtime/secret"

// AuthType is how the device's user authenticates to Exchange, in the numbers of the wire contract (protocol.md,
// registerdevicev2; E-10 to E-12).
type AuthType int16

// The authentication types.
const (
	Basic    AuthType = 0
	OAuth    AuthType = 1
	CBA      AuthType = 2
	BasicCBA AuthType = 3
	OAuthCBA AuthType = 4
)

// Known reports whether t is one of the contract's numbers.
func (t AuthType) Known() bool { return t >= Basic && t <= OAuthCBA }

// String is the name the original logs, e.g. "Basic Auth" (E-09).
func (t AuthType) String() string {
	switch t {
	case Basic:
		return "Basic Auth"
	case OAuth:
		return "OAuth"
	case CBA:
		return "CBA"
	case BasicCBA:
		return "Basic Auth and CBA"
	case OAuthCBA:
		return "OAuth and CBA"
	default:
		return "unknown"
	}
}

// Credential is a plaintext credential. It must be wiped when the work that needs it ends, in less than two minutes.
// Username is secret too: it is often the e-mail address, which no log may carry (L-07).
type Credential struct {
	AuthType AuthType
	Username secret.Value
	Password secret.Value
}

// Wipe clears the plaintext.
func (c *Credential) Wipe() {
	c.Username.Wipe()
	c.Password.Wipe()
}

// Clone returns a copy with bytes of its own, for work that outlives the caller's.
func (c *Credential) Clone() Credential {
	return Credential{AuthType: c.AuthType, Username: clone(c.Username), Password: clone(c.Password)}
}

func clone(v secret.Value) secret.Value { return secret.New(append([]byte(nil), v.Reveal()...)) }
