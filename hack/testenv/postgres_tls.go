package testenv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// The files of a server's certificate, in its data folder.
const (
	certificateFile = "server.crt"
	keyFile         = "server.key"
)

// WithTLS has the server take connections with TLS, too, with a certificate and its key in PEM. The connection strings stay
// without; who tests TLS sets another sslmode, and localhost as the host if the certificate has that name.
func WithTLS(certificate, key string) PostgresOption {
	return func(s *postgresSettings) { s.certificate, s.key = certificate, key }
}

// ServeCertificate replaces the certificate of a server that was started WithTLS. Connections that are open stay.
func (s *PostgresServer) ServeCertificate(ctx context.Context, certificate, key string) error {
	s.settings.certificate, s.settings.key = certificate, key
	if err := s.writeCertificate(); err != nil {
		return err
	}
	connection, err := pgx.Connect(ctx, s.ownURL())
	if err != nil {
		return fmt.Errorf("connecting as superuser: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }()
	if _, err := connection.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("having the certificate read: %w", err)
	}
	return nil
}

// writeCertificate puts the certificate where the server reads it, if it has one.
func (s *PostgresServer) writeCertificate() error {
	if s.settings.certificate == "" {
		return nil
	}
	return errors.Join(
		s.account.write(filepath.Join(s.dataFolder(), certificateFile), s.settings.certificate),
		s.account.write(filepath.Join(s.dataFolder(), keyFile), s.settings.key))
}
