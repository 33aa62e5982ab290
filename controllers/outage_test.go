package controllers_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// An operator of its own, on an API server of its own, whose database does not answer. It works in one namespace only.
func TestDatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	kube, err := testenv.StartKube(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	now := clocktesting.NewFakePassiveClock(time.Now())
	namespace := kube.NewNamespace(t)
	// Port 9 is "discard" and seldom served.
	nowhere := &testenv.Database{URL: "postgres://operator:secret-password@127.0.0.1:9/ens?sslmode=disable"}
	o, done, err := newOperator(ctx, kube, nowhere, []string{namespace}, controllers.Options{RuntimeImage: runtimeImage, AllowLoopback: true, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-done
	})
	s := &stage{operator: o, t: t, namespace: namespace}
	s.applySamples(nil)
	tenant := s.acme()
	found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, api.ReasonUnreachable)
	if strings.Contains(found.Message, "secret-password") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionUnknown, api.ReasonProgressing)
	if s.there(&corev1.Secret{}, "acme-keys") {
		t.Error("keys were made although the database could hold data sealed with others")
	}
	if s.there(&corev1.ConfigMap{}, "acme-runtime") {
		t.Error("a configuration was rendered before the schema was there")
	}

	// Deletion waits for the database, says so after a while, and lets go of it when told to.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	s.remove(&api.EnsTenant{}, "acme")
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, api.ReasonDeleting)
	now.SetTime(now.Now().Add(time.Hour))
	found = s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonUnreachable)
	if !strings.Contains(found.Message, api.AnnotationAbandonDatabase) {
		t.Errorf("Stalled says %q", found.Message)
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Annotations = map[string]string{api.AnnotationAbandonDatabase: "true"}
	})
	s.gone(&api.EnsTenant{}, "acme")
}
