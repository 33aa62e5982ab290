package migrations_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var acme = migrations.Identity{ClusterID: "c1", Namespace: "mail", Name: "acme"}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// owner is the operator's connection to a fresh database with an empty schema of that name.
func owner(t *testing.T, schema string) *pgx.Conn {
	t.Helper()
	conn := connect(t, testenv.Postgres(t).NewDatabase(t).URL)
	execute(t, conn, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// contents is all that a migration could have changed: every table, column, index and constraint, and the rows of meta.
func contents(t *testing.T, conn *pgx.Conn, schema string) string {
	t.Helper()
	const query = `
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT format('%s %s %s %s', c.oid, c.relkind, c.relname, c.relfilenode) FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
    UNION ALL SELECT format('%s.%s %s', table_name, column_name, data_type) FROM information_schema.columns WHERE table_schema = $1
    UNION ALL SELECT format('%s %s', conrelid, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
) AS l(line)`
	var text *string
	if err := conn.QueryRow(t.Context(), query, schema).Scan(&text); err != nil {
		t.Fatal(err)
	}
	if text == nil {
		return ""
	}
	var meta string
	rows := `SELECT string_agg(key || '=' || value || ' ' || xmin, E'\n' ORDER BY key) FROM ` + pgx.Identifier{schema}.Sanitize() + `.meta`
	if err := conn.QueryRow(t.Context(), rows).Scan(&meta); err != nil {
		t.Fatal(err)
	}
	return *text + "\n" + meta
}

func TestMigrateMakesAFreshSchemaAndThenNothing(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string]string{
		"an ordinary name":           "ens_mail_acme_465d18d886",
		"a name that needs quoting":  `Ens "mail", acme; DROP TABLE x`,
		"the longest that there is":  strings.Repeat("a", 63),
		"the name of another schema": "public2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := owner(t, schema)
			for range 2 {
				before := contents(t, conn, schema)
				version, err := migrations.Migrate(t.Context(), conn, schema, acme)
				if err != nil || version != migrations.Version {
					t.Fatalf("got version %d, %v, want %d", version, err, migrations.Version)
				}
				after := contents(t, conn, schema)
				if before != "" && before != after {
					t.Errorf("the second migration changed\n%s\nto\n%s", before, after)
				}
				if after == "" {
					t.Error("the schema is empty")
				}
			}
			var path string
			if err := conn.QueryRow(t.Context(), "SHOW search_path").Scan(&path); err != nil || strings.Contains(path, schema) {
				t.Errorf("the connection keeps the search path %s (%v), which the next tenant's migration would see", path, err)
			}
			var elsewhere int
			const others = `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace`
			if err := conn.QueryRow(t.Context(), others).Scan(&elsewhere); err != nil || elsewhere != 0 {
				t.Errorf("%d tables and indexes were made in another schema (%v)", elsewhere, err)
			}
		})
	}
}

func TestMigrateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	const operators = 4
	database := testenv.Postgres(t).NewDatabase(t)
	execute(t, connect(t, database.URL), "CREATE SCHEMA tenant")
	connections := make([]*pgx.Conn, operators)
	for i := range connections {
		connections[i] = connect(t, database.URL)
	}
	var operating sync.WaitGroup
	for _, conn := range connections {
		operating.Go(func() {
			if version, err := migrations.Migrate(t.Context(), conn, "tenant", acme); err != nil || version != migrations.Version {
				t.Errorf("got version %d, %v", version, err)
			}
		})
	}
	operating.Wait()
}

func TestMigrateLeavesAloneWhatItMust(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange  string
		identity migrations.Identity
		want     error
	}{
		"another cluster's":   {"", migrations.Identity{ClusterID: "c2", Namespace: "mail", Name: "acme"}, migrations.ErrForeignSchema},
		"another namespace's": {"", migrations.Identity{ClusterID: "c1", Namespace: "post", Name: "acme"}, migrations.ErrForeignSchema},
		"another tenant's":    {"", migrations.Identity{ClusterID: "c1", Namespace: "mail", Name: "acme2"}, migrations.ErrForeignSchema},
		"another tenant's that has only been claimed so far": {
			"DELETE FROM tenant.meta WHERE key NOT IN ('name')", migrations.Identity{ClusterID: "c1", Namespace: "mail", Name: "b"},
			migrations.ErrForeignSchema,
		},
		"a newer operator's": {
			"UPDATE tenant.meta SET value = '99' WHERE key = 'schema_version'", acme, migrations.ErrNewerSchema,
		},
		"one with a version that is no number": {
			"UPDATE tenant.meta SET value = 'x' WHERE key = 'schema_version'", acme, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := owner(t, "tenant")
			if _, err := migrations.Migrate(t.Context(), conn, "tenant", acme); err != nil {
				t.Fatal(err)
			}
			execute(t, conn, test.arrange)
			before := contents(t, conn, "tenant")
			_, err := migrations.Migrate(t.Context(), conn, "tenant", test.identity)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
			if after := contents(t, conn, "tenant"); after != before {
				t.Errorf("it changed\n%s\nto\n%s", before, after)
			}
			if got := conn.PgConn().TxStatus(); got != 'I' {
				t.Errorf("the connection is left in transaction state %c", got)
			}
		})
	}
	t.Run("a schema that does not exist", func(t *testing.T) {
		t.Parallel()
		conn := owner(t, "tenant")
		if _, err := migrations.Migrate(t.Context(), conn, "other", acme); err == nil {
			t.Error("no error")
		}
		if got := contents(t, conn, "public"); got != "" {
			t.Errorf("it made %s", got)
		}
	})
}

func TestCheckSaysWhichSideToUpgrade(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange string
		want    error
		says    string
	}{
		"an up-to-date schema": {"", nil, ""},
		"a newer schema that this runtime can still work with": {
			"UPDATE meta SET value = '99' WHERE key = 'schema_version'", nil, "",
		},
		"a newer schema that this runtime cannot work with": {
			"UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'minimum_runtime_schema')",
			migrations.ErrNewerSchema, "upgrade the runtime",
		},
		"a schema that has been claimed but not migrated": {
			"DELETE FROM meta WHERE key = 'schema_version'", migrations.ErrOlderSchema, "upgrade the operator",
		},
		"no tables":                  {"DROP TABLE meta", migrations.ErrNoSchema, "is the operator running"},
		"a role that may not see it": {"REVOKE USAGE ON SCHEMA tenant FROM %s", migrations.ErrNoSchema, "the tenant's own role"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			if test.arrange != "" {
				schema.Exec(t, strings.ReplaceAll(test.arrange, "%s", schema.Role))
			}
			runtime := connect(t, schema.URL.RevealString())
			err := migrations.Check(t.Context(), runtime)
			if !errors.Is(err, test.want) || test.want != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got error %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}

func TestGrantedRoleMayDoWhatTheRuntimeDoesAndNoMore(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t).NewDatabase(t)
	acme, other := storetest.On(t, database, "acme"), storetest.On(t, database, "other")
	const insertUser = `INSERT INTO users (user_hash, key_id, public_key, private_key, created_at)
VALUES (decode(repeat('00', 32), 'hex'), 'k', '', '', now())`
	other.Exec(t, insertUser)
	acme.Exec(t, insertUser)
	// A repeated grant, as every reconcile may do it, takes and gives nothing.
	if err := migrations.Grant(t.Context(), connect(t, database.URL), acme.Name, acme.Role); err != nil {
		t.Fatal(err)
	}
	const denied, missing = "42501", "42P01"
	for name, test := range map[string]struct{ sql, code string }{
		"read rows":                 {"SELECT * FROM users", ""},
		"write rows":                {"UPDATE users SET key_id = 'x'", ""},
		"delete rows":               {"DELETE FROM users", ""},
		"take an identity":          {"INSERT INTO key_pool (key_id, public_key, private_key, created_at) VALUES ('', '', '', now())", ""},
		"take a generation":         {"SELECT nextval('generations')", ""},
		"turn generations back":     {"SELECT setval('generations', 1)", denied},
		"read meta":                 {"SELECT * FROM meta", ""},
		"add to meta":               {"INSERT INTO meta VALUES ('kek/1', 'x') ON CONFLICT (key) DO NOTHING", ""},
		"change meta":               {"UPDATE meta SET value = '99' WHERE key = 'schema_version'", denied},
		"change meta by a conflict": {"INSERT INTO meta VALUES ('name', 'x') ON CONFLICT (key) DO UPDATE SET value = 'x'", denied},
		"delete from meta":          {"DELETE FROM meta", denied},
		"make a table":              {"CREATE TABLE mine (x int)", denied},
		"make a table in public":    {"CREATE TABLE public.mine (x int)", denied},
		"make a function":           {"CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", denied},
		"drop a table":              {"DROP TABLE activity", denied},
		"alter a table":             {"ALTER TABLE users ADD COLUMN x int", denied},
		"empty a table at once":     {"TRUNCATE activity", denied},
		"make a schema":             {"CREATE SCHEMA mine", denied},
		"make a role":               {"CREATE ROLE mine", denied},
		"read another tenant":       {"SELECT * FROM other.users", denied},
		"write another tenant":      {"DELETE FROM other.users", denied},
		"take another's generation": {"SELECT nextval('other.generations')", denied},
		"reach another by its path": {"SET LOCAL search_path = other; SELECT * FROM users", missing},
		"become another tenant":     {"SET ROLE " + other.Role, denied},
		"read the server's files":   {"SELECT pg_read_file('postgresql.conf')", denied},
		"read the passwords":        {"SELECT * FROM pg_authid", denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runtime := connect(t, acme.URL.RevealString())
			tx, err := runtime.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			_, err = tx.Exec(t.Context(), test.sql)
			code := ""
			if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
				code = refusal.Code
			} else if err != nil {
				t.Fatal(err)
			}
			if code != test.code {
				t.Errorf("got SQLSTATE %q (%v), want %q", code, err, test.code)
			}
		})
	}
}
