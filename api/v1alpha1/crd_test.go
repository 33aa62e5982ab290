package v1alpha1_test

import (
	"os"
	"path/filepath"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// Client-side apply keeps a copy in an annotation of at most 256 KiB; half of that leaves room for years.
const maxCRDSize = 100_000

func TestCRDsAreSmall(t *testing.T) {
	t.Parallel()
	root, err := testenv.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) != 3 {
		t.Fatalf("want the CRDs of three kinds, found %v (%v)", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() >= maxCRDSize {
			t.Errorf("%s has %d bytes, want less than %d", filepath.Base(file), info.Size(), maxCRDSize)
		}
	}
}

// Helm, Flux and Argo CD take an object without conditions, or with those of an earlier generation, for ready.
func TestFreshObjectsDoNotLookReady(t *testing.T) {
	t.Parallel()
	c, namespace := newClient(t)
	endpoint, provider, tenant := validEndpoint(), validAPNs(), validTenant()
	for _, object := range []client.Object{endpoint, provider, tenant} {
		object.SetNamespace(namespace)
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	for kind, status := range map[string]struct {
		observed   int64
		conditions []metav1.Condition
	}{
		"EwsEndpoint":  {endpoint.Status.ObservedGeneration, endpoint.Status.Conditions},
		"PushProvider": {provider.Status.ObservedGeneration, provider.Status.Conditions},
		"EnsTenant":    {tenant.Status.ObservedGeneration, tenant.Status.Conditions},
	} {
		if status.observed != -1 {
			t.Errorf("%s: observedGeneration is %d, want -1", kind, status.observed)
		}
		if len(status.conditions) != 1 || status.conditions[0].Type != api.ConditionReady ||
			status.conditions[0].Status != metav1.ConditionUnknown || status.conditions[0].Reason != api.ReasonPending {
			t.Errorf("%s: conditions are %v, want Ready=Unknown, Pending", kind, status.conditions)
		}
	}
}

func TestTenantScales(t *testing.T) {
	t.Parallel()
	c, namespace := newClient(t)
	tenant := validTenant()
	tenant.Namespace = namespace
	tenant.Spec.Runtime = &api.TenantRuntime{Replicas: new(int32(1))} // the API server scales no field that is not there
	if err := c.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	tenant.Status = api.EnsTenantStatus{Replicas: 2, Selector: "a=b"}
	if err := c.Status().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	scale := &autoscalingv1.Scale{}
	if err := c.SubResource("scale").Get(t.Context(), tenant, scale); err != nil {
		t.Fatal(err)
	}
	if scale.Status.Replicas != 2 || scale.Status.Selector != "a=b" {
		t.Errorf("scale status %+v, want 2 replicas chosen by a=b", scale.Status)
	}
	scale.Spec.Replicas = 3
	if err := c.SubResource("scale").Update(t.Context(), tenant, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil {
		t.Fatal(err)
	}
	if *tenant.Spec.Runtime.Replicas != 3 {
		t.Errorf("spec.runtime.replicas is %d after scaling to 3", *tenant.Spec.Runtime.Replicas)
	}
}
