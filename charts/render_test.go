package charts_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
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
watchLabelSelector: "ens-operator.io/shard notin (north, south)"
workers: 3
database: {secretName: ens-db-app, secretKey: uri}
runtime:
  image: {tag: "0.9.0"}
  maxRollouts: 7
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
		"--max-rollouts=7",
		"--database-url-file=/etc/ens-operator/database/uri",
		"--log-level=DEBUG",
		"--workers=3",
		"--cluster-id=prod-1",
		"--watch-label-selector=ens-operator.io/shard notin (north, south)", "--leader-election-id=ens-operator.ens-operator.ens-operator.io",
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

// Whoever monitors with kustomize gets what the chart's values make.
func TestMonitoringOfChartAndKustomizeIsTheSame(t *testing.T) {
	t.Parallel()
	text, err := kubectl(t, "kustomize", filepath.Join("..", "config", "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	kustomized := read(t, text)
	rendered := render(t, "monitoring: {serviceMonitor: true, podMonitor: true, prometheusRule: true, dashboard: true}")
	for name := range render(t, "") {
		delete(rendered, name)
	}
	if len(rendered) != 4 {
		t.Errorf("the chart makes %v", slices.Sorted(maps.Keys(rendered)))
	}
	for name, object := range rendered {
		want := kustomized[name]
		if want == nil {
			t.Errorf("only the chart has %s", name)
			continue
		}
		normalise(object)
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
