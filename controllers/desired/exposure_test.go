package desired_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/config"
)

func exposed(exposure api.TenantExposure) *api.EnsTenant {
	tenant := minimal()
	tenant.Spec.Hostnames = []api.Hostname{"ens.internal"}
	tenant.Spec.Exposure = &exposure
	return tenant
}

func routed() *api.EnsTenant {
	tenant := exposed(api.TenantExposure{Gateway: &api.GatewayExposure{ParentRefs: []api.GatewayReference{
		{Name: "edge", Namespace: "infra", SectionName: "https"}, {Name: "own"}}}})
	tenant.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	tenant.Spec.CallbackURL = "https://ens.internal/Hooks/ens"
	return tenant
}

// listening is routed with listeners of its own.
func listening() *api.EnsTenant {
	tenant := routed()
	tenant.Spec.Exposure.Gateway = &api.GatewayExposure{
		ParentRefs:  []api.GatewayReference{{Name: "edge", Namespace: "infra"}},
		ListenerSet: &api.GatewayListeners{TLSSecretName: "front", Port: 8443, Annotations: map[string]string{"note": "x", "helm.sh/hook": "y"}},
	}
	return tenant
}

func TestObjectsThatTheSpecAsksForAreAsBefore(t *testing.T) {
	t.Parallel()
	for name, tenant := range map[string]*api.EnsTenant{
		"scaled":    scaled(),
		"route":     routed(),
		"listeners": listening(),
		"ingress": exposed(api.TenantExposure{Ingress: &api.IngressExposure{
			ClassName: "traefik", Annotations: map[string]string{"note": "x", "argocd.argoproj.io/tracking-id": "y"}}}),
		"balancer": exposed(api.TenantExposure{LoadBalancer: &api.LoadBalancerExposure{
			Class: "example.com/external", Annotations: map[string]string{"note": "x"}, SourceRanges: []api.NetworkRange{"203.0.113.0/24"}}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compare(t, filepath.Join("testdata", name+".yaml"), render(t, build(t, tenant, "exchange")))
		})
	}
}

// scaled is a tenant with everything that concerns its pods.
func scaled() *api.EnsTenant {
	tenant := minimal()
	tenant.Spec.NetworkPolicy = &api.TenantNetworkPolicy{Enabled: true, EgressPorts: []int32{6432, 443}}
	tenant.Spec.Runtime = &api.TenantRuntime{
		Autoscaling: &api.TenantAutoscaling{MaxReplicas: 6},
		PodTemplate: &api.PodTemplate{
			Affinity: &runtime.RawExtension{Raw: []byte(`{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{` +
				`"nodeSelectorTerms":[{"matchExpressions":[{"key":"disk","operator":"In","values":["ssd"]}]}]}}}`)},
			TopologySpreadConstraints: []api.TopologySpread{{TopologyKey: "rack", MaxSkew: 2, WhenUnsatisfiable: corev1.DoNotSchedule}},
			ExtraEnv:                  []api.EnvironmentVariable{{Name: "GODEBUG", Value: "tlsrsakex=1"}},
			ServiceAccountAnnotations: map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/ens"},
		},
	}
	return tenant
}

func environment(t *testing.T, template api.PodTemplate) map[string]string {
	t.Helper()
	tenant := minimal()
	tenant.Spec.Runtime = &api.TenantRuntime{PodTemplate: &template}
	deployment, err := desired.Deployment(build(t, tenant, "exchange"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, variable := range deployment.Spec.Template.Spec.Containers[0].Env {
		found[*variable.Name] = *variable.Value
	}
	return found
}

func TestGoKeepsToTheMemoryLimit(t *testing.T) {
	t.Parallel()
	limited := func(limit string) api.PodTemplate {
		return api.PodTemplate{Resources: &api.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}}}
	}
	own := limited("1Gi")
	own.ExtraEnv = []api.EnvironmentVariable{{Name: "GOMEMLIMIT", Value: "off"}}
	for name, c := range map[string]struct {
		template api.PodTemplate
		want     string
	}{
		"by default, of 512 MiB":       {api.PodTemplate{}, "460MiB"},
		"of one GiB":                   {limited("1Gi"), "921MiB"},
		"of a limit in other units":    {limited("1G"), "858MiB"},
		"without a limit":              {api.PodTemplate{Resources: &api.ResourceRequirements{}}, ""},
		"with a limit of nothing much": {limited("1Mi"), ""},
		"as the spec says":             {own, "off"},
	} {
		if got := environment(t, c.template)["GOMEMLIMIT"]; got != c.want {
			t.Errorf("%s: GOMEMLIMIT is %q, want %q", name, got, c.want)
		}
	}
}

func TestAffinityThatIsNoneIsToldOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ raw, says string }{
		"a misspelt field": {`{"nodeAffinity":{"misspelt":[]}}`, `unknown field "misspelt"`},
		"a field twice":    {`{"podAffinity":{},"podAffinity":{}}`, "podAffinity"},
		"another type":     {`{"podAffinity":7}`, "podAffinity"},
	} {
		tenant := minimal()
		tenant.Spec.Runtime = &api.TenantRuntime{PodTemplate: &api.PodTemplate{Affinity: &runtime.RawExtension{Raw: []byte(c.raw)}}}
		_, err := desired.Deployment(build(t, tenant, "exchange"))
		refused, ok := errors.AsType[*desired.AffinityError](err)
		if !ok || !strings.Contains(refused.Error(), c.says) {
			t.Errorf("%s: %v, want a refusal that says %s", name, err, c.says)
		}
	}
}

func FuzzAffinity(f *testing.F) {
	f.Add([]byte(`{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1}]}}`))
	f.Add([]byte(`{"nodeAffinity":null}`))
	f.Add([]byte("a: [&b {c: *b}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tenant := minimal()
		tenant.Spec.Runtime = &api.TenantRuntime{PodTemplate: &api.PodTemplate{Affinity: &runtime.RawExtension{Raw: raw}}}
		deployment, err := desired.Deployment(desired.Tenant{Object: tenant, Settings: desired.Settings(tenant, "image:1")})
		if _, ok := errors.AsType[*desired.AffinityError](err); err != nil && !ok || (deployment == nil) != (err != nil) {
			t.Errorf("got %v and %v", deployment, err)
		}
	})
}

// A copy of what a tool tracks its objects by makes the tool take the operator's object for its own.
func TestNoToolTakesWhatIsMadeForItsOwn(t *testing.T) {
	t.Parallel()
	tracked := map[string]string{
		"argocd.argoproj.io/tracking-id": "tracked", "argocd.argoproj.io/instance": "tracked", "meta.helm.sh/release-name": "tracked",
		"kubectl.kubernetes.io/last-applied-configuration": "tracked", "kustomize.toolkit.fluxcd.io/name": "tracked", "kept": "yes",
	}
	for _, exposure := range []api.TenantExposure{
		{Ingress: &api.IngressExposure{Annotations: tracked}}, {LoadBalancer: &api.LoadBalancerExposure{Annotations: tracked}},
	} {
		tenant := exposed(exposure)
		tenant.Labels, tenant.Annotations = tracked, map[string]string{"note": "tracked"}
		tenant.Spec.Runtime = &api.TenantRuntime{PodTemplate: &api.PodTemplate{
			Labels: tracked, Annotations: tracked, ServiceAccountAnnotations: tracked}}
		text := string(render(t, build(t, tenant, "exchange")))
		if strings.Contains(text, "tracked") {
			t.Errorf("%s copies what a tool tracks its objects by", exposure.Kind())
		}
		if got := strings.Count(text, `kept: "yes"`); got != 4 {
			t.Errorf("%s: what is harmless is there %d times, want 4", exposure.Kind(), got)
		}
	}
}

func TestPodsAreSpreadAsTheSpecSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given []api.TopologySpread
		want  []string
	}{
		"over nodes and zones by default": {nil, []string{"1 kubernetes.io/hostname ScheduleAnyway", "1 topology.kubernetes.io/zone ScheduleAnyway"}},
		"not at all":                      {[]api.TopologySpread{}, nil},
		"over racks": {[]api.TopologySpread{{TopologyKey: "rack", MaxSkew: 2, WhenUnsatisfiable: corev1.DoNotSchedule}},
			[]string{"2 rack DoNotSchedule"}},
	} {
		tenant := minimal()
		tenant.Spec.Runtime = &api.TenantRuntime{PodTemplate: &api.PodTemplate{TopologySpreadConstraints: c.given}}
		deployment, err := desired.Deployment(build(t, tenant, "exchange"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, spread := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
			got = append(got, fmt.Sprint(*spread.MaxSkew, " ", *spread.TopologyKey, " ", *spread.WhenUnsatisfiable))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: pods are spread by %q, want %q", name, got, c.want)
		}
	}
}

func TestNetworkPolicyOpensWhatTheTenantNeeds(t *testing.T) {
	t.Parallel()
	tenant := minimal()
	tenant.Spec.NetworkPolicy = &api.TenantNetworkPolicy{Enabled: true, EgressPorts: []int32{15432}}
	built := build(t, tenant, "exchange")
	built.DatabasePorts = []int32{5432, 5433}
	built.References.Endpoints[0].URL = "https://mail.example.com:8443/EWS/Exchange.asmx"
	built.References.Providers = append(built.References.Providers, config.PushProvider{
		Name: "vmware", CNS: &config.CNS{}, Proxy: &config.ForwardProxy{URL: "http://proxy.example.com:3128"}})
	ports := func() (found []int) {
		t.Helper()
		policy, err := desired.NetworkPolicy(built)
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range policy.Spec.Egress[1].Ports {
			found = append(found, port.Port.IntValue())
		}
		return found
	}
	if got, want := ports(), []int{443, 3128, 5432, 5433, 8443, 15432}; !reflect.DeepEqual(got, want) {
		t.Errorf("the pods may connect to the ports %v, want %v", got, want)
	}
	built.References.Autodiscover = &config.Autodiscover{Domains: []string{"example.com"}}
	if got := ports(); got[0] != 80 {
		t.Errorf("Autodiscover may connect to the ports %v, but not to http", got)
	}
	tenant.Spec.NetworkPolicy.Enabled = false
	if policy, err := desired.NetworkPolicy(built); policy != nil || err != nil {
		t.Errorf("although none is asked for there is %v (%v)", policy, err)
	}
}

func TestAutoscalingInEffect(t *testing.T) {
	t.Parallel()
	tenant := build(t, scaled(), "exchange")
	if got, want := tenant.Settings.Autoscaling, (&api.TenantAutoscaling{MinReplicas: 2, MaxReplicas: 6, TargetCPUUtilizationPercentage: 80}); !reflect.DeepEqual(got, want) {
		t.Errorf("autoscaling is %+v, want %+v", got, want)
	}
	if tenant.Settings.Replicas != nil {
		t.Errorf("beside it %d replicas are asked for", *tenant.Settings.Replicas)
	}
	replicas := func() *int32 {
		t.Helper()
		deployment, err := desired.Deployment(tenant)
		if err != nil {
			t.Fatal(err)
		}
		return deployment.Spec.Replicas
	}
	if got := replicas(); got != nil {
		t.Errorf("a Deployment that is there is told to have %d pods", *got)
	}
	tenant.FirstReplicas = new(int32(2))
	if got := replicas(); got == nil || *got != 2 {
		t.Errorf("a Deployment that is to be made is told %v, want 2 pods", got)
	}
}
