package credentials

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// ClientCertificate is what may be told of a certificate with its private key.
type ClientCertificate struct {
	// CommonName is what the certificate calls its owner.
	CommonName string
	// PublicKeySHA256 is the fingerprint of its key, 64 hex digits.
	PublicKeySHA256 string
	NotAfter        time.Time

	leaf *x509.Certificate
}

// ServesAPNs says why the certificate is not good for pushes to Apple, nil if it is as far as it says.
func (c ClientCertificate) ServesAPNs(topics []string, environment config.PushEnvironment) error {
	said, err := config.ReadPushCertificate(c.leaf)
	if err != nil {
		return err
	}
	return said.Serves(topics, environment)
}

// ParsePKCS12 reads a PKCS #12 file with one private key, RSA or elliptic, its certificate, and the chain of that.
func ParsePKCS12(file []byte, password secret.Value) (ClientCertificate, error) {
	opened, err := pfx.Open(file, password)
	if err != nil {
		return ClientCertificate{}, err
	}
	switch key := opened.PrivateKey.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < minRSABits {
			return ClientCertificate{}, fmt.Errorf("its RSA key has less than %d bits", minRSABits)
		}
	case *ecdsa.PrivateKey:
	default:
		return ClientCertificate{}, errors.New("its key is neither an RSA nor an elliptic (ECDSA) key")
	}
	fingerprint, err := fingerprintOf(opened.Leaf.PublicKey)
	return ClientCertificate{
		CommonName: opened.Leaf.Subject.CommonName, PublicKeySHA256: fingerprint, NotAfter: opened.Leaf.NotAfter, leaf: opened.Leaf,
	}, err
}
