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
	"crypto/rand"
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
	// Store is a replica's, open.
	Store *store.Store
	// URL is the connection string of the login role, as the runtime's secrets/database-url has it.
	URL secret.Value
	// Looking is a pool of the server's superuser, to see and to arrange what the runtime itself may not. Its search
	// path is the schema.
	Looking *pgxpool.Pool
	// Name is the schema's, Role the login role's.
	Name, Role string
	// Identity is the tenant the schema was claimed for.
	Identity migrations.Identity
	// Database is where the schema lies.
	Database *testenv.Database
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
	s := &Schema{
		Name: name, Role: database.Name + "_" + name, Database: database,
		Identity: migrations.Identity{ClusterID: database.Name, Namespace: "mail", Name: name},
	}
	conn, err := pgx.Connect(t.Context(), database.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	password := rand.Text() // has no character that would need quoting
	statements := []string{
		"CREATE SCHEMA " + quote(s.Name),
		"CREATE ROLE " + quote(s.Role) + " LOGIN PASSWORD '" + password + "'",
		"ALTER ROLE " + quote(s.Role) + " SET search_path = " + quote(s.Name),
	}
	for setting, value := range loginSettings {
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", quote(s.Role), setting, value))
	}
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := migrations.Migrate(t.Context(), conn, s.Name, s.Identity); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Grant(t.Context(), conn, s.Name, s.Role); err != nil {
		t.Fatal(err)
	}
	s.URL = loginURL(t, database.URL, s.Role, password)
	s.Looking = looking(t, database.SuperuserURL, s.Name)
	s.Store = s.Open(t)
	return s
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

func loginURL(t testing.TB, ownerURL, role, password string) secret.Value {
	t.Helper()
	address, err := url.Parse(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, password)
	return secret.FromString(address.String())
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
