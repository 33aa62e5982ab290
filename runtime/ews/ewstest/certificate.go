package ewstest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
)

// CertificatePEM is the server's certificate, usable as its own authority if the server made it.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Certificate[0]})
}

// Fingerprint is the SHA-256 of the server's certificate in lower-case hex, as it is pinned.
func (s *Server) Fingerprint() string {
	sum := sha256.Sum256(s.certificate.Certificate[0])
	return hex.EncodeToString(sum[:])
}
