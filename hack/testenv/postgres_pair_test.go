package testenv_test

import (
	"context"
	"testing"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func TestWhatIsCommittedSurvivesARestart(t *testing.T) {
	t.Parallel()
	server, err := testenv.StartPostgres(t.Context(), testenv.WithCommit())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	database := server.NewDatabase(t)
	if _, err := connect(t, database.URL).Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS id"); err != nil {
		t.Fatal(err)
	}
	away := false
	if err := server.Restart(t.Context(), func() { away = true }); err != nil {
		t.Fatal(err)
	}
	if got := show(t, connect(t, database.URL), "SELECT count(*)::text FROM kept"); got != "1" || !away {
		t.Errorf("%s rows are there after a restart", got)
	}
}

func TestWhatIsCommittedSurvivesTheLossOfThePrimary(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testenv.PostgresPair, context.Context) error{
		"killed": func(p *testenv.PostgresPair, ctx context.Context) error {
			if err := p.FailOver(ctx, nil); err != nil {
				return err
			}
			return p.Return(ctx)
		},
		"switched over": func(p *testenv.PostgresPair, ctx context.Context) error { return p.SwitchOver(ctx, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair, err := testenv.StartPostgresPair(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = pair.Stop() })
			database := pair.NewDatabase(t)
			if _, err := connect(t, database.URL).Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS id"); err != nil {
				t.Fatal(err)
			}
			before := show(t, connect(t, database.URL), "SELECT inet_server_port()::text")
			if err := lose(pair, t.Context()); err != nil {
				t.Fatal(err)
			}
			connection := connect(t, database.URL)
			if got := show(t, connection, "SELECT count(*)::text FROM kept"); got != "1" {
				t.Errorf("%s rows are there", got)
			}
			if _, err := connection.Exec(t.Context(), "INSERT INTO kept VALUES (2)"); err != nil {
				t.Errorf("the new primary cannot be written: %v", err)
			}
			if after := show(t, connection, "SELECT inet_server_port()::text"); after == before {
				t.Error("the old primary is still used")
			}
		})
	}
}
