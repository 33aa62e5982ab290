package authn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// parseCertificate makes a user's certificate presentable. What it returns shares the secret's bytes, but the parsed key
// cannot be wiped: it lives as long as the Conn.
func parseCertificate(c credential.Certificate) (tls.Certificate, error) {
	if len(c.Chain) == 0 {
		return tls.Certificate{}, fmt.Errorf("%w: there is no client certificate in the credential", ErrNotAvailable)
	}
	key, err := x509.ParsePKCS8PrivateKey(c.Key.Reveal())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: the client certificate's private key cannot be read", ErrNotAvailable)
	}
	certificate := tls.Certificate{PrivateKey: key}
	for _, der := range c.Chain {
		certificate.Certificate = append(certificate.Certificate, der.Reveal())
	}
	return certificate, nil
}

// presentCertificate returns a copy of config that presents the user's certificate to a server that asks for one.
//
// IIS asks for the certificate of a single directory only after it has read the request, by renegotiating (TLS 1.2) or
// by asking after the handshake (TLS 1.3). Go knows the former as a client and not the latter, so such connections end
// at TLS 1.2 unless the endpoint wants 1.3; with that, IIS has to ask for the certificate in the handshake itself
// ("Negotiate Client Certificate" of the binding). In a renegotiation Go insists on the very server certificate that
// was verified and pinned in the first handshake.
//
// There is no session cache, because a resumed session would bring along the certificate of whoever opened it.
func (c *Conn) presentCertificate(config *tls.Config) *tls.Config {
	config = config.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.MinVersion < tls.VersionTLS13 {
		config.MaxVersion = tls.VersionTLS12
	}
	config.Renegotiation = tls.RenegotiateOnceAsClient
	config.ClientSessionCache = nil
	// The list of authorities in the server's request is not heeded: IIS cuts it off at 16 kB, and the server judges the
	// certificate in any case.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c.askedFor.Store(true)
		return c.certificate, nil
	}
	return config
}
