package testenv

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Dump writes a schema down with the server's own pg_dump, as docs/backup.md says: without owners and grants. The
// connection string is that of the schema's owner.
func (s *PostgresServer) Dump(ctx context.Context, url, schema string) ([]byte, error) {
	return s.client(ctx, nil, "pg_dump", "--dbname="+url, "--schema="+schema, "--no-owner", "--no-privileges")
}

// Restore plays a dump back with the server's own psql, all of it or nothing.
func (s *PostgresServer) Restore(ctx context.Context, url string, dump []byte) error {
	_, err := s.client(ctx, dump, "psql", "--dbname="+url, "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
	return err
}

// client runs one of the server's client programs. Its error does not repeat the connection string, which is among the
// arguments.
func (s *PostgresServer) client(ctx context.Context, input []byte, program string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, filepath.Join(s.programs, program), arguments...)
	var output, complaints bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &output, &complaints
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("running %s: %w: %s", program, err, complaints.Bytes())
	}
	return output.Bytes(), nil
}
