package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// restoreFromDump replaces the tenant's schema by what pg_dump made of it.
func restoreFromDump(t *testing.T, schema *storetest.Schema) {
	t.Helper()
	owner, server := schema.Database.URL, testenv.Postgres(t)
	dump, err := server.Dump(t.Context(), owner, schema.Name)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), "DROP SCHEMA "+schema.Name+" CASCADE"); err != nil {
		t.Fatal(err)
	}
	if err := server.Restore(t.Context(), owner, dump); err != nil {
		t.Fatal(err)
	}
	// As the operator does when it finds a schema whose rows the roles may not read.
	if err := migrations.Grant(t.Context(), conn, schema.Name, schema.Role); err != nil {
		t.Fatal(err)
	}
}

func TestWithItsKeysARestoredDumpGoesOnAtTheURLsThatExchangeHolds(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	first := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	s := x.Exchange.Subscriptions()[0]
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	restoreFromDump(t, x.Schema)

	// Other keys, or only another webhook key: not ready, and a post that gets there all the same ends nothing.
	for name, wrong := range map[string][]string{"KEK 1 differs": {"kek-1", "webhook-1"}, "webhook key 1 differs": {"webhook-1"}} {
		other := x.WithOwnFolder(t)
		for _, file := range wrong {
			other.Write(t, keyFile(file), config.NewKey())
		}
		replica := other.Launch(t)
		runtimetest.Eventually(t, func() string {
			if body := get(t, "http://"+replica.Metrics+"/readyz"); !strings.Contains(body, name+"; restore the Secret") {
				return "readiness says " + body
			}
			return ""
		})
		x.Front.Use(replica.Address)
		if c := x.Exchange.Post(runtimetest.Context(t), s.URL, heartbeat(t, x, s)); c.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: a post is answered %d %q: %v", name, c.Status, c.Reply, c.Err)
		}
		if err := replica.Stop(); err != nil {
			t.Fatal(err)
		}
	}

	// The keys of the dump's time, and one that came later: all goes on.
	x.Write(t, keyFile("kek-2"), config.NewKey())
	x.Start(t)
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, heartbeat(t, x, s)); c.Status != http.StatusOK || c.Reply != "OK" {
		t.Errorf("a post is answered %d %q: %v", c.Status, c.Reply, c.Err)
	}
	deliver(t, x, lunch)
	if titles := shown(t, x, phone, 1); titles[0] != lunch.FromName {
		t.Errorf("shown are %q", titles)
	}
}
