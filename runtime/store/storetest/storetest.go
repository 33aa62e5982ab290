// Package storetest gives a test a tenant's database: on a real Postgres, with the tables as migrations make them,
// reached by a login role that may do no more than the runtime's. It needs the test environment of hack/testenv and is
// for tests only.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestListener(t *testing.T) {
//		schema := storetest.New(t)
//		listener := callback.NewListener(callback.Options{Store: schema.Store, ...})
//		...
//		if got := storetest.Value[int](t, schema, `SELECT count(*) FROM pending`); got != 1 { ... }
//	}
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// Schema is a tenant's schema in a database of the test's own. All of it is gone when the test ends.
type Schema struct {
	Made

	// Store is a replica's, open.
	Store *store.Store
	// Looking is a pool of the server's superuser, to see and to arrange what the runtime itself may not. Its search
	// path is the schema.
	Looking *pgxpool.Pool
}

// loginSettings are what the operator sets beside the search path, so that a statement that takes a lock for too long
// fails in a test as well.
var loginSettings = map[string]string{
	"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "30s",
}

// New makes a tenant's schema in a fresh database of the server that the tests of the process share.
func New(t testing.TB) *Schema {
	t.Helper()
	return On(t, testenv.Postgres(t).NewDatabase(t), "tenant")
}

// On makes a tenant's schema of that name in a database that may hold others.
func On(t testing.TB, database *testenv.Database, name string) *Schema {
	t.Helper()
	made, err := Make(t.Context(), database, name)
	if err != nil {
		t.Fatal(err)
	}
	s := &Schema{Made: made}
	s.Looking = looking(t, database.SuperuserURL, s.Name)
	s.Store = s.Open(t)
	return s
}

// Made is a tenant's schema that nobody has opened.
type Made struct {
	// URL is the connection string of the login role, as the runtime's secrets/database-url has it.
	URL secret.Value
	// Name is the schema's, Role the login role's.
	Name, Role string
	// Identity is the tenant the schema was claimed for.
	Identity migrations.Identity
	// Database is where the schema lies.
	Database *testenv.Database
}

// Make is On outside of a test: it makes the schema with its tables, and the role.
func Make(ctx context.Context, database *testenv.Database, name string) (Made, error) {
	password := rand.Text() // has no character that would need quoting
	made := Made{
		Name: name, Role: database.Name + "_" + name, Database: database,
		Identity: migrations.Identity{ClusterID: database.Name, Namespace: "mail", Name: name},
	}
	address, err := url.Parse(database.URL)
	if err != nil {
		return Made{}, errors.New("the database's URL cannot be parsed")
	}
	address.User = url.UserPassword(made.Role, password)
	made.URL = secret.FromString(address.String())
	conn, err := pgx.Connect(ctx, database.URL)
	if err != nil {
		return Made{}, fmt.Errorf("connecting as the database's owner: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	statements := []string{
		"CREATE SCHEMA " + quote(made.Name),
		"CREATE ROLE " + quote(made.Role) + " LOGIN PASSWORD '" + password + "'",
		"ALTER ROLE " + quote(made.Role) + " SET search_path = " + quote(made.Name),
	}
	for setting, value := range loginSettings {
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", quote(made.Role), setting, value))
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return Made{}, fmt.Errorf("setting up the schema %s: %w", made.Name, err)
		}
	}
	if _, err := migrations.Migrate(ctx, conn, made.Name, made.Identity); err != nil {
		return Made{}, err
	}
	return made, migrations.Grant(ctx, conn, made.Name, made.Role)
}

// Open opens the schema once more, as another replica does.
func (s *Schema) Open(t testing.TB) *store.Store {
	t.Helper()
	opened, err := store.Open(t.Context(), s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	return opened
}

// Exec arranges something as the superuser.
func (s *Schema) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := s.Looking.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Value looks one value up as the superuser.
func Value[T any](t testing.TB, s *Schema, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := s.Looking.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func looking(t testing.TB, superuserURL, schema string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(superuserURL)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = quote(schema)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }
