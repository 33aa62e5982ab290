// Package credential is everything that touches a user's credential: how the device encrypts it (scheme), how it rests
// inside the webhook URL (sealing, mark), and the plaintext itself for the moment it is needed.
//
// It is the only place where a plaintext credential is made; others hold a Credential, pass it to Exchange and wipe it.
package credential

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

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

// HasPassword reports whether there is a user name with a password in it.
func (t AuthType) HasPassword() bool { return t == Basic || t == BasicCBA }

// HasToken reports whether there is an OAuth access token in it.
func (t AuthType) HasToken() bool { return t == OAuth || t == OAuthCBA }

// HasCertificate reports whether there is a client certificate in it.
func (t AuthType) HasCertificate() bool { return t == CBA || t == BasicCBA || t == OAuthCBA }

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
// Username is secret too: it is often the e-mail address, which no log may carry (L-07). AuthType says which parts are
// there.
type Credential struct {
	AuthType AuthType
	// Username and Password are there if AuthType.HasPassword.
	Username, Password secret.Value
	// Token is the OAuth access token, if AuthType.HasToken, and Expires when it ends, zero if the device did not say.
	Token   secret.Value
	Expires time.Time
	// Certificate is there if AuthType.HasCertificate.
	Certificate Certificate
}

// Certificate is a client certificate with its key, taken out of the PKCS#12 file (PFX) that the device sent.
type Certificate struct {
	// Chain is DER, the user's own certificate first. It names the user, so it is as secret as a user name.
	Chain []secret.Value
	// Key is the private key, DER PKCS#8.
	Key secret.Value
}

// Wipe clears the plaintext.
func (c *Credential) Wipe() {
	for _, part := range c.parts() {
		part.Wipe()
	}
}

// Fault is why a server would refuse the credential whoever it is of, as far as that can be seen without asking: an error
// for the device, nil if there is none. It tells nothing of the credential but when it ended.
func (c *Credential) Fault(now time.Time) error {
	if c.Expired(now) {
		return errors.New("the OAuth access token has expired; the device must send a fresh one")
	}
	if !c.AuthType.HasCertificate() || len(c.Certificate.Chain) == 0 {
		return nil
	}
	if own, err := x509.ParseCertificate(c.Certificate.Chain[0].Reveal()); err == nil {
		return certificateFault(own, now)
	}
	return nil // the server may be able to read what this cannot
}

func certificateFault(own *x509.Certificate, now time.Time) error {
	if now.After(own.NotAfter) {
		return fmt.Errorf("the client certificate has expired on %s; the device must get a new one", own.NotAfter.UTC().Format(time.DateOnly))
	}
	if !forClients(own) {
		return errors.New("the client certificate is not for client authentication; its extended key usage must have that, or there must be none")
	}
	return nil
}

// forClients reports whether a certificate may authenticate a client. One without purposes is for all.
func forClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// Expired reports whether the access token is known to have ended.
func (c *Credential) Expired(now time.Time) bool {
	return c.AuthType.HasToken() && !c.Expires.IsZero() && !now.Before(c.Expires)
}

// parts are all secrets that are there.
func (c *Credential) parts() []*secret.Value {
	parts := []*secret.Value{&c.Username, &c.Password, &c.Token, &c.Certificate.Key}
	for i := range c.Certificate.Chain {
		parts = append(parts, &c.Certificate.Chain[i])
	}
	return parts
}

// Clone returns a copy with bytes of its own, for work that outlives the caller's.
func (c *Credential) Clone() Credential {
	copied := *c
	copied.Certificate.Chain = slices.Clone(c.Certificate.Chain)
	for _, part := range copied.parts() {
		*part = secret.New(slices.Clone(part.Reveal()))
	}
	return copied
}
