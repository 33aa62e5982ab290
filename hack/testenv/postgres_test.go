package testenv_test

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func TestMain(m *testing.M) {
	testenv.Main(m, testenv.WithKube(testenv.WithoutProjectCRDs(), testenv.WithCertManager()))
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close(t.Context()) })
	return connection
}

func show(t *testing.T, connection *pgx.Conn, query string) string {
	t.Helper()
	var value string
	if err := connection.QueryRow(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestDatabaseIsOwnedByARoleLikeTheOperators(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t).NewDatabase(t)
	connection := connect(t, database.URL)
	for query, want := range map[string]string{
		"SELECT current_database()": database.Name,
		"SELECT current_user":       database.Owner,
		"SELECT rolcreaterole::text FROM pg_roles WHERE rolname = current_user":         "true",
		"SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user":              "false",
		"SELECT count(*)::text FROM pg_tables WHERE schemaname !~ '^(pg_|information)'": "0",
		"SHOW fsync":               "off",
		"SHOW password_encryption": "scram-sha-256",
		"SHOW server_encoding":     "UTF8",
	} {
		if got := show(t, connection, query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, statement := range []string{"CREATE SCHEMA tenant", "CREATE ROLE " + database.Name + "_tenant", "DROP ROLE " + database.Name + "_tenant"} {
		if _, err := connection.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestDatabaseRefusesAWrongPassword(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(testenv.Postgres(t).NewDatabase(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "wrong"
	_, err = pgx.ConnectConfig(t.Context(), config)
	const invalidPassword = "28P01"
	if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != invalidPassword {
		t.Fatalf("connecting with a wrong password: %v, want SQLSTATE %s", err, invalidPassword)
	}
}

func TestDatabasesOfParallelTestsAreApart(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			connection := connect(t, testenv.Postgres(t).NewDatabase(t).URL)
			if _, err := connection.Exec(t.Context(), "CREATE TABLE one_and_only (id int)"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestStoppedPostgresLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // as root: a folder that the user Postgres runs as cannot enter
	server, err := testenv.StartPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	connection := connect(t, server.URL())
	if got := show(t, connection, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s without options, want on", got)
	}
	sandbox := filepath.Dir(filepath.Dir(show(t, connection, "SHOW data_directory")))
	for range 2 {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	awaitGone(t, sandbox, 0)
}
