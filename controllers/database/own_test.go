package database_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

func openOwn(t *testing.T, own *testenv.Database) *database.Server {
	t.Helper()
	server, err := database.OpenOwn(t.Context(), database.OwnOptions{URL: secret.FromString(own.URL), Guard: egress.Guard{AllowLoopback: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// waitForLocks waits until so many of the role's sessions wait for a lock.
func waitForLocks(t *testing.T, admin *pgx.Conn, role string, wanted int) {
	t.Helper()
	const (
		patience = 8 * time.Second // the operator's sessions wait for ten
		poll     = 10 * time.Millisecond
	)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); ; <-ticker.C {
		waiting := 0
		const look = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'"
		if err := admin.QueryRow(t.Context(), look, role).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting == wanted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions wait for a lock, want %d", waiting, wanted)
		}
	}
}

// Both have found that the role is nobody's before either makes it its own.
func TestOfTwoTenantsAtOnceOneGetsTheRole(t *testing.T) {
	t.Parallel()
	own := testenv.Postgres(t).NewDatabase(t)
	tenants := []migrations.Identity{tenantOf(own, "acme"), tenantOf(own, "other")}
	admin := connect(t, own.SuperuserURL)
	// Settings can be looked at and not changed.
	holder, err := connect(t, own.SuperuserURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "LOCK TABLE pg_db_role_setting IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		tenant migrations.Identity
		err    error
	}
	answers := make(chan answer)
	for _, tenant := range tenants {
		server := openOwn(t, own)
		go func() {
			_, err := server.Provision(t.Context(), tenant)
			answers <- answer{tenant, err}
		}()
	}
	waitForLocks(t, admin, own.Owner, len(tenants))
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	var winners, losers []migrations.Identity
	for range tenants {
		got := <-answers
		if got.err == nil {
			winners = append(winners, got.tenant)
			continue
		}
		losers = append(losers, got.tenant)
		if _, ok := errors.AsType[*database.SharedRoleError](got.err); !ok {
			t.Errorf("%s is told: %v", got.tenant.Name, got.err)
		}
	}
	if len(winners) != 1 || len(losers) != 1 {
		t.Fatalf("%d tenants have the role, want one", len(winners))
	}
	var schema string
	if err := connect(t, own.URL).QueryRow(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil || schema != database.NamesFor(winners[0]).Schema {
		t.Errorf("sessions begin in %s (%v)", schema, err)
	}
	made := 0
	if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'ens_')").Scan(&made); err != nil || made != 1 {
		t.Errorf("there are %d schemas (%v), want the winner's", made, err)
	}

	// Who has not got it takes nothing from who has, and gets it afterwards.
	loser, winner := openOwn(t, own), openOwn(t, own)
	if err := loser.Drop(t.Context(), losers[0]); err == nil {
		t.Error("the settings of the other tenant may be taken away")
	}
	if err := winner.Drop(t.Context(), winners[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := loser.Provision(t.Context(), losers[0]); err != nil {
		t.Errorf("once the role is free: %v", err)
	}
}
