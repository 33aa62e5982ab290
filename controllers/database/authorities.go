package database

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/runtime/store/databaseurl"
)

// AuthoritiesKey is what the certificate authorities are called that stand beside a connection string.
const AuthoritiesKey = "ca.crt"

// AuthoritiesError says that the certificate authorities cannot be read.
type AuthoritiesError struct{ Err error }

// Error implements error.
func (e *AuthoritiesError) Error() string {
	return fmt.Sprintf("the certificate authorities in %s cannot be used: %v", AuthoritiesKey, e.Err)
}

// Unwrap gives the cause.
func (e *AuthoritiesError) Unwrap() error { return e.Err }

// Authorities are the certificate authorities, in PEM, that the server is verified against, nil for the system's. The pods
// are to have them, too. The error is an *AuthoritiesError.
func (s *Server) Authorities() ([]byte, error) {
	bundle, _, err := readAuthorities(s.authorities)
	return bundle, err
}

// readAuthorities asks for the authorities; nil are the system's. The error is an *AuthoritiesError.
func readAuthorities(source func() ([]byte, error)) ([]byte, *x509.CertPool, error) {
	if source == nil {
		return nil, nil, nil
	}
	bundle, err := source()
	if err != nil {
		return nil, nil, &AuthoritiesError{err}
	}
	if bundle == nil {
		return nil, nil, nil
	}
	if _, err := credentials.ParseBundle(bundle); err != nil {
		return nil, nil, &AuthoritiesError{err}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	return bundle, pool, nil
}

// parseVerifying reads a connection string, of which an *AuthoritiesError says nothing.
func parseVerifying(text string, source func() ([]byte, error)) (*pgx.ConnConfig, error) {
	_, pool, err := readAuthorities(source)
	if err != nil {
		return nil, err
	}
	if pool != nil {
		text = withSSLMode(text, databaseurl.Verifying(sslModeIn(text)))
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errors.New("the operator's database URL cannot be read (the reason is left out, it may quote a password)")
	}
	databaseurl.Trust(&config.Config, pool)
	return config, nil
}

// verify has a connection that is about to be made verify the server as the first one did, against what the authorities are
// now.
func (s *Server) verify(c *pgx.ConnConfig) error {
	if s.authorities == nil {
		return nil
	}
	fresh, err := parseVerifying(s.text.RevealString(), s.authorities)
	if err != nil {
		return err
	}
	c.TLSConfig, c.Fallbacks = fresh.TLSConfig, fresh.Fallbacks
	return nil
}

// Untrusted is what is wrong with the server's certificate, nil if nothing is known to be.
func Untrusted(err error) error {
	if unverified, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return unverified.Err
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknown
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return invalid
	}
	return nil
}
