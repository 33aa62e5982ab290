package ews

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// certificateError is a refused certificate. It names the one that was seen, so that it can be compared and pinned.
type certificateError struct {
	fingerprint string
	cause       error
}

func (e *certificateError) Error() string {
	return fmt.Sprintf("its certificate with the SHA-256 fingerprint %s was refused: %v; if this is the right server,"+
		" pin that fingerprint or the authority that issued it", e.fingerprint, e.cause)
}

func (e *certificateError) Unwrap() error { return e.cause }

// Is makes it an ErrCertificate.
func (e *certificateError) Is(target error) bool { return target == ErrCertificate }

func newCertificateError(leaf []byte, cause error) error {
	sum := sha256.Sum256(leaf)
	return &certificateError{fingerprint: hex.EncodeToString(sum[:]), cause: cause}
}

// explainCertificates returns a copy of config whose own checks, if they refuse, say which certificate was seen.
func explainCertificates(config *tls.Config) *tls.Config {
	if config == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config = config.Clone()
	if verify := config.VerifyPeerCertificate; verify != nil {
		config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
			err := verify(raw, chains)
			if err != nil && len(raw) > 0 {
				return newCertificateError(raw[0], err)
			}
			return err
		}
	}
	if verify := config.VerifyConnection; verify != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			err := verify(state)
			if err != nil && len(state.PeerCertificates) > 0 {
				return newCertificateError(state.PeerCertificates[0].Raw, err)
			}
			return err
		}
	}
	return config
}

// certificateCause turns the standard library's verification error into a certificateError.
func certificateCause(err error) error {
	verification, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if ok && len(verification.UnverifiedCertificates) > 0 {
		return newCertificateError(verification.UnverifiedCertificates[0].Raw, verification.Err)
	}
	return err
}
