package egress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Verification is how a server proves that it is the one that is meant.
type Verification struct {
	// SHA256 are fingerprints as ParseFingerprint returns them; one of them must be that of the server's own
	// certificate. Chain, name and dates are then not looked at (unless Roots is set too): the fingerprint is the
	// identity, and on-premises servers often have certificates of their own making.
	SHA256 []string
	// PublicKeySHA256 are fingerprints of public keys (see PublicKeyFingerprint), which stay when a certificate is renewed
	// with the same key. They count beside SHA256: one of all must match.
	PublicKeySHA256 []string
	// Roots are the certificate authorities to verify chain and name against; nil takes the system's, or none if there
	// are fingerprints.
	Roots *x509.CertPool
	// ServerName is the name to ask for and to verify instead of the dialled host's. Usually empty.
	ServerName string
	// MinVersion is the oldest TLS version to accept, e.g. tls.VersionTLS13; 0 is TLS 1.2, the oldest that is still
	// safe. Older ones are for servers that cannot do better, and must be asked for.
	MinVersion uint16
}

// PinError says that a server presented another certificate than the pinned ones.
type PinError struct {
	// Seen is the fingerprint of the certificate that was presented; empty if there was none.
	Seen string
	// Host is the name that was asked for; empty if it was an IP address.
	Host string
	// Pins is how many fingerprints would have been accepted.
	Pins int
	// SeenPublicKey is the fingerprint of the public key that was presented; empty if there was none.
	SeenPublicKey string
}

// Error implements error.
func (e *PinError) Error() string {
	host := e.Host
	if host == "" {
		host = "the server"
	}
	if e.Seen == "" {
		return fmt.Sprintf("%s presented no certificate, want one of %d pinned ones", host, e.Pins)
	}
	return fmt.Sprintf("%s presented a certificate that is not pinned (SHA-256 fingerprint %s, of its public key %s, pinned: %d): if the "+
		"certificate was renewed, compare the fingerprint on the server itself and add it to the pins; if not, "+
		"somebody may be in between", host, e.Seen, e.SeenPublicKey, e.Pins)
}

// TLSConfig returns a client configuration that verifies servers as v says. A certificate that is not pinned fails the
// handshake with a *PinError, on resumed sessions too.
//
// There is no session cache, because a resumed session also resumes the client certificate of whoever opened it
// (protocol.md, rule 6). A caller whose connections all are alike may set one.
func TLSConfig(v Verification) *tls.Config {
	config := &tls.Config{
		RootCAs:    v.Roots,
		ServerName: v.ServerName,
		MinVersion: v.MinVersion,
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	if len(v.SHA256) == 0 && len(v.PublicKeySHA256) == 0 {
		return config
	}
	pins := pins{slices.Clone(v.SHA256), slices.Clone(v.PublicKeySHA256)}
	// With pins alone the chain proves nothing that the pin does not. VerifyConnection runs for every connection,
	// other than VerifyPeerCertificate, which resumption skips.
	config.InsecureSkipVerify = v.Roots == nil
	config.VerifyConnection = func(state tls.ConnectionState) error { return pins.verify(state) }
	return config
}

// pins are the fingerprints of which one must match.
type pins struct{ certificates, publicKeys []string }

func (p pins) verify(state tls.ConnectionState) error {
	refusal := &PinError{Host: state.ServerName, Pins: len(p.certificates) + len(p.publicKeys)}
	if len(state.PeerCertificates) == 0 {
		return refusal
	}
	leaf := state.PeerCertificates[0]
	refusal.Seen, refusal.SeenPublicKey = Fingerprint(leaf), PublicKeyFingerprint(leaf)
	if slices.Contains(p.certificates, refusal.Seen) || slices.Contains(p.publicKeys, refusal.SeenPublicKey) {
		return nil
	}
	return refusal
}

const (
	// handshakeTimeout is long for a TLS handshake, but virtualised Exchange servers do stall.
	handshakeTimeout = 10 * time.Second
	// idleTimeout is below the two minutes after which IIS closes a connection that waits (its connectionTimeout), so
	// that a request seldom meets a connection that is just being closed.
	idleTimeout = 90 * time.Second
	// maxResponseHeader bounds the headers of an answer, which stay below 4 KiB with Exchange and the push providers;
	// the default is 10 MiB.
	maxResponseHeader = 64 << 10
	// idleConnections are kept for a host whose connections have no bound: what 100,000 users need at their peak is
	// about this many at once (push.md, section 4), and the two of net/http would be opened and closed all the time.
	idleConnections = 128
)

// Settings are what Transports differ in.
type Settings struct {
	// TLS is how servers are verified, see TLSConfig. It is cloned. Nil trusts the system's certificate authorities.
	TLS *tls.Config
	// MaxConnections bounds the connections to one host, busy and idle ones alike; 0 is without bound, for callers
	// who bound their requests themselves.
	MaxConnections int
	// HTTP2 uses HTTP/2 where the server offers it. Exchange authenticates connections (NTLM), so EWS is left at
	// HTTP/1.1.
	HTTP2 bool
}

// Transport returns an http.Transport whose connections are made by g and which takes no proxy from the environment.
// The time of a whole request is bounded by its context, which callers must set. Redirects are not a transport's
// matter: a client that sends credentials must refuse them with http.ErrUseLastResponse.
func (g Guard) Transport(s Settings) *http.Transport {
	verification := s.TLS.Clone()
	if verification == nil {
		verification = TLSConfig(Verification{})
	}
	idle := s.MaxConnections
	if idle == 0 {
		idle = idleConnections
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.HTTP2)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            g.DialContext,
		TLSClientConfig:        verification,
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxConnsPerHost:        s.MaxConnections,
		MaxIdleConnsPerHost:    idle,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		Protocols:              protocols,
	}
}
