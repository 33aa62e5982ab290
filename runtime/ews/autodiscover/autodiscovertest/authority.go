package autodiscovertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

const (
	// validity is long enough for a demo that is left running.
	validity = 30 * 24 * time.Hour
	// backdate keeps clients happy whose clock is a little behind.
	backdate   = time.Hour
	serialBits = 64
)

// Certificate is what a host presents.
type Certificate int

// The certificates.
const (
	// CertificateValid is for the host's name, from the service's own authority.
	CertificateValid Certificate = iota
	// CertificateOfOtherName is from the service's authority, but for another name.
	CertificateOfOtherName
	// CertificateOfUnknownAuthority is for the host's name, from an authority that nobody trusts.
	CertificateOfUnknownAuthority
	// CertificateExpired was valid until a while ago.
	CertificateExpired
)

// ClientCertificate is how a host wants to see a user's certificate.
type ClientCertificate int

// The ways.
const (
	// ClientCertificateAccepted takes one in place of a password.
	ClientCertificateAccepted ClientCertificate = iota
	// ClientCertificateOrForbidden answers 403 without one, as IIS does for a directory that requires it.
	ClientCertificateOrForbidden
	// ClientCertificateInHandshake ends the TLS handshake without one.
	ClientCertificateInHandshake
)

// authority issues certificates by the machine's clock, since it is the clients that check them.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := sign(template, template, key, key, time.Now())
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{key: key, certificate: certificate}, err
}

// issue makes a server certificate for a name, that ends validity after now.
func (a *authority) issue(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := sign(template, a.certificate, key, a.key, now)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(validity)
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
}

// certificateOf makes what a host presents.
func (s *Server) certificateOf(name string, kind Certificate) (*tls.Certificate, error) {
	switch kind {
	case CertificateOfOtherName:
		return s.authority.issue("other."+name, time.Now())
	case CertificateOfUnknownAuthority:
		return s.stranger.issue(name, time.Now())
	case CertificateExpired:
		return s.authority.issue(name, time.Now().Add(-validity-backdate))
	default:
		return s.authority.issue(name, time.Now())
	}
}

// Roots are the service's authority.
func (s *Server) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(s.authority.certificate)
	return roots
}

// AuthorityPEM is the service's authority as a CA bundle.
func (s *Server) AuthorityPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.authority.certificate.Raw})
}
