package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// exposed is a tenant that is exposed in a way, with its TLS terminated elsewhere if plain says so.
func exposed(plain bool, exposure api.TenantExposure) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) {
		t.Spec.Exposure = &exposure
		if plain {
			terminateElsewhere(t)
		}
	})
}

func throughGateway(refs ...api.GatewayReference) api.TenantExposure {
	return api.TenantExposure{Gateway: &api.GatewayExposure{ParentRefs: refs}}
}

func withListeners(refs ...api.GatewayReference) api.TenantExposure {
	exposure := throughGateway(refs...)
	exposure.Gateway.ListenerSet = &api.GatewayListeners{TLSSecretName: "front"}
	return exposure
}

func throughLoadBalancer(ranges ...api.NetworkRange) api.TenantExposure {
	return api.TenantExposure{LoadBalancer: &api.LoadBalancerExposure{SourceRanges: ranges}}
}

func withHostnames(count int, tenant *api.EnsTenant) *api.EnsTenant {
	for i := range count {
		tenant.Spec.Hostnames = append(tenant.Spec.Hostnames, api.Hostname(fmt.Sprintf("n%d.example.com", i)))
	}
	return tenant
}

func TestExposureRules(t *testing.T) {
	t.Parallel()
	const exactlyOne = "exposure needs exactly one of"
	edge := throughGateway(api.GatewayReference{Name: "edge", Namespace: "infra", SectionName: "https"})
	ingress := api.TenantExposure{Ingress: &api.IngressExposure{ClassName: "traefik", TLSSecretName: "front"}}
	checkRules(t, map[string]rule{
		"none":                                     {exposed(false, api.TenantExposure{None: &api.NoExposure{}}), ""},
		"nothing":                                  {exposed(false, api.TenantExposure{}), exactlyOne},
		"two ways":                                 {exposed(false, api.TenantExposure{None: &api.NoExposure{}, Ingress: &api.IngressExposure{}}), exactlyOne},
		"a Gateway that serves https":              {exposed(true, edge), ""},
		"a Gateway where the pods serve https":     {exposed(false, edge), "exposure.gateway needs tls.terminatedElsewhere"},
		"no Gateway":                               {exposed(true, throughGateway([]api.GatewayReference{}...)), "spec.exposure.gateway.parentRefs"},
		"a Gateway in a namespace with a dot":      {exposed(true, throughGateway(api.GatewayReference{Name: "edge", Namespace: "in.fra"})), "must be the name of a namespace"},
		"a Gateway for sixteen names":              {withHostnames(15, exposed(true, edge)), ""},
		"a Gateway for seventeen names":            {withHostnames(16, exposed(true, edge)), "at most 15 hostnames"},
		"listeners of its own":                     {exposed(true, withListeners(api.GatewayReference{Name: "edge", Namespace: "infra"})), ""},
		"listeners of its own on a listener":       {exposed(true, withListeners(api.GatewayReference{Name: "edge", SectionName: "https"})), "names one Gateway and no listener"},
		"listeners of its own on two Gateways":     {exposed(true, withListeners(api.GatewayReference{Name: "edge"}, api.GatewayReference{Name: "inner"})), "names one Gateway"},
		"an Ingress with the tenant's":             {exposed(false, api.TenantExposure{Ingress: &api.IngressExposure{}}), ""},
		"an Ingress with a certificate":            {exposed(true, ingress), ""},
		"an Ingress with two certificates":         {exposed(false, ingress), "exposure.ingress.tlsSecretName is for tls.terminatedElsewhere"},
		"a load balancer":                          {exposed(false, throughLoadBalancer("203.0.113.0/24", "2001:db8::/32")), ""},
		"a load balancer without a certificate":    {exposed(true, throughLoadBalancer()), "exposure.loadBalancer cannot go with tls.terminatedElsewhere"},
		"a load balancer for an address, no range": {exposed(false, throughLoadBalancer("203.0.113.7")), "must be a range of IP addresses"},
	})
}

func runningAs(runtime api.TenantRuntime) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.Runtime = &runtime })
}

func scaled(lowest, highest int32) *api.EnsTenant {
	return runningAs(api.TenantRuntime{Autoscaling: &api.TenantAutoscaling{MinReplicas: lowest, MaxReplicas: highest}})
}

func templated(template api.PodTemplate) *api.EnsTenant {
	return runningAs(api.TenantRuntime{PodTemplate: &template})
}

func limited(policy api.TenantNetworkPolicy) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.NetworkPolicy = &policy })
}

func TestRuntimeRules(t *testing.T) {
	t.Parallel()
	variable := func(name string) *api.EnsTenant {
		return templated(api.PodTemplate{ExtraEnv: []api.EnvironmentVariable{{Name: name, Value: "x"}}})
	}
	debug := func(value string) *api.EnsTenant {
		return templated(api.PodTemplate{ExtraEnv: []api.EnvironmentVariable{{Name: "GODEBUG", Value: value}}})
	}
	spread := func(action corev1.UnsatisfiableConstraintAction) *api.EnsTenant {
		return templated(api.PodTemplate{TopologySpreadConstraints: []api.TopologySpread{{TopologyKey: "rack", WhenUnsatisfiable: action}}})
	}
	checkRules(t, map[string]rule{
		"autoscaling":                       {scaled(3, 3), ""},
		"autoscaling from two on":           {scaled(0, 2), ""},
		"autoscaling from two on to one":    {scaled(0, 1), "maxReplicas must be no less than minReplicas"},
		"autoscaling from four on to three": {scaled(4, 3), "maxReplicas must be no less than minReplicas"},
		"autoscaling without an end":        {scaled(1, 0), "spec.runtime.autoscaling.maxReplicas"},
		"autoscaling beside replicas": {runningAs(api.TenantRuntime{Replicas: new(int32(2)), Autoscaling: &api.TenantAutoscaling{MaxReplicas: 3}}),
			"replicas and autoscaling exclude each other"},
		"a variable":                          {variable("GODEBUG"), ""},
		"a setting of GODEBUG":                {debug("tlsrsakex=1"), ""},
		"a GODEBUG that logs headers":         {debug("http2debug=1"), "GODEBUG must not hold http2debug"},
		"a GODEBUG that logs frames, too":     {debug("tlsrsakex=1,http2debug=2"), "GODEBUG must not hold http2debug"},
		"another variable of that value":      {templated(api.PodTemplate{ExtraEnv: []api.EnvironmentVariable{{Name: "NOTE", Value: "http2debug=1"}}}), ""},
		"a GODEBUG without a value":           {debug(""), ""},
		"a variable that begins with a digit": {variable("1ST"), "must be letters, digits and '_'"},
		"a variable with a dash":              {variable("GO-DEBUG"), "must be letters, digits and '_'"},
		"spreading that is insisted on":       {spread(corev1.DoNotSchedule), ""},
		"spreading in an unknown way":         {spread("Perhaps"), "Unsupported value"},
		"any affinity":                        {templated(api.PodTemplate{Affinity: &runtime.RawExtension{Raw: []byte(`{"nodeAffinity":{"x":[1]}}`)}}), ""},
		"a network policy":                    {limited(api.TenantNetworkPolicy{Enabled: true, EgressPorts: []int32{6432}}), ""},
		"a network policy for no port":        {limited(api.TenantNetworkPolicy{Enabled: true, EgressPorts: []int32{0}}), "should be greater than or equal to 1"},
	})
}

// What the API server would drop could not be complained about.
func TestAffinityIsKeptAsItWasWritten(t *testing.T) {
	t.Parallel()
	c, namespace := newClient(t)
	tenant := templated(api.PodTemplate{Affinity: &runtime.RawExtension{Raw: []byte(`{"nodeAffinity":{"misspelt":["x"]}}`)}})
	tenant.Namespace = namespace
	if err := c.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if got := string(tenant.Spec.Runtime.PodTemplate.Affinity.Raw); !strings.Contains(got, "misspelt") {
		t.Errorf("the affinity has become %s", got)
	}
}
