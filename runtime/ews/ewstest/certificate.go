package ewstest

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/localcert"
)

// NextCertificate makes the certificate that is to follow and returns its fingerprint. Nobody is shown it yet.
func (s *Server) NextCertificate() (fingerprint string, err error) {
	next, err := localcert.New("fake Exchange", s.options.Listen)
	if err != nil {
		return "", err
	}
	s.next.Store(&next)
	return fingerprintOf(&next), nil
}

// UseNextCertificate shows the next certificate from now on, and ends the connections that are idle.
func (s *Server) UseNextCertificate() {
	s.certificate.Store(s.next.Load())
	s.http.SetKeepAlivesEnabled(false)
	s.http.SetKeepAlivesEnabled(true)
}

// CertificatePEM is the server's certificate, usable as its own authority if the server made it.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Load().Certificate[0]})
}

// Fingerprint is the SHA-256 of the server's certificate in lower-case hex, as it is pinned.
func (s *Server) Fingerprint() string { return fingerprintOf(s.certificate.Load()) }

func fingerprintOf(certificate *tls.Certificate) string {
	sum := sha256.Sum256(certificate.Certificate[0])
	return hex.EncodeToString(sum[:])
}
