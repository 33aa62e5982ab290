package migrations_test

import (
	"context"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// A runtime writes one table, then another, in an order that is the opposite of the migration's.
func TestAMigrationEndsNobodysTransaction(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t).NewDatabase(t)
	migrating, runtime, looking := connect(t, database.URL), connect(t, database.URL), connect(t, database.URL)
	execute(t, migrating, "CREATE SCHEMA acme")
	if _, err := migrations.Migrate(t.Context(), migrating, "acme", acme); err != nil {
		t.Fatal(err)
	}
	execute(t, runtime, "BEGIN; SET LOCAL search_path = acme; LOCK TABLE users IN ROW EXCLUSIVE MODE")
	done := make(chan error, 1)
	go func() {
		next := migrations.Known().Then("ALTER TABLE devices ADD COLUMN x text; ALTER TABLE users ADD COLUMN x text", migrations.MinimumVersion)
		_, err := next.Migrate(context.WithoutCancel(t.Context()), migrating, "acme", acme)
		done <- err
	}()
	waiting := func() (found bool) {
		err := looking.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'acme.users'::regclass)`).Scan(&found)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for deadline := time.Now().Add(time.Minute); !waiting(); {
		if time.Now().After(deadline) {
			t.Fatal("the migration does not wait")
		}
	}
	execute(t, runtime, "LOCK TABLE devices IN ROW EXCLUSIVE MODE")
	execute(t, runtime, "COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
}
