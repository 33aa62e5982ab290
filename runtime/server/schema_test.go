package server_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// migrate does what an operator that knows that set does.
func migrate(t *testing.T, x *runtimetest.Tenant, set migrations.Set) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), x.Schema.Database.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := set.Migrate(t.Context(), conn, x.Schema.Name, x.Schema.Identity); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Grant(t.Context(), conn, x.Schema.Name, x.Schema.Role); err != nil {
		t.Fatal(err)
	}
}

// A newer operator adds a column to each table and a table of its own, while phones come and mails are told.
func TestARuntimeServesWhileANewerOperatorMigrates(t *testing.T) {
	t.Parallel()
	const phones = 8
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	deliver(t, x, lunch)
	shown(t, x, phone, 1)

	var script strings.Builder
	for _, table := range []string{"users", "devices", "subscriptions", "user_state", "pending", "key_pool", "activity", "instances"} {
		fmt.Fprintf(&script, "ALTER TABLE %s ADD COLUMN later text NOT NULL DEFAULT 'x';\n", table)
	}
	script.WriteString("CREATE TABLE later (x integer NOT NULL);")
	next := migrations.Known().Then(script.String(), migrations.MinimumVersion)

	var coming sync.WaitGroup
	begun := make(chan struct{}, phones)
	for i := range phones {
		coming.Go(func() {
			begun <- struct{}{}
			runtimetest.MustRegister(t, x.Phone(fmt.Sprintf("user%d@example.com", i), push.IOS), 7)
		})
	}
	<-begun
	migrate(t, x, next)
	coming.Wait()
	if got := storetest.Value[string](t, x.Schema, `SELECT value FROM meta WHERE key = 'schema_version'`); got != fmt.Sprint(migrations.Version+1) {
		t.Fatalf("the schema is at version %s", got)
	}

	deliver(t, x, lunch)
	shown(t, x, phone, 2)
	runtimetest.MustRegister(t, x.Phone("late@example.com", push.IOS), 7)
	runtimetest.WaitReady(t, replica.Metrics)
	runtimetest.WaitReady(t, x.Launch(t).Metrics) // one that is started after a roll-back of the image

	// A schema that needs a newer runtime leaves this one out, and the operator can see why.
	migrate(t, x, next.Then("SELECT 1", migrations.Version+1))
	late := x.Launch(t)
	runtimetest.Eventually(t, func() string {
		if got := get(t, "http://"+late.Metrics+"/readyz"); !strings.Contains(got, "upgrade the runtime") {
			return "readiness says " + got
		}
		return ""
	})
	runtimetest.Eventually(t, func() string {
		const reported = `SELECT count(*) FROM instances WHERE sealing_kek IS NULL AND knows_schema = $1`
		if storetest.Value[int](t, x.Schema, reported, migrations.Version) == 0 {
			return "a replica that is left out does not say what it knows"
		}
		return ""
	})
}

// The role of a tenant's own database may have been given to another tenant, too.
func TestARuntimeIsNotReadyInTheSchemaOfAnotherTenant(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	other := storetest.On(t, x.Schema.Database, "other")
	for _, statement := range []string{
		"GRANT USAGE ON SCHEMA other TO " + x.Schema.Role, "GRANT ALL ON ALL TABLES IN SCHEMA other TO " + x.Schema.Role,
		"ALTER ROLE " + x.Schema.Role + " SET search_path = other",
	} {
		other.Exec(t, statement)
	}
	late := x.Launch(t)
	runtimetest.Eventually(t, func() string {
		if got := get(t, "http://"+late.Metrics+"/readyz"); !strings.Contains(got, "belongs to another tenant") {
			return "readiness says " + got
		}
		return ""
	})
	if replicas := storetest.Value[int](t, other, `SELECT count(*) FROM instances`); replicas != 0 {
		t.Errorf("%d replicas are on the other tenant's record", replicas)
	}
	x.Schema.Exec(t, "ALTER ROLE "+x.Schema.Role+" SET search_path = "+x.Schema.Name)
}
