package fake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	keyBits  = 2048
	validity = 30 * 24 * time.Hour
)

// Authority issues client certificates.
type Authority struct {
	// Pool trusts what the authority issues.
	Pool *x509.CertPool

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority. No server trusts it but the one it was made by.
func NewAuthority(commonName string) *Authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate := sign(template, template, key.Public(), key)
	a := &Authority{certificate: certificate, key: key, Pool: x509.NewCertPool()}
	a.Pool.AddCert(certificate)
	return a
}

// PFX issues a certificate with an RSA key, as a PKCS#12 file with the chain.
func (a *Authority) PFX(commonName, password string, notAfter time.Time) []byte {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	return a.PFXFor(key, commonName, password, notAfter)
}

// PFXFor is PFX for a key that is given.
func (a *Authority) PFXFor(key crypto.Signer, commonName, password string, notAfter time.Time) []byte {
	return a.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: commonName}, NotAfter: notAfter}, key, password)
}

// Issue issues a client certificate with a subject, an end and extensions as of the template, as a PKCS#12 file.
func (a *Authority) Issue(template *x509.Certificate, key crypto.Signer, password string) []byte {
	template.SerialNumber, template.NotBefore = serial(), template.NotAfter.Add(-validity)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	certificate := sign(template, a.certificate, key.Public(), a.key)
	file, err := pkcs12.Modern2023.Encode(key, certificate, []*x509.Certificate{a.certificate}, password)
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	return file
}

func sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	return certificate
}

func serial() *big.Int {
	const bits = 64
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits))
	if err != nil {
		panic("fake authority: " + err.Error())
	}
	return number
}
