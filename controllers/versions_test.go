package controllers_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// next is what an operator of the next version may do to a schema.
const next = `ALTER TABLE devices ADD COLUMN later text; CREATE TABLE later (x integer NOT NULL)`

// knowing has the next operator know other migrations.
func (s *stage) knowing(set migrations.Set) func(*controllers.Options) {
	s.t.Helper()
	opened, err := database.Open(s.t.Context(), database.Options{
		URL:        func() (secret.Value, error) { return secret.FromString(s.postgres.URL), nil },
		Migrations: set,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return func(o *controllers.Options) { o.Database = opened }
}

func TestOperatorsOfThreeVersionsAndARuntimeInBetween(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	known := migrations.Known()
	s.restart(s.knowing(known.UpTo(migrations.MinimumVersion - 1)))
	tenant := s.provisioned()
	pod, err := store.Open(t.Context(), secret.FromString(s.databaseURL()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.Close)
	fits := func(when string, want error, says string) {
		t.Helper()
		if err := pod.Check(t.Context(), s.names().Schema); !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the runtime says %v, want %v that says %q", when, err, want, says)
		}
	}
	report := func() {
		t.Helper()
		replica := store.Instance{ID: [16]byte{1}, KEKs: []int{1}, WebhookKeys: []int{1}, StartedAt: clock.Now()}
		if err := pod.Report(t.Context(), replica, clock.Now()); err != nil {
			t.Error(err)
		}
	}
	at := func(version int) {
		t.Helper()
		s.eventually("waiting for the version of the schema", func() error {
			s.get(tenant)
			if got := tenant.Status.Database; got == nil || got.Version != int32(version) {
				return errNotYet("it is another one")
			}
			return nil
		})
	}
	fits("with an operator that is too old", migrations.ErrOlderSchema, "upgrade the operator")

	s.restart()
	at(migrations.Version)
	fits("with an operator of its version", nil, "")
	report()
	session := s.connect(s.databaseURL())

	s.restart(s.knowing(known.Then(next, migrations.MinimumVersion)))
	at(migrations.Version + 1)
	fits("with a newer operator", nil, "")
	report()
	if _, err := session.Exec(t.Context(), "INSERT INTO activity (user_id, at, kind, detail) SELECT id, now(), '', '' FROM users"); err != nil {
		t.Errorf("a session from before: %v", err)
	}
	if _, err := s.connect(s.databaseURL()).Exec(t.Context(), "INSERT INTO later VALUES (1)"); err != nil {
		t.Errorf("the newer runtime's table: %v", err)
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, api.ReasonProgressing)

	s.restart() // a rollback of the operator
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonNewerSchema)
	fits("after the rollback", nil, "")

	s.restart(s.knowing(known.Then(next, migrations.MinimumVersion).Then("SELECT 1", migrations.Version+1)))
	at(migrations.Version + 2)
	fits("with an operator that needs a newer runtime", migrations.ErrNewerSchema, "upgrade the runtime")
	report()
	s.look(tenant)
	found := s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonRuntimeTooOld)
	if !strings.Contains(found.Message, "upgrade the image") {
		t.Errorf("the condition says %q", found.Message)
	}

	execute(s, s.postgres.SuperuserURL, "UPDATE "+s.names().Schema+".instances SET knows_schema = 99, needs_schema = 99")
	s.look(tenant)
	found = s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonOperatorTooOld)
	if !strings.Contains(found.Message, "upgrade the operator") {
		t.Errorf("the condition says %q", found.Message)
	}
}
