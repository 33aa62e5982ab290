package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestOpenTakesUsableURLsOnly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url string
		ok  bool
	}{
		"a URL of the operator's":                  {"postgres://u:PASSWORD@db.example.com:5432/ens?sslmode=verify-full", true},
		"the longer scheme":                        {"postgresql://u:PASSWORD@db.example.com/ens", true},
		"all parameters that may be set":           {"postgres://u:PASSWORD@h/d?sslmode=disable&target_session_attrs=read-write&connect_timeout=5&application_name=x", true},
		"an IPv6 address":                          {"postgres://u:PASSWORD@[2001:db8::1]:5432/ens", true},
		"several hosts":                            {"postgres://u:PASSWORD@one.example.com,two.example.com:5433/ens?target_session_attrs=read-write", true},
		"several hosts, each with its port":        {"postgres://u:PASSWORD@one.example.com:5432,two.example.com:5433/ens?target_session_attrs=read-write", true},
		"nothing":                                  {"", false},
		"no URL":                                   {"host=db.example.com user=u password=PASSWORD", false},
		"another scheme":                           {"mysql://u:PASSWORD@db.example.com/ens", false},
		"no host":                                  {"postgres://u:PASSWORD@/ens", false},
		"a port only":                              {"postgres://u:PASSWORD@:5432/ens", false},
		"a port that is no number":                 {"postgres://u:PASSWORD@db.example.com:postgres/ens", false},
		"an escaped socket for a host":             {"postgres://u:PASSWORD@%2Fvar%2Frun%2Fpostgresql/ens", false},
		"a socket for a host":                      {"postgres://u:PASSWORD@db.example.com/ens?host=/var/run/postgresql", false},
		"a socket among the hosts":                 {"postgres://u:PASSWORD@db.example.com,/var/run/postgresql/ens", false},
		"a password file":                          {"postgres://u:PASSWORD@db.example.com/ens?passfile=/etc/passwd", false},
		"a service file":                           {"postgres://u:PASSWORD@db.example.com/ens?service=x&servicefile=/etc/passwd", false},
		"a client key":                             {"postgres://u:PASSWORD@db.example.com/ens?sslkey=/run/secrets/key&sslcert=/run/secrets/crt", false},
		"a root certificate":                       {"postgres://u:PASSWORD@db.example.com/ens?sslrootcert=/etc/passwd", false},
		"options of the server":                    {"postgres://u:PASSWORD@db.example.com/ens?options=-csearch_path%3Dother", false},
		"a search path":                            {"postgres://u:PASSWORD@db.example.com/ens?search_path=other", false},
		"another user":                             {"postgres://u:PASSWORD@db.example.com/ens?user=postgres&password=x", false},
		"a size of the pool":                       {"postgres://u:PASSWORD@db.example.com/ens?pool_max_conns=1000", false},
		"a forbidden parameter in capitals":        {"postgres://u:PASSWORD@db.example.com/ens?PASSFILE=/etc/passwd", false},
		"a forbidden parameter, escaped":           {"postgres://u:PASSWORD@db.example.com/ens?pass%66ile=/etc/passwd", false},
		"an unknown sslmode":                       {"postgres://u:PASSWORD@db.example.com/ens?sslmode=PASSWORD", false},
		"an unescaped slash in the password":       {"postgres://u:1/PASSWORD@db.example.com/ens", false},
		"an unescaped ? in the password":           {"postgres://u:1?PASSWORD@db.example.com/ens", false},
		"an unescaped ?= in the password":          {"postgres://u:1?PASSWORD=x@db.example.com/ens", false},
		"an unescaped # in the password":           {"postgres://u:1#PASSWORD@db.example.com/ens", false},
		"an unescaped @ and slash in the password": {"postgres://u:1@2/PASSWORD@db.example.com/ens", false},
		"no user":                                  {"postgres://db.example.com/ens", false},
		"an unfinished escape":                     {"postgres://u:PASSWORD%@db.example.com/ens", false},
		"a line end":                               {"postgres://u:PASSWORD\n@db.example.com/ens", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := store.Open(t.Context(), secret.FromString(test.url), nil)
			if err == nil {
				opened.Close()
			} else if strings.Contains(err.Error(), "PASSWORD") {
				t.Errorf("the error quotes the password: %v", err)
			}
			if (err == nil) != test.ok {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestCheckLooksAtTheSchema(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	if err := schema.Store.Check(t.Context(), schema.Name); err != nil {
		t.Fatal(err)
	}
	schema.Exec(t, `DELETE FROM meta WHERE key = 'schema_version'`)
	if err := schema.Store.Check(t.Context(), schema.Name); !errors.Is(err, migrations.ErrOlderSchema) {
		t.Errorf("got error %v, want %v", err, migrations.ErrOlderSchema)
	}
}

func TestCheckTellsTheSchemaOfAnotherTenant(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	other := storetest.On(t, schema.Database, "other")
	// As if the role were the other tenant's, too.
	other.Exec(t, "GRANT ALL ON SCHEMA other TO "+schema.Role)
	other.Exec(t, "GRANT SELECT ON ALL TABLES IN SCHEMA other TO "+schema.Role)
	other.Exec(t, "ALTER ROLE "+schema.Role+" SET search_path = other")
	if err := schema.Open(t).Check(t.Context(), schema.Name); !errors.Is(err, migrations.ErrForeignSchema) {
		t.Errorf("got error %v, want %v", err, migrations.ErrForeignSchema)
	}
	if err := other.Store.Check(t.Context(), other.Name); err != nil {
		t.Errorf("the other tenant: %v", err)
	}
}

func TestCheckKEKsTellsAForeignDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		recorded map[int]string
		retired  []int
		checks   map[int]string
		want     error
	}{
		"the first runtime of all":         {nil, nil, map[int]string{1: "a"}, nil},
		"the same again":                   {map[int]string{1: "a", 12: "b"}, nil, map[int]string{1: "a", 12: "b"}, nil},
		"a new one beside the old":         {map[int]string{1: "a"}, nil, map[int]string{1: "a", 2: "b"}, nil},
		"another value":                    {map[int]string{1: "a"}, nil, map[int]string{1: "x"}, store.ErrForeignKEK},
		"another value and a new one":      {map[int]string{1: "a"}, nil, map[int]string{1: "x", 2: "b"}, store.ErrForeignKEK},
		"an old one is missing":            {map[int]string{1: "a", 2: "b"}, nil, map[int]string{2: "b"}, store.ErrForeignKEK},
		"an old one that nobody needs is":  {map[int]string{1: "a", 2: "b"}, []int{1}, map[int]string{2: "b"}, nil},
		"another of the number nobody has": {map[int]string{1: "a", 2: "b"}, []int{1}, map[int]string{1: "x", 2: "b"}, nil},
		"none at all":                      {map[int]string{1: "a"}, nil, nil, store.ErrForeignKEK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t).Store
			for number, check := range test.recorded {
				if err := s.RecordKEK(t.Context(), number, check); err != nil {
					t.Fatal(err)
				}
			}
			for _, number := range test.retired {
				if err := s.RetireKEK(t.Context(), number, start); err != nil {
					t.Fatal(err)
				}
			}
			rotation, err := s.Rotation(t.Context(), start)
			if err != nil {
				t.Fatal(err)
			}
			if err := rotation.CheckKEKs(test.checks); !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
		})
	}
}

func TestOneKEKIsRecordedUnderANumber(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	var recording sync.WaitGroup
	for range 6 {
		replica := schema.Open(t)
		recording.Go(func() {
			if err := replica.RecordKEK(t.Context(), 1, "check"); err != nil {
				t.Error(err)
			}
		})
	}
	recording.Wait()
	if err := schema.Store.RecordKEK(t.Context(), 1, "another"); !errors.Is(err, store.ErrForeignKEK) {
		t.Errorf("another key of that number: %v", err)
	}
}

func TestReportRemembersTheReplicasThatAreThere(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	report := func(id byte, version string, kek int, when time.Time) {
		t.Helper()
		replica := store.Instance{
			ID: [16]byte{id}, Version: version, ConfigHash: "hash", KEKs: []int{kek}, WebhookKeys: []int{1}, StartedAt: start,
		}
		if err := schema.Store.Report(t.Context(), replica, when); err != nil {
			t.Fatal(err)
		}
	}
	there := func() string {
		t.Helper()
		return storetest.Value[string](t, schema, `SELECT string_agg(version || kek_ids::text, ' ' ORDER BY version) FROM instances`)
	}
	report(1, "a", 1, at(0))
	report(2, "b", 1, at(5*time.Minute))
	if got := there(); got != "a{1} b{1}" {
		t.Errorf("got %s", got)
	}
	report(2, "c", 2, at(9*time.Minute))
	if got := there(); got != "a{1} c{2}" {
		t.Errorf("after an update: got %s", got)
	}
	report(2, "c", 2, at(11*time.Minute))
	if got := there(); got != "c{2}" {
		t.Errorf("after ten minutes without a word of the first: got %s", got)
	}
}

func TestUseURLChangesThePasswordWithoutARestart(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	replica := schema.Open(t)
	address := must(url.Parse(schema.URL.RevealString()))
	named := func(name, password string) secret.Value {
		changed := *address
		changed.User = url.UserPassword(schema.Role, password)
		changed.RawQuery += "&application_name=" + name
		return secret.FromString(changed.String())
	}
	sessions := func(name string) []int {
		t.Helper()
		const query = `SELECT coalesce(array_agg(pid ORDER BY pid), '{}') FROM pg_stat_activity WHERE usename = $1 AND application_name = $2`
		return storetest.Value[[]int](t, schema, query, schema.Role, name)
	}
	works := func() {
		t.Helper()
		if err := replica.Check(t.Context(), schema.Name); err != nil {
			t.Error(err)
		}
		if err := replica.MarkAlive(t.Context(), store.Sign{UserID: 1, At: start}); err != nil {
			t.Error(err)
		}
	}
	password, _ := address.User.Password()
	if err := replica.UseURL(named("old", password), nil); err != nil {
		t.Fatal(err)
	}
	works()
	old := sessions("old")
	if err := replica.UseURL(named("old", password), nil); err != nil {
		t.Fatal(err)
	}
	works()
	if again := sessions("old"); len(old) == 0 || !slices.Equal(old, again) {
		t.Errorf("the same URL again led to the sessions %v after %v", again, old)
	}
	err := replica.UseURL(secret.FromString("postgres://u:PASSWORD@h/d?passfile=/etc/passwd"), nil)
	if err == nil || strings.Contains(err.Error(), "PASSWORD") {
		t.Errorf("a URL that cannot be used: got error %v", err)
	}
	works()
	schema.Exec(t, "ALTER ROLE "+schema.Role+" PASSWORD 'new'")
	if err := replica.UseURL(named("new", "new"), nil); err != nil {
		t.Fatal(err)
	}
	works()
	if len(sessions("new")) == 0 {
		t.Error("the new URL is not in use")
	}
	for began := time.Now(); len(sessions("old")) > 0; {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the old sessions stay")
		}
	}
}

// line is a way to Postgres that can be cut.
type line struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

// lineTo lays a line and returns it with the URL that goes through it.
func lineTo(t *testing.T, databaseURL secret.Value) (*line, secret.Value) {
	t.Helper()
	address, err := url.Parse(databaseURL.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	l := &line{target: address.Host}
	if l.listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.set(true)
		serving.Wait()
	})
	address.Host = l.listener.Addr().String()
	return l, secret.FromString(address.String())
}

func (l *line) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	l.mu.Lock()
	down := l.down
	l.conns = append(l.conns, client, server)
	l.mu.Unlock()
	if down {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

func (l *line) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

func TestPostgresGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	way, throughLine := lineTo(t, schema.URL)
	s, err := store.Open(t.Context(), throughLine, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	user, attempt := subscribed(t, s, "alice")

	calls := map[string]func(context.Context) error{
		"Check":     func(ctx context.Context) error { return s.Check(ctx, schema.Name) },
		"Rotation":  func(ctx context.Context) error { _, err := s.Rotation(ctx, start); return err },
		"RecordKEK": func(ctx context.Context) error { return s.RecordKEK(ctx, 1, "a") },
		"Report": func(ctx context.Context) error {
			return s.Report(ctx, store.Instance{KEKs: []int{1}, WebhookKeys: []int{1}}, start)
		},
		"UserByHash": func(ctx context.Context) error { _, err := s.UserByHash(ctx, hash("alice")); return err },
		"CountUsers": func(ctx context.Context) error { _, err := s.CountUsers(ctx); return err },
		"Standing":   func(ctx context.Context) error { _, err := s.Standing(ctx, hash("alice"), "phone"); return err },
		"Promote":    func(ctx context.Context) error { _, _, err := s.Promote(ctx, promotion(attempt), start); return err },
		"Lost":       func(ctx context.Context) error { _, err := s.Lost(ctx, user.ID, 99); return err },
		"RefillKeys": func(ctx context.Context) error { return s.RefillKeys(ctx, func(context.Context) error { return nil }) },
		"DropDone":   func(ctx context.Context) error { _, err := s.DropDone(ctx, start, 1); return err },
		"TakeOwed":   func(ctx context.Context) error { _, err := s.TakeOwed(ctx, user.ID, ours, start, start); return err },
		"Finish": func(ctx context.Context) error {
			_, err := s.Finish(ctx, store.Ending{Told: &store.Told{UserID: user.ID}})
			return err
		},
		"Subscription": func(ctx context.Context) error {
			_, err := s.Subscription(ctx, user.ID, attempt.Generation, start)
			return err
		},
		"MarkAlive": func(ctx context.Context) error { return s.MarkAlive(ctx, store.Sign{UserID: user.ID, At: start}) },
		"Target":    func(ctx context.Context) error { _, err := s.Target(ctx, user.ID); return err },
		"Complete": func(ctx context.Context) error {
			_, err := s.Finish(ctx, store.Ending{Completions: []store.Completion{{}}})
			return err
		},
		"Write": func(ctx context.Context) error {
			_, err := s.Write(ctx, []store.Entry{mail(user.ID, "1", ours, 0)})
			return err
		},
		"DropStaleUser": func(ctx context.Context) error { _, err := s.DropStaleUsers(ctx, start.Add(-time.Hour), 1); return err },
	}
	for name, call := range calls {
		if err := call(t.Context()); err != nil {
			t.Fatalf("%s, before: %v", name, err)
		}
	}
	way.set(true)
	for name, call := range calls {
		err := call(t.Context())
		if err == nil {
			t.Errorf("%s: no error while Postgres is away", name)
		} else if password, _ := must(url.Parse(schema.URL.RevealString())).User.Password(); strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error quotes the password", name)
		}
	}
	way.set(false)
	for name, call := range calls {
		// A connection that died unnoticed may cost the first statement on it, but no more than that.
		if err := call(t.Context()); err != nil {
			t.Errorf("%s, after Postgres has come back: %v", name, err)
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestWritesFindTheNewPrimaryAfterAFailover(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user := newUser(t, schema.Store, "alice")
	// What a pooled connection meets when its server has become a standby.
	schema.Exec(t, "ALTER ROLE "+schema.Role+" SET default_transaction_read_only = on")
	for name, write := range map[string]func(*store.Store) error{
		"a batched statement": func(s *store.Store) error {
			_, err := s.Write(t.Context(), []store.Entry{mail(user.ID, "1", ours, 0)})
			return err
		},
		"a statement in a batch of pgx's": func(s *store.Store) error { return s.MarkAlive(t.Context(), store.Sign{UserID: user.ID, At: start}) },
		"a transaction": func(s *store.Store) error {
			return s.RefillKeys(t.Context(), func(context.Context) error {
				return s.AddKey(t.Context(), pair("y"), start)
			})
		},
		"a single statement": func(s *store.Store) error { return s.AddKey(t.Context(), pair("x"), start) },
	} {
		replica := schema.Open(t)
		schema.Exec(t, "ALTER ROLE "+schema.Role+" SET default_transaction_read_only = on")
		if err := write(replica); err == nil {
			t.Fatalf("%s: a standby took it", name)
		}
		schema.Exec(t, "ALTER ROLE "+schema.Role+" RESET default_transaction_read_only")
		if err := write(replica); err != nil {
			t.Errorf("%s: the pool still leads to the standby: %v", name, err)
		}
	}
}
