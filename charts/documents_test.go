package charts_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// PROJECT, by which kubebuilder knows the project, lists the kinds that there are.
func TestProjectListsTheKinds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "PROJECT"))
	if err != nil {
		t.Fatal(err)
	}
	var project struct {
		Version   string   `json:"version"`
		Layout    []string `json:"layout"`
		Domain    string   `json:"domain"`
		Repo      string   `json:"repo"`
		Resources []struct {
			API struct {
				CRDVersion string `json:"crdVersion"`
				Namespaced bool   `json:"namespaced"`
			} `json:"api"`
			Controller bool   `json:"controller"`
			Domain     string `json:"domain"`
			Group      string `json:"group"`
			Kind       string `json:"kind"`
			Path       string `json:"path"`
			Version    string `json:"version"`
		} `json:"resources"`
		Name string `json:"projectName"`
	}
	if err := yaml.UnmarshalStrict(text, &project); err != nil {
		t.Fatal(err)
	}
	if project.Version != "3" || !slices.Equal(project.Layout, []string{"go.kubebuilder.io/v4"}) {
		t.Errorf("it has version %s and layout %s", project.Version, project.Layout)
	}
	listed := map[string]bool{}
	for _, r := range project.Resources {
		group := strings.TrimPrefix(r.Group+"."+r.Domain, ".")
		listed[group+"/"+r.Version+" "+r.Kind] = r.API.CRDVersion == "v1" && r.API.Namespaced && r.Controller
		if _, err := os.Stat(filepath.Join("..", strings.TrimPrefix(r.Path, project.Repo+"/"))); err != nil {
			t.Error(err)
		}
	}
	kinds := map[string]bool{}
	for _, object := range render(t, "") {
		if object.GetKind() == "CustomResourceDefinition" {
			crd := is(t, objects{"": object}, "", &apiextensions.CustomResourceDefinition{})
			kinds[crd.Spec.Group+"/"+crd.Spec.Versions[0].Name+" "+crd.Spec.Names.Kind] = crd.Spec.Scope == apiextensions.NamespaceScoped
		}
	}
	if !maps.Equal(listed, kinds) {
		t.Errorf("it lists %v, and the CRDs are %v", listed, kinds)
	}
}

// What the alerts and the dashboards read is documented; the operator's own metrics are controller-runtime's.
func TestMetricsThatMonitoringReadsAreDocumented(t *testing.T) {
	t.Parallel()
	documented, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bens_[a-z_]+`)
	for _, file := range []string{"alerts.yaml", "dashboard_operator.json", "dashboard_tenant.json"} {
		text, err := os.ReadFile(filepath.Join(chart, "files", file))
		if err != nil {
			t.Fatal(err)
		}
		if yaml.Unmarshal(text, &map[string]any{}) != nil {
			t.Errorf("%s cannot be read", file)
		}
		names := metric.FindAllString(string(text), -1)
		if len(names) == 0 {
			t.Errorf("%s reads no metrics", file)
		}
		for _, name := range names {
			if !regexp.MustCompile("`" + name + "[`{]").Match(documented) {
				t.Errorf("%s reads %s, which docs/metrics.md does not have", file, name)
			}
		}
	}
}

// The PodMonitor finds the pods that the operator makes.
func TestPodMonitorFindsTenants(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "controllers", "desired", "testdata", "minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pod := is(t, read(t, string(text)), "Deployment mail/acme", &appsv1.Deployment{}).Spec.Template
	monitor := render(t, "monitoring: {podMonitor: true}")["PodMonitor ens-operator-system/ens-operator-tenants"]
	selector, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	if err != nil || len(selector) == 0 {
		t.Fatal("it selects nothing", err)
	}
	for name, value := range selector {
		if pod.Labels[name] != value {
			t.Errorf("tenants' pods have no label %s=%s", name, value)
		}
	}
	endpoints, _, err := unstructured.NestedSlice(monitor.Object, "spec", "podMetricsEndpoints")
	if err != nil || len(endpoints) != 1 {
		t.Fatal(endpoints, err)
	}
	port := endpoints[0].(map[string]any)["port"]
	if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port }) {
		t.Errorf("tenants' pods have no port %s", port)
	}
}

// The chart's README lists every value, and the schema knows it.
func TestValuesAreDocumented(t *testing.T) {
	t.Parallel()
	values, schema := map[string]any{}, map[string]any{}
	for file, into := range map[string]*map[string]any{"values.yaml": &values, "values.schema.json": &schema} {
		text, err := os.ReadFile(filepath.Join(chart, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	described := 0
	var check func(path string, values, schema map[string]any)
	check = func(path string, values, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		if got, want := slices.Sorted(maps.Keys(values)), slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) && path != "resources" && path != "affinity" {
			t.Errorf("%q has the values %v, and the schema %v", path, got, want)
		}
		for name, value := range values {
			full := strings.TrimPrefix(path+"."+name, ".")
			below, _ := properties[name].(map[string]any)
			if nested, ok := value.(map[string]any); ok && len(nested) > 0 && full != "resources" {
				check(full, nested, below)
				continue
			}
			described++
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if row := "| `" + full + "` | `" + string(text) + "` |"; !strings.Contains(strings.ReplaceAll(string(readme), " ", ""), strings.ReplaceAll(row, " ", "")) {
				t.Errorf("README.md does not have %s", row)
			}
		}
	}
	check("", values, schema)
	if rows := strings.Count(string(readme), "\n| `"); rows != described {
		t.Errorf("README.md has %d values, and values.yaml %d", rows, described)
	}
}
