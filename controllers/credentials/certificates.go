package credentials

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

// Sizes as cert-manager derives them: a 16,384-bit RSA key has about 12 kB, a certificate with 250 names about 30 kB,
// a chain is three of them, and a bundle as large as Mozilla's has 230 kB.
const (
	maxPrivateKey = 13_000
	maxChain      = 95_000
	maxBundle     = 330_000
)

// Bundle is what may be told of a bundle of certificate authorities.
type Bundle struct {
	Certificates int
	// NotAfter is when the first of them expires, LastNotAfter when the last does.
	NotAfter, LastNotAfter time.Time
}

// ParseBundle reads certificates in PEM, at least one and nothing else.
func ParseBundle(data []byte) (Bundle, error) {
	if len(data) > maxBundle {
		return Bundle{}, fmt.Errorf("it has %d bytes, a bundle of certificates may have %d", len(data), maxBundle)
	}
	certificates, err := parseCertificates(data)
	if err != nil {
		return Bundle{}, err
	}
	bundle := Bundle{Certificates: len(certificates), NotAfter: certificates[0].NotAfter, LastNotAfter: certificates[0].NotAfter}
	for _, certificate := range certificates[1:] {
		if certificate.NotAfter.Before(bundle.NotAfter) {
			bundle.NotAfter = certificate.NotAfter
		}
		if certificate.NotAfter.After(bundle.LastNotAfter) {
			bundle.LastNotAfter = certificate.NotAfter
		}
	}
	return bundle, nil
}

// parseCertificates refuses damaged PEM blocks, which pem.Decode passes over: the runtime does not start with them.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	begun := bytes.Count(data, []byte("-----BEGIN "))
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds something else than certificates")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its certificate number %d cannot be read", len(certificates)+1)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New(`it holds no certificate in PEM ("-----BEGIN CERTIFICATE-----")`)
	}
	if damaged := begun - len(certificates); damaged > 0 {
		return nil, fmt.Errorf("%d of its %d PEM blocks are damaged", damaged, begun)
	}
	return certificates, nil
}

// ServerCertificate is what may be told of a server's certificate.
type ServerCertificate struct {
	chain []*x509.Certificate
	// SHA256 is the certificate's fingerprint, PublicKeySHA256 that of its key, 64 hex digits each.
	SHA256, PublicKeySHA256 string
	NotBefore, NotAfter     time.Time
}

// ParseServerCertificate reads a certificate with its chain and its private key, both in PEM.
func ParseServerCertificate(certificate, key []byte) (ServerCertificate, error) {
	if len(certificate) > maxChain {
		return ServerCertificate{}, fmt.Errorf("the certificate has %d bytes, a chain may have %d", len(certificate), maxChain)
	}
	if len(key) > maxPrivateKey {
		return ServerCertificate{}, fmt.Errorf("the private key has %d bytes, it may have %d", len(key), maxPrivateKey)
	}
	chain, err := parseCertificates(certificate)
	if err != nil {
		return ServerCertificate{}, fmt.Errorf("the certificate cannot be used: %w", err)
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		return ServerCertificate{}, errors.New("the private key cannot be read or does not belong to the certificate")
	}
	fingerprint, err := fingerprintOf(chain[0].PublicKey)
	if err != nil {
		return ServerCertificate{}, err
	}
	return ServerCertificate{
		chain: chain, SHA256: egress.Fingerprint(chain[0]), PublicKeySHA256: fingerprint,
		NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter,
	}, nil
}

// Misses returns the first of hostnames that the certificate does not hold, or an empty string.
func (c ServerCertificate) Misses(hostnames []string) string {
	for _, hostname := range hostnames {
		if c.chain[0].VerifyHostname(hostname) != nil {
			return hostname
		}
	}
	return ""
}

// Authority is what a server has to trust in order to accept the certificate, in PEM: of the certificates in ca, which may
// be none or unreadable, those that issued the top of the chain, or are it; else the top of the chain itself. It is nil if
// the chain is a single certificate that somebody else issued who is not there.
func (c ServerCertificate) Authority(ca []byte) []byte {
	top := c.chain[len(c.chain)-1]
	if found := issuersOf(top, ca); found != nil {
		return found
	}
	selfSigned := bytes.Equal(top.RawIssuer, top.RawSubject) && top.CheckSignature(top.SignatureAlgorithm, top.RawTBSCertificate, top.Signature) == nil
	if len(c.chain) == 1 && !selfSigned {
		return nil
	}
	return encodeCertificate(top)
}

// issuersOf are those certificates in ca that issued top, or are it, in PEM; nil if there are none.
func issuersOf(top *x509.Certificate, ca []byte) []byte {
	if len(ca) > maxBundle {
		return nil
	}
	authorities, err := parseCertificates(ca)
	if err != nil {
		return nil
	}
	var found []byte
	for _, authority := range authorities {
		if bytes.Equal(authority.Raw, top.Raw) || top.CheckSignatureFrom(authority) == nil {
			found = append(found, encodeCertificate(authority)...)
		}
	}
	return found
}

func encodeCertificate(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}
