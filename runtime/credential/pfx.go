package credential

import (
	"crypto/x509"

	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// maxPFX is more than what fits the longest payload, in bytes.
const maxPFX = 24 << 10

// openPFX takes the certificate and its key out of a PKCS#12 file. Every failure is ErrUndecryptable.
func openPFX(file []byte, password secret.Value) (Certificate, error) {
	if len(file) > maxPFX {
		return Certificate{}, ErrUndecryptable
	}
	opened, err := pfx.Open(file, password)
	if err != nil {
		return Certificate{}, ErrUndecryptable
	}
	key, err := x509.MarshalPKCS8PrivateKey(opened.PrivateKey)
	if err != nil {
		return Certificate{}, ErrUndecryptable
	}
	certificate := Certificate{Key: secret.New(key)}
	for _, der := range opened.Certificate {
		certificate.Chain = append(certificate.Chain, secret.New(der))
	}
	return certificate, nil
}
