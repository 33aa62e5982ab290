package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// newShards starts an API server, a database, and for each selector an operator that works on what it selects.
func newShards(t *testing.T, selectors ...string) (*testenv.KubeServer, []*operator) {
	t.Helper()
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
	postgres, err := testenv.Postgres(t).CreateDatabase(ctx, "shards_"+strings.ToLower(t.Name()[4:14]))
	if err != nil {
		t.Fatal(err)
	}
	var operators []*operator
	for _, selector := range selectors {
		taken, err := shard.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		o, done, err := newOperator(ctx, kube, postgres, nil, controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID, Shard: taken})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { <-done })
		operators = append(operators, o)
	}
	t.Cleanup(cancel) // the first to run
	return kube, operators
}

const shardLabel = "example.com/shard"

func labelled(object *unstructured.Unstructured) {
	object.SetLabels(map[string]string{shardLabel: "north"})
}

// strangers are the writes that are about none of the given paths.
func strangers(writes []string, paths ...string) []string {
	return slices.DeleteFunc(slices.Clone(writes), func(write string) bool {
		return slices.ContainsFunc(paths, func(path string) bool { return strings.HasSuffix(write, path) })
	})
}

func TestShardsShareAClusterAndATenantMoves(t *testing.T) {
	t.Parallel()
	kube, operators := newShards(t, shardLabel+"=north", shardLabel+"!=north")
	north, south := operators[0], operators[1]
	s := &stage{operator: north, t: t, namespace: kube.NewNamespace(t)}

	// The tenant is the north's, and names an endpoint of the south's.
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() != "EwsEndpoint" {
			labelled(o)
		}
	})
	const endpoint = "/ewsendpoints/exchange/status"
	if others := strangers(south.writes.of(s.namespace), endpoint); len(others) > 0 {
		t.Errorf("the south wrote %q", others)
	}
	if slices.ContainsFunc(s.written(), func(write string) bool { return strings.HasSuffix(write, endpoint) }) {
		t.Errorf("the north wrote the south's endpoint: %q", s.written())
	}

	// A host name is one tenant's, whoever's that is.
	rival := &stage{operator: south, t: t, namespace: kube.NewNamespace(t)}
	rival.applySamples(func(o *unstructured.Unstructured) bool {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, s.hostname(), "spec", "hostname")
		}
		return true
	})
	conflict := rival.waitCondition(rival.acme(), api.ConditionHostnamesAccepted, metav1.ConditionFalse, api.ReasonHostnameConflict)
	if !strings.Contains(conflict.Message, s.namespace+"/acme") {
		t.Errorf("it does not say whose the name is: %s", conflict.Message)
	}

	// The tenant moves to the south, which goes on where the north was.
	keys, deployment := fetch(s, &corev1.Secret{}, "acme-keys"), fetch(s, &appsv1.Deployment{}, "acme")
	s.quiet()
	before := len(s.written())
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Labels = nil })
	s.eventually("waiting for the south to take the tenant up", func() error {
		if !south.writes.hasRead(s.namespace, "secrets", "acme-server-certificate") { // which a look at a tenant begins with
			return errors.New("it has not looked at the tenant")
		}
		return nil
	})
	s.quiet()
	if after := fetch(s, &corev1.Secret{}, "acme-keys"); after.UID != keys.UID || after.ResourceVersion != keys.ResourceVersion {
		t.Error("the tenant has other keys")
	}
	if after := fetch(s, &appsv1.Deployment{}, "acme"); after.Generation != deployment.Generation {
		t.Error("the pods were replaced")
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(4)) })
	s.eventually("waiting for the south to carry a change out", func() error {
		if n := s.replicas(); n != 4 {
			return fmt.Errorf("there are %d pods", n)
		}
		return nil
	})
	// It is deleted by the south, too: the name is free then.
	s.remove(&api.EnsTenant{}, "acme")
	s.eventually("waiting for the tenant's end", func() error {
		if err := s.clients.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is there"), err)
		}
		return nil
	})
	rival.waitCondition(rival.acme(), api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
	if more := s.written()[before:]; len(more) > 0 {
		t.Errorf("the north wrote %q after the tenant had moved", more)
	}
}

func TestAnObjectThatIsNobodysIsLeftAlone(t *testing.T) {
	t.Parallel()
	kube, operators := newShards(t, shardLabel+"=north")
	s := &stage{operator: operators[0], t: t, namespace: kube.NewNamespace(t), labels: map[string]string{shardLabel: "north"}}
	tenant := s.provisioned(labelled)
	s.quiet()
	east := func(o client.Object) { o.SetLabels(map[string]string{shardLabel: "east"}) }
	change(s, client.Object(tenant), "acme", east)
	change(s, client.Object(&api.PushProvider{}), "apple", east)
	change(s, client.Object(&api.EwsEndpoint{}), "exchange", east)
	s.quiet()
	before := len(s.written())
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(4)) })
	change(s, &api.PushProvider{}, "apple", func(o *api.PushProvider) { o.Spec.APNs.KeyID = "NEWKEY4567" })
	s.remove(&appsv1.Deployment{}, "acme")
	s.remove(&api.EnsTenant{}, "acme")
	s.quiet()
	if more := s.written()[before:]; len(more) > 0 {
		t.Errorf("it wrote %q", more)
	}
	s.get(tenant)
	if len(tenant.Finalizers) == 0 {
		t.Error("its finalizer is gone")
	}
	// Its operator comes back, or another takes it up.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Labels = s.labels })
	s.eventually("waiting for the tenant's end", func() error {
		if err := s.clients.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is there"), err)
		}
		return nil
	})
}
