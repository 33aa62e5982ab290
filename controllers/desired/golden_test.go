package desired_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/controllers/desired"
)

func render(t *testing.T, tenant desired.Tenant) []byte {
	t.Helper()
	configMap, err := desired.ConfigMap(tenant)
	if err != nil {
		t.Fatal(err)
	}
	deployment, err := desired.Deployment(tenant)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := desired.NetworkPolicy(tenant)
	if err != nil {
		t.Fatal(err)
	}
	objects := []any{
		configMap, desired.RuntimeSecret(tenant), desired.BoxerSecret(tenant), desired.ServiceAccount(tenant.Object),
		desired.Service(tenant.Object), desired.PodDisruptionBudget(tenant.Object), deployment,
	}
	for _, wanted := range []any{
		desired.Certificate(tenant.Object), desired.Autoscaler(tenant), policy,
		desired.HTTPRoute(tenant.Object), desired.ListenerSet(tenant.Object), desired.Ingress(tenant.Object), desired.PublicService(tenant.Object),
	} {
		if !reflect.ValueOf(wanted).IsNil() {
			objects = append(objects, wanted)
		}
	}
	var documents [][]byte
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, document)
	}
	return bytes.Join(documents, []byte("---\n"))
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("line %d of %s has changed (-update writes it anew): %q", i+1, file, gotLines[i])
		}
	}
	t.Fatalf("%s is longer than what is made now", file)
}
