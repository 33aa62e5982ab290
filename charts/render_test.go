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
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Whoever installs with kustomize gets what the chart's default values give.
func TestChartAndKustomizeAreTheSame(t *testing.T) {
	t.Parallel()
	text, err := kubectl(t, "kustomize", filepath.Join("..", "config", "default"))
	if err != nil {
		t.Fatal(err)
	}
	kustomized, rendered := read(t, text), render(t, "")
	delete(kustomized, "Namespace "+namespace) // helm install --create-namespace
	maps.DeleteFunc(rendered, func(_ string, object *unstructured.Unstructured) bool { return hook(object) })
	for name, object := range rendered {
		normalise(object)
		want := kustomized[name]
		if want == nil {
			t.Errorf("only the chart has %s", name)
			continue
		}
		normalise(want)
		if !equality.Semantic.DeepEqual(want.Object, object.Object) {
			t.Errorf("%s differs.\nkustomize:\n%s\nchart:\n%s", name, asYAML(t, want), asYAML(t, object))
		}
		delete(kustomized, name)
	}
	for name := range kustomized {
		t.Errorf("only kustomize has %s", name)
	}
}

// normalise drops what tells Helm and people, and nobody else, where an object is from.
func normalise(object *unstructured.Unstructured) {
	labels := object.GetLabels()
	for _, name := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
		delete(labels, name)
	}
	object.SetLabels(labels)
	annotations := object.GetAnnotations()
	delete(annotations, "helm.sh/resource-policy")
	if len(annotations) == 0 {
		annotations = nil
	}
	object.SetAnnotations(annotations)
}

func asYAML(t *testing.T, object any) string {
	t.Helper()
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRenderingTwiceGivesTheSame(t *testing.T) {
	t.Parallel()
	first, err := template(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := template(t, everything); err != nil || second != first {
		t.Errorf("not the same (%v)", err)
	}
}

// everything sets what has no effect by default.
const everything = `
global: {imageRegistry: mirror.example.com/ghcr}
image: {digest: "sha256:0000000000000000000000000000000000000000000000000000000000000001"}
imagePullSecrets: [{name: mirror}]
clusterID: prod-1
logLevel: DEBUG
workers: 3
database: {secretName: ens-db-app, secretKey: uri}
runtime:
  image: {tag: "0.9.0"}
  database: {host: pooler.example.com, port: 6432, sslmode: verify-full}
metrics: {certificateSecretName: metrics-tls}
monitoring: {serviceMonitor: true, podMonitor: true, prometheusRule: true, dashboard: true, labels: {prometheus: main}}
networkPolicy:
  databasePort: 6432
  apiServerPort: 443
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  extraEgress: [{ports: [{protocol: TCP, port: 3128}]}]
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: infra, operator: Exists}]
affinity: {nodeAffinity: {}}
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}
priorityClassName: important
podAnnotations: {example.com/note: x}
podLabels: {team: mail, app.kubernetes.io/name: not-this}
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example.com:3128"}]
extraVolumes: [{name: ca, configMap: {name: postgres-ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/postgres-ca}]
`

func TestEveryValueArrives(t *testing.T) {
	t.Parallel()
	all := render(t, everything)
	deployment := is(t, all, "Deployment ens-operator-system/ens-operator", &appsv1.Deployment{})
	pod := deployment.Spec.Template
	container := pod.Spec.Containers[0]
	if want := "mirror.example.com/ghcr/ens-operator/ens-operator@sha256:" + strings.Repeat("0", 63) + "1"; container.Image != want {
		t.Errorf("the image is %s, want %s", container.Image, want)
	}
	if want := []string{
		"--runtime-image=mirror.example.com/ghcr/ens-operator/ens-runtime:0.9.0",
		"--database-url-file=/etc/ens-operator/database/uri",
		"--log-level=DEBUG",
		"--workers=3",
		"--cluster-id=prod-1",
		"--metrics-bind-address=:8443",
		"--metrics-secure=true",
		"--metrics-certificates=/etc/ens-operator/metrics",
		"--runtime-database-host=pooler.example.com",
		"--runtime-database-port=6432",
		"--runtime-database-sslmode=verify-full",
	}; !slices.Equal(container.Args, want) {
		t.Errorf("the arguments are\n%s\nwant\n%s", strings.Join(container.Args, "\n"), strings.Join(want, "\n"))
	}
	spread := pod.Spec.TopologySpreadConstraints
	for what, ok := range map[string]bool{
		"pull secret":     len(pod.Spec.ImagePullSecrets) == 1 && pod.Spec.ImagePullSecrets[0].Name == "mirror",
		"node selector":   pod.Spec.NodeSelector[corev1.LabelArchStable] == "arm64",
		"toleration":      len(pod.Spec.Tolerations) == 1 && pod.Spec.Tolerations[0].Key == "infra",
		"affinity":        pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil,
		"spread":          len(spread) == 1 && spread[0].TopologyKey == corev1.LabelTopologyZone && spread[0].LabelSelector.MatchLabels["app.kubernetes.io/instance"] == release,
		"priority":        pod.Spec.PriorityClassName == "important",
		"annotation":      pod.Annotations["example.com/note"] == "x",
		"label":           pod.Labels["team"] == "mail",
		"selector":        pod.Labels["app.kubernetes.io/name"] == "ens-operator",
		"environment":     len(container.Env) == 1 && container.Env[0].Name == "HTTPS_PROXY",
		"database volume": pod.Spec.Volumes[0].Secret.SecretName == "ens-db-app",
		"metrics volume":  pod.Spec.Volumes[1].Secret.SecretName == "metrics-tls" && container.VolumeMounts[1].MountPath == "/etc/ens-operator/metrics",
		"further volume":  pod.Spec.Volumes[2].Name == "ca" && container.VolumeMounts[2].MountPath == "/etc/postgres-ca",
	} {
		if !ok {
			t.Errorf("%s: not as the values say\n%s", what, asYAML(t, pod))
		}
	}
	policy := is(t, all, "NetworkPolicy ens-operator-system/ens-operator", &networkingv1.NetworkPolicy{})
	var ports []int32
	for _, rule := range policy.Spec.Egress {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntVal)
		}
	}
	if want := []int32{53, 53, 443, 6432, 3128}; !slices.Equal(ports, want) || len(policy.Spec.Ingress[0].From) != 1 {
		t.Errorf("the network policy lets out to %v, want %v, and lets in from %v", ports, want, policy.Spec.Ingress)
	}
	for _, name := range []string{"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"} {
		found := slices.ContainsFunc(slices.Collect(maps.Values(all)), func(object *unstructured.Unstructured) bool {
			return object.GetKind() == name && object.GetLabels()["prometheus"] == "main"
		})
		if !found {
			t.Errorf("there is no %s with the labels for it", name)
		}
	}
}

func TestObjectsCanBeLeftOut(t *testing.T) {
	t.Parallel()
	for values, gone := range map[string][]string{
		`crds: {enabled: false}`:                        {"CustomResourceDefinition enstenants.ens-operator.io", "CustomResourceDefinition ewsendpoints.ens-operator.io", "CustomResourceDefinition pushproviders.ens-operator.io"},
		`networkPolicy: {enabled: false}`:               {"NetworkPolicy ens-operator-system/ens-operator"},
		`podDisruptionBudget: {enabled: false}`:         {"PodDisruptionBudget ens-operator-system/ens-operator"},
		`serviceAccount: {create: false, name: theirs}`: {"ServiceAccount ens-operator-system/ens-operator"},
		`rbac: {userRoles: false}`:                      {"ClusterRole ens-operator-editor", "ClusterRole ens-operator-viewer"},
		`metrics: {enabled: false}`: {
			"Service ens-operator-system/ens-operator-metrics", "ClusterRole ens-operator-metrics-reader", "Pod ens-operator-system/ens-operator-test",
			"ServiceAccount ens-operator-system/ens-operator-test", "ClusterRoleBinding ens-operator-test",
		},
		`rbac: {create: false}`: {
			"ClusterRole ens-operator", "ClusterRoleBinding ens-operator", "ClusterRole ens-operator-editor", "ClusterRole ens-operator-viewer", "ClusterRole ens-operator-metrics-reader",
			"Role ens-operator-system/ens-operator-leader-election", "RoleBinding ens-operator-system/ens-operator-leader-election",
			"Pod ens-operator-system/ens-operator-test", "ServiceAccount ens-operator-system/ens-operator-test", "ClusterRoleBinding ens-operator-test",
		},
	} {
		t.Run(values, func(t *testing.T) {
			t.Parallel()
			all, less := render(t, ""), render(t, values)
			for _, name := range gone {
				if all[name] == nil {
					t.Errorf("%s is not there by default", name)
				}
				delete(all, name)
			}
			if got, want := slices.Sorted(maps.Keys(less)), slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
				t.Errorf("there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestCRDsAreKeptUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{"": "keep", "crds: {keep: false}": ""} {
		count := 0
		for name, object := range render(t, values) {
			if object.GetKind() != "CustomResourceDefinition" {
				continue
			}
			count++
			if got := object.GetAnnotations()["helm.sh/resource-policy"]; got != want {
				t.Errorf("with %q, %s has the policy %q, want %q", values, name, got, want)
			}
		}
		if count != 3 {
			t.Errorf("with %q there are %d CRDs", values, count)
		}
	}
}

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

const inNamespaces = `
rbac: {scope: namespace, namespaces: [team-b, team-a]}
clusterID: prod-1
metrics: {secure: false}
crds: {enabled: false}
`

func TestInNamespacesThereIsNothingOfTheCluster(t *testing.T) {
	t.Parallel()
	all := render(t, inNamespaces)
	for name, object := range all {
		if strings.HasPrefix(object.GetKind(), "Cluster") || object.GetNamespace() == "" {
			t.Errorf("there is %s", name)
		}
	}
	for _, team := range []string{"team-a", "team-b"} {
		role := is(t, all, "Role "+team+"/ens-operator", &rbacv1.Role{})
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				if strings.HasPrefix(group, "auth") || slices.Contains(rule.Resources, "namespaces") {
					t.Errorf("a Role cannot give %v", rule)
				}
			}
		}
		binding := is(t, all, "RoleBinding "+team+"/ens-operator", &rbacv1.RoleBinding{})
		if subject := binding.Subjects[0]; subject.Namespace != namespace || subject.Name != "ens-operator" {
			t.Errorf("the role is bound to %v", subject)
		}
	}
	deployment := is(t, all, "Deployment ens-operator-system/ens-operator", &appsv1.Deployment{})
	for _, want := range []string{"--watch-namespaces=team-a,team-b", "--metrics-secure=false", "--cluster-id=prod-1"} {
		if args := deployment.Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, want) {
			t.Errorf("the arguments %q do not have %s", args, want)
		}
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ values, says string }{
		"a value that is not there":               {`replica: 3`, "replica"},
		"a value that is not there, further down": {`metrics: {prot: 1}`, "prot"},
		"a port out of range":                     {`metrics: {port: 70000}`, "/metrics/port"},
		"a digest that is none":                   {`image: {digest: latest}`, "/image/digest"},
		"a tag with a space":                      {`runtime: {image: {tag: "1 2"}}`, "/runtime/image/tag"},
		"a scope that is none":                    {`rbac: {scope: galaxy}`, "/rbac/scope"},
		"a log level that is none":                {`logLevel: loud`, "/logLevel"},
		"a number as text":                        {`replicas: "2"`, "/replicas"},
		"no Secret for the database":              {`database: {secretName: ""}`, "/database/secretName"},
		"a namespace twice":                       {`rbac: {scope: namespace, namespaces: [a, a]}`, "/rbac/namespaces"},
		"a namespace that is none":                {`rbac: {scope: namespace, namespaces: ["a,b"]}`, "/rbac/namespaces"},
		"an environment variable with no name":    {`extraEnv: [{value: x}]`, "/extraEnv/0"},
		"namespaces without the scope":            {`rbac: {namespaces: [a]}`, "set rbac.scope to namespace"},
		"the scope without namespaces":            {`rbac: {scope: namespace}`, "list the namespaces in rbac.namespaces"},
		"namespaces without an id of the cluster": {`{rbac: {scope: namespace, namespaces: [a]}, metrics: {secure: false}}`, "set clusterID"},
		"namespaces with secure metrics":          {`{rbac: {scope: namespace, namespaces: [a]}, clusterID: x}`, "set metrics.secure (or metrics.enabled) to false"},
		"to scrape metrics that are off":          {`{metrics: {enabled: false}, monitoring: {serviceMonitor: true}}`, "needs metrics.enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := template(t, c.values); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ".", "/"), strings.ReplaceAll(c.says, ".", "/")) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestNamesFollowTheRelease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ release, values, want string }{
		"the chart's name":                 {"ens-operator", "", "ens-operator"},
		"another, with the chart's in it":  {"prod-ens-operator", "", "prod-ens-operator"},
		"another":                          {"prod", "", "prod-ens-operator"},
		"a name for the chart":             {"prod", "nameOverride=mail", "prod-mail"},
		"a name for everything":            {"prod", "fullnameOverride=mail", "mail"},
		"one that is too long, cut to fit": {"a23456789-123456789-123456789-123456789-123456789-12", "", "a23456789-123456789-123456789-123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := helm(t, "template", c.release, chart, "--namespace", namespace, "--set", c.values)
			if err != nil {
				t.Fatal(err)
			}
			all := read(t, text)
			for _, object := range []string{"Deployment ens-operator-system/", "ClusterRole ", "ServiceAccount ens-operator-system/"} {
				if all[object+c.want] == nil {
					t.Errorf("there is no %s%s", object, c.want)
				}
			}
		})
	}
}

// What the alerts and the dashboard read is documented; the operator's own metrics are controller-runtime's.
func TestMonitoringReadsMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	documented, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bens_[a-z_]+`)
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
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
