package database_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newServer returns a database of the test's own as the operator sees it.
func newServer(t *testing.T) (*database.Server, *testenv.Database) {
	t.Helper()
	own := testenv.Postgres(t).NewDatabase(t)
	server, err := database.Open(t.Context(), database.Options{
		URL: func() (secret.Value, error) { return secret.FromString(own.URL), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server, own
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func tenantOf(own *testenv.Database, name string) migrations.Identity {
	return migrations.Identity{ClusterID: own.Name, Namespace: "mail", Name: name}
}

// login provisions the tenant and connects as its runtime.
func login(t *testing.T, server *database.Server, tenant migrations.Identity) (*pgx.Conn, database.Names) {
	t.Helper()
	names, password := database.NamesFor(tenant), database.NewPassword()
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if err := server.SetPassword(t.Context(), names.Logins[0], password); err != nil {
		t.Fatal(err)
	}
	return connect(t, server.RuntimeURL(names.Logins[0], password).RevealString()), names
}

func TestNamesFitAndDiffer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Ä-very.long", 20)
	seen := map[string]migrations.Identity{}
	for _, tenant := range []migrations.Identity{
		{ClusterID: "c", Namespace: "a", Name: "b"},
		{ClusterID: "d", Namespace: "a", Name: "b"},
		{ClusterID: "c", Namespace: "a-b", Name: "c"},
		{ClusterID: "c", Namespace: "a", Name: "b-c"},
		{ClusterID: "c", Namespace: long, Name: "b"},
		{ClusterID: "c", Namespace: long, Name: "c"},
	} {
		names := database.NamesFor(tenant)
		for _, name := range []string{names.Schema, names.Logins[0], names.Logins[1]} {
			if other, taken := seen[name]; taken {
				t.Errorf("%s is the name for %+v and %+v", name, tenant, other)
			}
			if len(name) > 63 {
				t.Errorf("%s has %d bytes, Postgres keeps 63", name, len(name))
			}
			seen[name] = tenant
		}
	}
	if got := database.NamesFor(migrations.Identity{ClusterID: "c", Namespace: "mail", Name: "acme"}).Schema; got != "ens_mail_acme_465d18d886" {
		t.Errorf("the schema is %s: the names of tenants must never change, they are bound into what is sealed", got)
	}
}

func TestProvisionIsCompleteAndRepeatable(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	tenant := tenantOf(own, "acme")
	names := database.NamesFor(tenant)

	before, err := server.Inspect(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	if before.SchemaExists || before.Complete() || !before.BelongsTo(tenant) {
		t.Errorf("before: %+v", before)
	}
	for range 2 {
		version, err := server.Provision(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		if version != migrations.Version {
			t.Errorf("the schema is at version %d, want %d", version, migrations.Version)
		}
	}
	after, err := server.Inspect(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Complete() || after.Identity != tenant || !after.BelongsTo(tenant) {
		t.Errorf("after: %+v", after)
	}
}

func TestDriftIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	admin := connect(t, own.SuperuserURL)
	tenant := tenantOf(own, "acme")
	names := database.NamesFor(tenant)
	for name, drift := range map[string]string{
		"a grant taken away":     "REVOKE INSERT ON " + names.Schema + ".users FROM " + names.Schema,
		"the schema closed":      "REVOKE USAGE ON SCHEMA " + names.Schema + " FROM " + names.Schema,
		"a login role gone":      "DROP ROLE " + names.Logins[1],
		"a login role closed":    "ALTER ROLE " + names.Logins[0] + " NOLOGIN",
		"another search path":    "ALTER ROLE " + names.Logins[0] + " SET search_path = public",
		"a membership gone":      "REVOKE " + names.Schema + " FROM " + names.Logins[0],
		"an older schema":        "UPDATE " + names.Schema + ".meta SET value = '0' WHERE key = 'schema_version'",
		"the schema not there":   "DROP SCHEMA " + names.Schema + " CASCADE",
		"a time-out taken away":  "ALTER ROLE " + names.Logins[0] + " RESET lock_timeout",
		"the holder may sign in": "ALTER ROLE " + names.Schema + " LOGIN",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := server.Provision(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.Exec(t.Context(), drift); err != nil {
				t.Fatal(err)
			}
			state, err := server.Inspect(t.Context(), names)
			if err != nil {
				t.Fatal(err)
			}
			if state.Complete() {
				t.Error("the drift was not seen")
			}
			if name == "an older schema" {
				// Running the first script again fails, as it must: its tables are there.
				_, _ = admin.Exec(t.Context(), "DROP SCHEMA "+names.Schema+" CASCADE")
			}
			if _, err := server.Provision(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
			if state, err = server.Inspect(t.Context(), names); err != nil || !state.Complete() {
				t.Errorf("not repaired: %+v, %v", state, err)
			}
		})
	}
}

func TestRuntimeSeesItsOwnSchemaOnly(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	acme, _ := login(t, server, tenantOf(own, "acme"))
	_, other := login(t, server, tenantOf(own, "other"))

	if err := migrations.Check(t.Context(), acme); err != nil {
		t.Errorf("its own schema: %v", err)
	}
	for does, statement := range map[string]string{
		"reads another tenant's rows":  "SELECT * FROM " + other.Schema + ".users",
		"becomes another tenant":       "SET ROLE " + other.Schema,
		"makes a table":                "CREATE TABLE mine (id int)",
		"drops a table":                "DROP TABLE users",
		"changes whose schema this is": "UPDATE meta SET value = 'x'",
		"makes a schema":               "CREATE SCHEMA mine",
		"makes a role":                 "CREATE ROLE mine",
	} {
		if _, err := acme.Exec(t.Context(), statement); err == nil {
			t.Errorf("a runtime %s", does)
		}
	}
}

func TestASchemaIsEmptyOnlyIfNothingIsInIt(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	for name, c := range map[string]struct {
		content string
		empty   bool
	}{
		"nothing":           {"", true},
		"rights by default": {"ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT SELECT ON TABLES TO PUBLIC", true},
		"a table":           {"CREATE TABLE %s.content ()", false},
		"a view":            {"CREATE VIEW %s.content AS SELECT 1 AS one", false},
		"a sequence":        {"CREATE SEQUENCE %s.content", false},
		"a type":            {"CREATE TYPE %s.content AS (one int)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names, admin := database.NamesFor(tenantOf(own, name)), connect(t, own.URL)
			statements := "CREATE SCHEMA " + names.Schema + ";"
			if c.content != "" {
				statements += fmt.Sprintf(c.content, names.Schema)
			}
			if _, err := admin.Exec(t.Context(), statements); err != nil {
				t.Fatal(err)
			}
			state, err := server.Inspect(t.Context(), names)
			if err != nil {
				t.Fatal(err)
			}
			if !state.SchemaExists || state.Empty != c.empty {
				t.Errorf("the schema is said to be there: %t, empty: %t", state.SchemaExists, state.Empty)
			}
		})
	}
}

func TestForeignSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(schema string) []string{
		"of another tenant": func(schema string) []string {
			return []string{"SET ROLE $owner", "CREATE SCHEMA " + schema, "CREATE TABLE " + schema + ".meta (key text PRIMARY KEY, value text NOT NULL)",
				"INSERT INTO " + schema + ".meta VALUES ('cluster_id', 'elsewhere'), ('namespace', 'mail'), ('name', 'acme')"}
		},
		"of another program": func(schema string) []string { return []string{"CREATE SCHEMA " + schema} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, own := newServer(t)
			admin := connect(t, own.SuperuserURL)
			tenant := tenantOf(own, "acme")
			names := database.NamesFor(tenant)
			for _, statement := range prepare(names.Schema) {
				if _, err := admin.Exec(t.Context(), strings.ReplaceAll(statement, "$owner", own.Owner)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := server.Provision(t.Context(), tenant); !errors.Is(err, migrations.ErrForeignSchema) {
				t.Errorf("provisioning: %v, want ErrForeignSchema", err)
			}
			if err := server.Drop(t.Context(), tenant); !errors.Is(err, migrations.ErrForeignSchema) {
				t.Errorf("dropping: %v, want ErrForeignSchema", err)
			}
			var exists bool
			err := admin.QueryRow(t.Context(), "SELECT to_regnamespace($1) IS NOT NULL", names.Schema).Scan(&exists)
			if err != nil || !exists {
				t.Errorf("the foreign schema was dropped (%v)", err)
			}
		})
	}
}

func TestSchemaOfAnotherRoleNamesTheRemedy(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	admin := connect(t, own.SuperuserURL)
	tenant := tenantOf(own, "acme")
	names := database.NamesFor(tenant)
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), "ALTER SCHEMA "+names.Schema+" OWNER TO "+names.Schema); err != nil {
		t.Fatal(err)
	}
	_, err := server.Provision(t.Context(), tenant)
	refused, ok := errors.AsType[*database.OwnerError](err)
	if !ok || refused.Owner != names.Schema || refused.Role != own.Owner || strings.Contains(strings.ToLower(refused.Error()), "drop") {
		t.Fatalf("provisioning: %v", err)
	}
	if err := server.Drop(t.Context(), tenant); !errors.As(err, &refused) {
		t.Errorf("dropping: %v", err)
	}
	if _, err := admin.Exec(t.Context(), `ALTER SCHEMA "`+names.Schema+`" OWNER TO "`+own.Owner+`"`); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Errorf("after the remedy: %v", err)
	}
}

func TestLockOfAnotherSessionIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	tenant := tenantOf(own, "acme")
	names := database.NamesFor(tenant)
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	admin := connect(t, own.SuperuserURL)
	for _, statement := range []string{"BEGIN", "LOCK TABLE " + names.Schema + ".meta IN ACCESS EXCLUSIVE MODE"} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Inspect(t.Context(), names); err == nil || !strings.Contains(database.Reason(err), "lock timeout") {
		t.Errorf("got %v, want an error that tells of the lock", err)
	}
}

func TestDropEndsSessionsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	tenant, bystander := tenantOf(own, "acme"), tenantOf(own, "other")
	session, names := login(t, server, tenant)
	otherSession, _ := login(t, server, bystander)
	for range 2 {
		if err := server.Drop(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Ping(t.Context()); err == nil {
		t.Error("the tenant's session goes on")
	}
	if err := otherSession.Ping(t.Context()); err != nil {
		t.Errorf("another tenant's session ended: %v", err)
	}
	var left int
	const count = `SELECT (SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)) + (SELECT count(*) FROM pg_namespace WHERE nspname = $1)`
	if err := connect(t, own.SuperuserURL).QueryRow(t.Context(), count, names.Schema).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d roles and schemas are left (%v)", left, err)
	}
}

func TestDatabaseThatIsDownIsUnreachable(t *testing.T) {
	t.Parallel()
	server, err := database.Open(t.Context(), database.Options{
		// Port 9 is "discard" and seldom served.
		URL: func() (secret.Value, error) {
			return secret.FromString("postgres://u:p@127.0.0.1:9/x?sslmode=disable"), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Inspect(t.Context(), database.NamesFor(migrations.Identity{Name: "acme"})); !errors.Is(err, database.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
}

// What a primary says that has become a standby, and what follows when there is another one.
func TestAServerThatWasReadOnlyIsLeftForTheNextOne(t *testing.T) {
	t.Parallel()
	server, own := newServer(t)
	admin, tenant := connect(t, own.SuperuserURL), tenantOf(own, "acme")
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("ALTER DATABASE " + own.Name + " SET default_transaction_read_only = on")
	if _, err := server.Inspect(t.Context(), database.NamesFor(tenant)); err != nil {
		t.Fatal(err)
	}
	exec("ALTER DATABASE " + own.Name + " RESET default_transaction_read_only") // sessions that are there stay as they are
	if _, err := server.Provision(t.Context(), tenant); !errors.Is(err, database.ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
	if _, err := server.Provision(t.Context(), tenant); err != nil {
		t.Errorf("with another connection: %v", err)
	}
}

func TestRuntimeURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options database.Options
		url     string
		want    string
	}{
		"as the operator's": {database.Options{}, "postgres://op:p@db:5433/ens?sslmode=verify-full", "postgres://login:pw@db:5433/ens?sslmode=verify-full"},
		"by keywords":       {database.Options{}, "host=db user=op password=p dbname=ens sslmode=disable", "postgres://login:pw@db:5432/ens?sslmode=disable"},
		"no sslmode":        {database.Options{}, "postgres://op:p@db/ens", "postgres://login:pw@db:5432/ens?sslmode=prefer"},
		"through a pooler": {database.Options{RuntimeHost: "pooler", RuntimePort: 6432, RuntimeSSLMode: "require"}, "postgres://op:p@db/ens",
			"postgres://login:pw@pooler:6432/ens?sslmode=require"},
		"several hosts": {database.Options{}, "postgres://op:p@db1:5432,db2:5433/ens?sslmode=disable",
			"postgres://login:pw@db1:5432,db2:5433/ens?sslmode=disable&target_session_attrs=read-write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.options.URL = func() (secret.Value, error) { return secret.FromString(c.url), nil }
			server, err := database.Open(t.Context(), c.options)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			got := server.RuntimeURL("login", secret.FromString("pw")).RevealString()
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			parsed, err := pgx.ParseConfig(got)
			if err != nil {
				t.Fatalf("it cannot be read: %v", err)
			}
			var ports []int32
			for _, host := range append([]*pgconn.FallbackConfig{{Port: parsed.Port}}, parsed.Fallbacks...) {
				if !slices.Contains(ports, int32(host.Port)) {
					ports = append(ports, int32(host.Port))
				}
			}
			if found := database.Ports([]byte(got)); !slices.Equal(found, ports) {
				t.Errorf("its ports are %v, want %v", found, ports)
			}
		})
	}
}

func TestLocalSocketNeedsARuntimeHost(t *testing.T) {
	t.Parallel()
	_, err := database.Open(t.Context(), database.Options{
		URL: func() (secret.Value, error) { return secret.FromString("host=/run/postgresql user=op dbname=ens"), nil },
	})
	if err == nil || !strings.Contains(err.Error(), "--runtime-database-host") {
		t.Errorf("got %v, want an error that says what to set", err)
	}
}
