package controllers_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// passwords are what Postgres keeps of the passwords of the tenant's login roles, by role.
func (s *stage) passwords() map[string]string {
	s.t.Helper()
	rows, err := s.connect(s.postgres.SuperuserURL).Query(s.t.Context(),
		"SELECT rolname, coalesce(rolpassword, '') FROM pg_authid WHERE rolname IN ($1, $2)", s.names().Logins[0], s.names().Logins[1])
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var role, password string
		if err := rows.Scan(&role, &password); err != nil {
			s.t.Fatal(err)
		}
		found[role] = password
	}
	return found
}

// pass has the operator look at the tenant some times.
func (s *stage) pass(tenant *api.EnsTenant, kind string, status metav1.ConditionStatus, reason string) {
	s.t.Helper()
	for _, replicas := range []int32{3, 4, 5} {
		change(s, tenant, tenant.Name, func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(replicas) })
		s.waitCondition(tenant, kind, status, reason)
	}
}

func TestPasswordInUseOutlivesTheTenantsObjects(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	session := s.connect(string(s.mounted()["secrets/database-url"]))
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	// What `kubectl delete --cascade=orphan` has the garbage collector do.
	for _, child := range children(s) {
		change(s, child, child.GetName(), func(o client.Object) { o.SetOwnerReferences(nil) })
	}
	before := s.passwords()
	s.applySamples(nil)
	tenant := s.acme()
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionFalse, api.ReasonNotOwned)
	s.pass(tenant, api.ConditionProvisioned, metav1.ConditionFalse, api.ReasonNotOwned)
	if after := s.passwords(); !maps.Equal(before, after) {
		t.Errorf("the passwords were %v and are %v", before, after)
	}

	// Without the Secret a new login is made, of the role that the pods that still run do not use.
	if err := session.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.remove(&corev1.Secret{}, "acme-runtime")
	s.eventually("making a new login", func() error {
		if !s.there(&corev1.Secret{}, "acme-runtime") {
			return errNotYet("there is no Secret")
		}
		return nil
	})
	after := s.passwords()
	if first := s.names().Logins[0]; after[first] != before[first] {
		t.Error("the password that the pods use was changed")
	}
	url := fetch(s, &corev1.Secret{}, "acme-runtime").Data["database-url"]
	if !strings.HasPrefix(string(url), "postgres://"+s.names().Logins[1]+":") {
		t.Error("the new login is not the second one")
	}
	if err := s.connect(string(url)).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoPasswordIsSetThatNobodyIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.applySamples(without("apple"))
	tenant := s.acme()
	s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionTrue, "")
	s.pass(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonNotFound)
	found := s.passwords()
	if len(found) != len(s.names().Logins) {
		t.Errorf("there are the roles %v", found)
	}
	for role, password := range found {
		if password != "" {
			t.Errorf("a password was set for %s", role)
		}
	}
}

// A restore from a backup may leave the schema to another role. What is in it is the tenant's all the same.
func TestSchemaOfAnotherRoleIsNeverGivenUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	keys := fetch(s, &corev1.Secret{}, "acme-keys")
	admin := s.connect(s.postgres.SuperuserURL)
	if _, err := admin.Exec(t.Context(), fmt.Sprintf("ALTER SCHEMA %s OWNER TO %[1]s", s.names().Schema)); err != nil {
		t.Fatal(err)
	}
	s.remove(&corev1.Secret{}, "acme-keys")
	found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonForeignSchema)
	if message := found.Message; !strings.Contains(message, "ALTER SCHEMA") || !strings.Contains(message, s.postgres.Owner) ||
		strings.Contains(strings.ToLower(message), "drop") {
		t.Errorf("the condition says %q", message)
	}
	s.quiet()
	if s.there(&corev1.Secret{}, "acme-keys") {
		t.Fatal("new keys were made for data that are sealed with others")
	}
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: keys.Name, Labels: keys.Labels}, Data: keys.Data})

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	s.remove(&api.EnsTenant{}, "acme")
	found = s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonForeignSchema)
	s.eventually("telling the way out", func() error {
		found = s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonForeignSchema)
		if !strings.Contains(found.Message, api.AnnotationAbandonDatabase) || !strings.Contains(found.Message, "ALTER SCHEMA") {
			return errNotYet(found.Message)
		}
		return nil
	})
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Annotations = map[string]string{api.AnnotationAbandonDatabase: "true"}
	})
	s.gone(&api.EnsTenant{}, "acme")
	if !s.schemaExists() {
		t.Error("the schema is gone")
	}
}
