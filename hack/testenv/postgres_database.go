package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// dropLimit bounds the removal of a database after its test.
const dropLimit = 30 * time.Second

// Database is an empty database and the role that owns it: not a superuser, but with CREATEROLE, which is what the
// operator has in shared mode.
type Database struct {
	// Name is unique on its server, and made of lower-case letters, digits and underscores.
	Name string
	// Owner is the name of the owning role.
	Owner string
	// URL is the owner's connection string. It holds the owner's password.
	URL string
	// SuperuserURL is the superuser's connection string to this database, to look at what others may not see.
	SuperuserURL string
}

// NewDatabase makes a database for one test and removes it, with the sessions in it and its owner, when the test ends.
// Roles that the test made stay until the server stops.
func (s *PostgresServer) NewDatabase(t testing.TB) *Database {
	t.Helper()
	database, err := s.CreateDatabase(t.Context(), "test_"+strings.ToLower(rand.Text()[:10]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), dropLimit)
		defer cancel()
		if err := s.DropDatabase(ctx, database); err != nil {
			t.Error(err)
		}
	})
	return database
}

// CreateDatabase makes a database of that name and an owner named <name>_owner.
func (s *PostgresServer) CreateDatabase(ctx context.Context, name string) (*Database, error) {
	owner, password := name+"_owner", rand.Text()
	err := s.execute(ctx,
		// rand.Text has no character that would need quoting.
		"CREATE ROLE "+quote(owner)+" LOGIN CREATEROLE NOSUPERUSER PASSWORD '"+password+"'",
		"CREATE DATABASE "+quote(name)+" OWNER "+quote(owner)+" TEMPLATE template0",
	)
	if err != nil {
		return nil, fmt.Errorf("creating the database %s: %w", name, err)
	}
	return &Database{
		Name:         name,
		Owner:        owner,
		URL:          s.urlFor(owner, password, name),
		SuperuserURL: s.urlFor(superuser, s.password, name),
	}, nil
}

// DropDatabase removes a database, ending the sessions in it, and its owner.
func (s *PostgresServer) DropDatabase(ctx context.Context, database *Database) error {
	err := s.execute(ctx,
		"DROP DATABASE "+quote(database.Name)+" WITH (FORCE)",
		"DROP ROLE "+quote(database.Owner),
	)
	if err != nil {
		return fmt.Errorf("dropping the database %s: %w", database.Name, err)
	}
	return nil
}

// execute runs the statements one by one as the superuser. One at a time for the whole server: databases that are
// created at once wait for each other and then fail over their template.
func (s *PostgresServer) execute(ctx context.Context, statements ...string) error {
	s.creating.Lock()
	defer s.creating.Unlock()
	connection, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return fmt.Errorf("connecting as superuser: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }()
	for _, statement := range statements {
		if _, err := connection.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }
