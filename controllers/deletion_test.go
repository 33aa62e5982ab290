package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// gone waits until an object is no more.
func (s *stage) gone(object client.Object, name string) {
	s.t.Helper()
	s.eventually("waiting for the end of "+name, func() error {
		if s.there(object, name) {
			return fmt.Errorf("%T %s is still there, finalizers %v", object, name, object.GetFinalizers())
		}
		return nil
	})
}

// collectGarbage does what the garbage collector would, which does not run here.
func (s *stage) collectGarbage() {
	s.t.Helper()
	for _, child := range children(s) {
		if err := s.clients.Get(s.t.Context(), client.ObjectKeyFromObject(child), child); err == nil && metav1.GetControllerOf(child) != nil {
			s.remove(child, child.GetName())
		}
	}
}

func TestRetainKeepsDataKeysAndToken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	token, keys := fetch(s, &corev1.Secret{}, "acme-api-token"), fetch(s, &corev1.Secret{}, "acme-keys")
	admin := s.connect(s.postgres.SuperuserURL)
	if _, err := admin.Exec(t.Context(), "INSERT INTO "+s.names().Schema+".meta VALUES ('a mark', 'of the first tenant')"); err != nil {
		t.Fatal(err)
	}
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	s.collectGarbage()
	if !s.schemaExists() {
		t.Fatal("the schema is gone")
	}

	// A tenant of the same name goes on where the first one ended.
	s.provisioned()
	if got := fetch(s, &corev1.Secret{}, "acme-api-token"); got.UID != token.UID || string(got.Data["token"]) != string(token.Data["token"]) {
		t.Error("the API token is another one")
	}
	if got := fetch(s, &corev1.Secret{}, "acme-keys"); got.UID != keys.UID || string(got.Data["kek-1"]) != string(keys.Data["kek-1"]) {
		t.Error("the keys are others")
	}
	var mark string
	if err := admin.QueryRow(t.Context(), "SELECT value FROM "+s.names().Schema+".meta WHERE key = 'a mark'").Scan(&mark); err != nil {
		t.Errorf("the data are gone: %v", err)
	}
}

func TestDeleteRemovesEverythingInOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, "Delete", "spec", "deletionPolicy")
		}
	})
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "acme-0", Labels: desired.SelectorLabels(tenant)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "runtime", Image: runtimeImage}}},
	}
	s.create(pod)
	session := s.connect(string(s.mounted()["secrets/database-url"]))

	s.remove(&api.EnsTenant{}, "acme")
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, api.ReasonDeleting)
	s.eventually("scaling to zero", func() error {
		if got := *fetch(s, &appsv1.Deployment{}, "acme").Spec.Replicas; got != 0 {
			return fmt.Errorf("%d replicas", got)
		}
		return nil
	})
	if err := session.Ping(t.Context()); err != nil || !s.schemaExists() {
		t.Errorf("the database was touched while a pod runs (%v)", err)
	}
	s.remove(pod, pod.Name)
	s.gone(&api.EnsTenant{}, "acme")
	if s.schemaExists() {
		t.Error("the schema is still there")
	}
	if err := session.Ping(t.Context()); err == nil {
		t.Error("a session goes on")
	}
	var roles int
	err := s.connect(s.postgres.SuperuserURL).QueryRow(t.Context(), "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)", s.names().Schema).Scan(&roles)
	if err != nil || roles != 0 {
		t.Errorf("%d roles are left (%v)", roles, err)
	}
	for _, name := range []string{"acme-keys", "acme-api-token"} {
		if s.there(&corev1.Secret{}, name) {
			t.Errorf("Secret %s is still there", name)
		}
	}
}

// Who deletes a tenant with its data and makes it anew at once is quicker than the garbage collector: what is left of the
// first is no sign that phones hold a token that is lost.
func TestATenantMadeAnewWaitsForTheGarbageOfTheOneBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	deleting := func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, "Delete", "spec", "deletionPolicy")
		}
	}
	s.provisioned(deleting)
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	for _, object := range samples(t) {
		deleting(object)
		s.apply(object)
	}
	tenant := s.acme()
	found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionUnknown, "")
	if !strings.Contains(found.Message, "Secret acme-runtime") || !strings.Contains(found.Message, "garbage collector") {
		t.Errorf("it says %s", found.Message)
	}
	s.quiet()
	if s.there(&corev1.Secret{}, "acme-api-token") {
		t.Error("a token was made while what is left of the one before is there")
	}
	s.collectGarbage()
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")

	// A Secret that somebody deletes and that is held is no sign either.
	change(s, &corev1.Secret{}, "acme-runtime", func(o *corev1.Secret) { o.Finalizers = []string{"example.com/hold"} })
	s.remove(&corev1.Secret{}, "acme-api-token")
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonTokenLost)
	s.remove(&corev1.Secret{}, "acme-runtime")
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionUnknown, "")
	change(s, &corev1.Secret{}, "acme-runtime", func(o *corev1.Secret) { o.Finalizers = nil })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

func TestTenantThatWasNeverProvisionedCanBeDeleted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.applySamples(named("acme"))
	tenant := s.acme()
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonNotFound)
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
}
