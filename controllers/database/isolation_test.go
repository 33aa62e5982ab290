package database_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// denied is the SQLSTATE of what a role may not do.
const denied = "42501"

// relations are the tables or sequences of a schema, by what pg_class calls their kind.
func relations(t *testing.T, admin *pgx.Conn, schema, kind string) []string {
	t.Helper()
	rows, err := admin.Query(t.Context(), "SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = $2::\"char\"", schema, kind)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		t.Fatalf("the schema has no relations of kind %s (%v)", kind, err)
	}
	return names
}

// refused reports whether a statement is refused for want of a right.
func refused(t *testing.T, conn *pgx.Conn, statement string) bool {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), statement)
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refusal.Code == denied
}

// pair are two tenants in one database, one of which is nosy.
type pair struct {
	own   *testenv.Database
	admin *pgx.Conn
	nosy  *pgx.Conn
	// mine and other are what the nosy one and the other one have.
	mine, other struct{ schema, login string }
	// session is the backend of the other one's session, operators that of one of the operator's role.
	session, operators uint32
}

func newPair(t *testing.T) *pair {
	t.Helper()
	server, own := newServer(t)
	p := &pair{own: own, admin: connect(t, own.SuperuserURL)}
	nosy, mine := login(t, server, tenantOf(own, "acme"))
	theirs, other := login(t, server, tenantOf(own, "other"))
	operator := connect(t, own.URL)
	p.nosy, p.session, p.operators = nosy, theirs.PgConn().PID(), operator.PgConn().PID()
	p.mine.schema, p.mine.login = mine.Schema, mine.Logins[0]
	p.other.schema, p.other.login = other.Schema, other.Logins[0]
	if _, err := operator.Exec(t.Context(), "CREATE TABLE public.operators_own (x int)"); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Exec(t.Context(), "SELECT 'a secret of the other tenant'"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestATenantReachesNothingOfAnother(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, table := range relations(t, p.admin, p.other.schema, "r") {
		column := ""
		const first = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' ORDER BY attnum LIMIT 1"
		if err := p.admin.QueryRow(t.Context(), first, p.other.schema+"."+table).Scan(&column); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"SELECT 1 FROM %s.%s", "SELECT count(*) FROM %s.%s", "INSERT INTO %s.%s DEFAULT VALUES", "UPDATE %s.%s SET " + column + " = DEFAULT",
			"DELETE FROM %s.%s", "TRUNCATE %s.%s", "LOCK TABLE %s.%s IN ACCESS SHARE MODE", "LOCK TABLE %s.%s IN ACCESS EXCLUSIVE MODE",
			"COPY %s.%s TO STDOUT", "ALTER TABLE %s.%s ADD COLUMN mine int", "CREATE INDEX ON %s.%s (" + column + ")", "ANALYZE %s.%s", "DROP TABLE %s.%s",
		} {
			if theirs := fmt.Sprintf(statement, p.other.schema, table); !refused(t, p.nosy, theirs) {
				t.Errorf("not refused: %s", theirs)
			}
		}
		// The same on its own schema shows that the refusals are about whose it is.
		for _, statement := range []string{"SELECT 1 FROM %s.%s", "LOCK TABLE %s.%s IN ACCESS SHARE MODE"} {
			if own := fmt.Sprintf(statement, p.mine.schema, table); refused(t, p.nosy, own) {
				t.Errorf("refused: %s", own)
			}
		}
	}
	for _, sequence := range relations(t, p.admin, p.other.schema, "S") {
		for _, statement := range []string{"SELECT nextval('%s.%s')", "SELECT setval('%s.%s', 1)", "SELECT last_value FROM %s.%s"} {
			if theirs := fmt.Sprintf(statement, p.other.schema, sequence); !refused(t, p.nosy, theirs) {
				t.Errorf("not refused: %s", theirs)
			}
		}
	}
}

func TestATenantBecomesNobodyElse(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, statement := range []string{
		"SET ROLE $other", "SET ROLE $login", "SET ROLE $operator", "SET SESSION AUTHORIZATION $login", "SET SESSION AUTHORIZATION $operator",
		"GRANT $other TO CURRENT_USER", "GRANT $operator TO CURRENT_USER", "GRANT SELECT ON ALL TABLES IN SCHEMA $other TO CURRENT_USER",
		"ALTER ROLE $login PASSWORD 'mine'", "ALTER ROLE $login NOLOGIN", "ALTER ROLE $login SET search_path = public", "ALTER ROLE $operator PASSWORD 'mine'",
		"ALTER ROLE CURRENT_USER CREATEROLE", "DROP ROLE $login", "CREATE ROLE mine", "CREATE DATABASE mine", "CREATE SCHEMA mine",
		"ALTER SCHEMA $other OWNER TO CURRENT_USER", "DROP SCHEMA $other CASCADE", "CREATE TABLE $other.mine (x int)", "CREATE TABLE public.mine (x int)",
		"SELECT * FROM public.operators_own", "SELECT * FROM pg_authid", "SELECT pg_read_file('postgresql.conf')", "COPY (SELECT 1) TO PROGRAM 'true'",
		"SELECT pg_terminate_backend($session)", "SELECT pg_cancel_backend($session)", "SELECT pg_terminate_backend($operators)",
		"ALTER DATABASE $database SET search_path = mine", "COMMENT ON DATABASE $database IS 'mine'", "CREATE EXTENSION postgres_fdw",
	} {
		named := strings.NewReplacer("$other", p.other.schema, "$login", p.other.login, "$operators", fmt.Sprint(p.operators), "$operator", p.own.Owner,
			"$session", fmt.Sprint(p.session), "$database", p.own.Name).Replace(statement)
		if named == "CREATE DATABASE mine" { // not in a transaction
			_, err := p.nosy.Exec(t.Context(), named)
			if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != denied {
				t.Errorf("%s: %v", named, err)
			}
			continue
		}
		if !refused(t, p.nosy, named) {
			t.Errorf("not refused: %s", named)
		}
	}
}

func TestATenantSeesNothingOfAnother(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for what, query := range map[string]string{
		"tables in the information schema":    "SELECT count(*) FROM information_schema.tables WHERE table_schema = $1",
		"columns in the information schema":   "SELECT count(*) FROM information_schema.columns WHERE table_schema = $1",
		"sequences in the information schema": "SELECT count(*) FROM information_schema.sequences WHERE sequence_schema = $1",
		"statistics of columns":               "SELECT count(*) FROM pg_stats WHERE schemaname = $1",
		"what sessions do":                    "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 || '_a' AND (query LIKE '%secret%' OR client_addr IS NOT NULL)",
		"rights":                              "SELECT has_schema_privilege($1, 'USAGE')::int + has_schema_privilege($1, 'CREATE')::int",
		"memberships":                         "SELECT pg_has_role($1, 'MEMBER')::int + pg_has_role($1 || '_a', 'MEMBER')::int",
	} {
		var mine, theirs int
		if err := p.nosy.QueryRow(t.Context(), query, p.other.schema).Scan(&theirs); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if theirs != 0 {
			t.Errorf("%s: it sees %d of the other tenant", what, theirs)
		}
		if what == "statistics of columns" {
			continue // there are none before there are rows
		}
		if err := p.nosy.QueryRow(t.Context(), query, p.mine.schema).Scan(&mine); err != nil || mine == 0 {
			t.Errorf("%s: it sees %d of its own (%v), so the look shows nothing", what, mine, err)
		}
	}
}
