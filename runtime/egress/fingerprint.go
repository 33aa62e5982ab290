package egress

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
)

var errFingerprint = errors.New("want the SHA-256 fingerprint of a certificate: 64 hex digits, or 32 pairs of them " +
	"with colons, as `openssl x509 -noout -fingerprint -sha256` prints after the equals sign")

// Fingerprint is the canonical fingerprint of a certificate: the SHA-256 of its DER form as 64 lower-case hex digits.
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// PublicKeyFingerprint is the canonical fingerprint of a certificate's public key: the SHA-256 of its SubjectPublicKeyInfo as
// 64 lower-case hex digits.
func PublicKeyFingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// ParseFingerprint reads a SHA-256 fingerprint in upper or lower case, with a colon between all bytes or none, and
// returns the form that Fingerprint gives.
func ParseFingerprint(text string) (string, error) {
	text = strings.TrimSpace(text)
	if strings.Contains(text, ":") {
		pairs := strings.Split(text, ":")
		for _, pair := range pairs {
			// A colon elsewhere than between two bytes is a sign of something lost while copying.
			if len(pair) != hex.EncodedLen(1) {
				return "", errFingerprint
			}
		}
		text = strings.Join(pairs, "")
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != sha256.Size {
		return "", errFingerprint
	}
	return hex.EncodeToString(sum), nil
}
