package controllers_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

const routesCRD = "httproutes.gateway.networking.k8s.io"

// behindGateway has the tenant of the samples exposed by the Gateway edge in the namespace infra.
func behindGateway(o *api.EnsTenant) {
	o.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	o.Spec.Exposure = &api.TenantExposure{Gateway: &api.GatewayExposure{ParentRefs: []api.GatewayReference{
		{Name: "edge", Namespace: "infra", SectionName: "https"}}}}
}

var gatewayAPI sync.Mutex // one test installs and removes it, with -count in turns

// The Gateway API may come after the operator and the tenant; the test plays its controller.
func TestExposureByGateway(t *testing.T) {
	t.Parallel()
	gatewayAPI.Lock()
	defer gatewayAPI.Unlock()
	s := newStage(t)
	tenant := s.provisioned()
	change(s, tenant, "acme", behindGateway)
	if !s.there(&apiextensions.CustomResourceDefinition{}, routesCRD) { // else the test was run with -count
		found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonGatewayAPIMissing)
		if !strings.Contains(found.Message, "install the Gateway API") {
			t.Errorf("the condition says %q", found.Message)
		}
		installCRDs(t, s, "sigs.k8s.io/gateway-api", filepath.Join("config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml"))
	}
	// The operator looks once a minute; a change of the tenant is quicker.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"look": "again"} })
	found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	if !strings.Contains(found.Message, "infra/edge") {
		t.Errorf("the condition says %q", found.Message)
	}
	route := fetch(s, &gatewayv1.HTTPRoute{}, "acme")
	if got := route.Spec.Hostnames; len(got) != 1 || string(got[0]) != s.hostname() {
		t.Errorf("the route is for %v", got)
	}

	say := func(accepted, resolved metav1.ConditionStatus, reason string) {
		t.Helper()
		s.eventually("speaking for the Gateway", func() error {
			s.get(route)
			said := func(kind gatewayv1.RouteConditionType, status metav1.ConditionStatus) metav1.Condition {
				return metav1.Condition{Type: string(kind), Status: status, Reason: reason, Message: "as I say",
					ObservedGeneration: route.Generation, LastTransitionTime: metav1.Now()}
			}
			route.Status.Parents = []gatewayv1.RouteParentStatus{{
				ParentRef: route.Spec.ParentRefs[0], ControllerName: "example.com/gateway",
				Conditions: []metav1.Condition{said(gatewayv1.RouteConditionAccepted, accepted), said(gatewayv1.RouteConditionResolvedRefs, resolved)},
			}}
			return s.clients.Status().Update(t.Context(), route)
		})
	}
	say("False", "True", "NotAllowedByListeners")
	found = s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonNotAccepted)
	if !strings.Contains(found.Message, "NotAllowedByListeners") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonNotAccepted)
	say("True", "False", "BackendNotFound")
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonNotAccepted)
	say("True", "True", "Accepted")
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionTrue, api.ReasonExposed)

	// What was said of an earlier route says nothing of this one.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Hostnames = []api.Hostname{api.Hostname("more." + s.hostname())} })
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	say("True", "True", "Accepted")
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionTrue, api.ReasonExposed)

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Exposure = nil })
	s.gone(&gatewayv1.HTTPRoute{}, "acme")
	s.waitNoCondition(tenant, api.ConditionExposed)

	// The Gateway API goes away while the operator runs: that is said, and everything else goes on.
	s.remove(&apiextensions.CustomResourceDefinition{}, routesCRD)
	s.gone(&apiextensions.CustomResourceDefinition{}, routesCRD)
	change(s, tenant, "acme", behindGateway)
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonGatewayAPIMissing)
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

// waitNoCondition waits until the status, of the latest generation, has no such condition.
func (s *stage) waitNoCondition(tenant *api.EnsTenant, kind string) {
	s.t.Helper()
	s.eventually("waiting for no "+kind, func() error {
		s.get(tenant)
		there := slices.ContainsFunc(tenant.Status.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
		if there || tenant.Status.ObservedGeneration != tenant.Generation {
			return errNotYet("generation and conditions are others")
		}
		return nil
	})
}

func TestExposureByIngressThenByLoadBalancer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.Exposure = &api.TenantExposure{Ingress: &api.IngressExposure{ClassName: "traefik", Annotations: map[string]string{"a": "b"}}}
	})
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	ingress := fetch(s, &networkingv1.Ingress{}, "acme")
	if *ingress.Spec.IngressClassName != "traefik" || ingress.Annotations["a"] != "b" || ingress.Spec.TLS[0].SecretName != "acme-server-certificate" {
		t.Errorf("the Ingress is %+v", ingress)
	}
	ingress.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "203.0.113.7"}, {Hostname: "lb.example.com"}}
	if err := s.clients.Status().Update(t.Context(), ingress); err != nil {
		t.Fatal(err)
	}
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionTrue, api.ReasonExposed)
	if got := strings.Join(tenant.Status.Addresses, " "); got != "203.0.113.7 lb.example.com" {
		t.Errorf("the addresses are %q", got)
	}

	balance := func(class string) {
		t.Helper()
		change(s, tenant, "acme", func(o *api.EnsTenant) {
			o.Spec.Exposure = &api.TenantExposure{LoadBalancer: &api.LoadBalancerExposure{Class: class, SourceRanges: []api.NetworkRange{"203.0.113.0/24"}}}
		})
	}
	balance("example.com/one")
	s.gone(&networkingv1.Ingress{}, "acme")
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, "")
	if len(tenant.Status.Addresses) != 0 {
		t.Errorf("the Ingress's addresses are still there: %v", tenant.Status.Addresses)
	}
	service := fetch(s, &corev1.Service{}, "acme-public")
	spec := service.Spec
	if spec.Type != corev1.ServiceTypeLoadBalancer || *spec.LoadBalancerClass != "example.com/one" || *spec.AllocateLoadBalancerNodePorts ||
		spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || spec.LoadBalancerSourceRanges[0] != "203.0.113.0/24" ||
		len(spec.Ports) != 1 || spec.Ports[0].Port != 443 || spec.Ports[0].NodePort != 0 {
		t.Errorf("the Service is %+v", spec)
	}
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.8"}}
	if err := s.clients.Status().Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionTrue, api.ReasonExposed)

	// A class cannot be changed, so the Service is made anew.
	balance("example.com/two")
	s.eventually("waiting for another Service", func() error {
		if !s.there(service, "acme-public") || *service.Spec.LoadBalancerClass != "example.com/two" {
			return errNotYet("it is the old one, or none")
		}
		return nil
	})

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Exposure = &api.TenantExposure{None: &api.NoExposure{}} })
	s.gone(&corev1.Service{}, "acme-public")
	s.waitNoCondition(tenant, api.ConditionExposed)
	s.quiet()
	if !s.there(&corev1.Service{}, "acme") {
		t.Error("the tenant's own Service is gone")
	}
}

func TestWhatExposesSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	foreign := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "acme"}, Spec: networkingv1.IngressSpec{
		DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "x", Port: networkingv1.ServiceBackendPort{Number: 1}}}}}
	s.create(foreign)
	version := foreign.ResourceVersion
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Exposure = &api.TenantExposure{Ingress: &api.IngressExposure{}} })
	found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonNotOwned)
	if !strings.Contains(found.Message, "Ingress acme") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonNotOwned)
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Exposure = nil })
	s.waitNoCondition(tenant, api.ConditionExposed)
	s.quiet()
	if s.get(foreign); foreign.ResourceVersion != version {
		t.Error("it was written to")
	}
}

func TestWhatTheAPIServerRefusesIsSaid(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.Exposure = &api.TenantExposure{LoadBalancer: &api.LoadBalancerExposure{SourceRanges: []api.NetworkRange{"999.0.0.0/8"}}}
	})
	found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonInvalid)
	if !strings.Contains(found.Message, "999.0.0.0/8") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonInvalid)
}

// Two tenants with one name would get each other's phones. They are in the order in which they came.
func TestFirstTenantHasTheHostname(t *testing.T) {
	t.Parallel()
	first := newStage(t)
	tenant := first.provisioned()
	second := newStage(t)
	second.waitSecondAfter(tenant)
	for _, object := range samples(t) {
		if object.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(object.Object, first.hostname(), "spec", "hostname")
			_ = unstructured.SetNestedField(object.Object, map[string]any{"ingress": map[string]any{}}, "spec", "exposure")
		}
		second.apply(object)
	}
	loser := second.acme()
	wantConflict(first, second, loser)
	second.quiet()
	for name, child := range map[string]client.Object{"acme-runtime": &corev1.ConfigMap{}, "acme": &networkingv1.Ingress{}} {
		if second.there(child, name) {
			t.Errorf("a %T was made for it", child)
		}
	}
	first.waitCondition(tenant, api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")

	// With a name of its own it is served, and with one of the first's among its others no longer changed.
	own := api.Hostname(second.hostname())
	change(second, loser, "acme", func(o *api.EnsTenant) { o.Spec.Hostname = own })
	second.waitCondition(loser, api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
	second.eventually("waiting for the Ingress", func() error {
		if !second.there(&networkingv1.Ingress{}, "acme") {
			return errNotYet("there is none")
		}
		return nil
	})
	change(second, loser, "acme", func(o *api.EnsTenant) {
		o.Spec.Hostnames = []api.Hostname{api.Hostname(first.hostname())}
		o.Spec.Exposure = nil
	})
	wantConflict(first, second, loser)
	second.quiet()
	if rules := fetch(second, &networkingv1.Ingress{}, "acme").Spec.Rules; len(rules) != 1 || rules[0].Host != string(own) {
		t.Errorf("the Ingress that was there has become %+v", rules)
	}

	// When the first has gone, it is the second's turn without anybody's doing.
	first.remove(tenant, "acme")
	second.waitCondition(loser, api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
	second.gone(&networkingv1.Ingress{}, "acme")
}

// waitSecondAfter waits until what is made now is younger than object: their age counts in seconds.
func (s *stage) waitSecondAfter(object client.Object) {
	s.t.Helper()
	s.eventually("waiting for the next second", func() error {
		probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "clock-"}}
		s.create(probe)
		if !probe.CreationTimestamp.After(object.GetCreationTimestamp().Time) {
			return errNotYet("it is the same one")
		}
		return nil
	})
}

func wantConflict(first, second *stage, loser *api.EnsTenant) {
	second.t.Helper()
	found := second.waitCondition(loser, api.ConditionHostnamesAccepted, metav1.ConditionFalse, api.ReasonHostnameConflict)
	if !strings.Contains(found.Message, first.namespace+"/acme") || !strings.Contains(found.Message, first.hostname()) {
		second.t.Errorf("the condition says %q", found.Message)
	}
	second.waitCondition(loser, api.ConditionReady, metav1.ConditionFalse, api.ReasonHostnameConflict)
}
