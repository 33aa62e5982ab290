package controllers_test

import (
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// installGatewayAPI installs the CRD of a kind of the Gateway API, by its plural.
func installGatewayAPI(t *testing.T, s *stage, kind string) {
	t.Helper()
	installCRDs(t, s, "sigs.k8s.io/gateway-api", filepath.Join("config", "crd", "standard", "gateway.networking.k8s.io_"+kind+".yaml"))
}

// saying is a condition as the controller of a Gateway writes it.
func saying(kind string, status metav1.ConditionStatus, reason string, generation int64) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "as I say", ObservedGeneration: generation, LastTransitionTime: metav1.Now()}
}

// checkListeners looks whether a ListenerSet listens for names as it should.
func checkListeners(t *testing.T, set *gatewayv1.ListenerSet, hostnames ...string) {
	t.Helper()
	if ref := set.Spec.ParentRef; ref.Name != "edge" || *ref.Namespace != "infra" || set.Annotations["cert-manager.io/issuer"] != "company" {
		t.Errorf("the ListenerSet is %+v", set)
	}
	for i, hostname := range hostnames {
		listener := set.Spec.Listeners[i]
		if string(*listener.Hostname) != hostname || listener.Port != 443 || listener.Protocol != gatewayv1.HTTPSProtocolType ||
			*listener.TLS.Mode != gatewayv1.TLSModeTerminate || listener.TLS.CertificateRefs[0].Name != "front" {
			t.Errorf("a listener is %+v", listener)
		}
	}
}

// speakOfListeners says of a ListenerSet, and of its first listener, what the Gateway's controller would.
func (s *stage) speakOfListeners(set *gatewayv1.ListenerSet, accepted, programmed metav1.ConditionStatus, reason string, first ...metav1.Condition) {
	s.t.Helper()
	s.eventually("speaking for the Gateway", func() error {
		s.get(set)
		set.Status.Conditions = []metav1.Condition{
			saying("Accepted", accepted, reason, set.Generation), saying("Programmed", programmed, reason, set.Generation)}
		set.Status.Listeners = nil
		for _, said := range first {
			said.ObservedGeneration = set.Generation
			set.Status.Listeners = append(set.Status.Listeners, gatewayv1.ListenerEntryStatus{
				Name: set.Spec.Listeners[0].Name, Conditions: []metav1.Condition{said}})
		}
		return s.clients.Status().Update(s.t.Context(), set)
	})
}

// A tenant has listeners of its own on a Gateway, where the cluster knows ListenerSets; the test plays the Gateway's
// controller.
func TestATenantHasListenersOfItsOwnOnAGateway(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	installGatewayAPI(t, s, "httproutes")
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		behindGateway(o)
		o.Spec.Hostnames = []api.Hostname{api.Hostname("more." + s.hostname())}
	})
	look := func() {
		change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"look": o.ResourceVersion} })
	}
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, "")

	// The cluster does not know them: that is said, and the route stays with the Gateway's own listener.
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.Exposure.Gateway.ParentRefs[0].SectionName = ""
		o.Spec.Exposure.Gateway.ListenerSet = &api.GatewayListeners{TLSSecretName: "front", Annotations: map[string]string{"cert-manager.io/issuer": "company"}}
	})
	found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonListenerSetsMissing)
	if !strings.Contains(found.Message, "or remove spec.exposure.gateway.listenerSet") {
		t.Errorf("the condition says %q", found.Message)
	}
	parent := func() gatewayv1.ParentReference {
		t.Helper()
		return fetch(s, &gatewayv1.HTTPRoute{}, "acme").Spec.ParentRefs[0]
	}
	if got := parent(); got.Name != "edge" || *got.Kind != "Gateway" {
		t.Errorf("the route attaches to %+v", got)
	}
	installGatewayAPI(t, s, "listenersets")
	look() // the operator looks once a minute
	found = s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	if !strings.Contains(found.Message, "has yet to take ListenerSet acme") {
		t.Errorf("the condition says %q", found.Message)
	}
	set := fetch(s, &gatewayv1.ListenerSet{}, "acme")
	checkListeners(t, set, s.hostname(), "more."+s.hostname())
	if got := parent(); got.Name != "acme" || *got.Kind != "ListenerSet" || *got.Group != gatewayv1.GroupName || got.SectionName != nil {
		t.Errorf("the route attaches to %+v", got)
	}

	say := func(accepted, programmed metav1.ConditionStatus, reason string, listeners ...metav1.Condition) {
		t.Helper()
		s.speakOfListeners(set, accepted, programmed, reason, listeners...)
	}
	for name, c := range map[string]struct {
		say  func()
		says string
	}{
		"not allowed":    {func() { say("False", "False", "NotAllowed") }, "spec.allowedListeners: as I say (NotAllowed)"},
		"not programmed": {func() { say("True", "False", "ParentNotProgrammed") }, "does not take ListenerSet acme: as I say (ParentNotProgrammed)"},
		"without a certificate": {func() {
			say("False", "False", "ListenersNotValid", saying("ResolvedRefs", "False", "InvalidCertificateRef", 0))
		}, "cannot listen for " + s.hostname() + ": as I say (InvalidCertificateRef)"},
		"with the name of another": {func() {
			say("True", "True", "Accepted", saying("Conflicted", "True", "HostnameConflict", 0))
		}, "cannot listen for " + s.hostname() + ": as I say (HostnameConflict)"},
	} {
		c.say()
		s.eventually("telling of a ListenerSet that is "+name, func() error {
			found := s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionFalse, api.ReasonNotAccepted)
			if !strings.Contains(found.Message, c.says) {
				return errNotYet(found.Message)
			}
			return nil
		})
	}
	say("True", "True", "Accepted", saying("ResolvedRefs", "True", "ResolvedRefs", 0))
	found = s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionUnknown, api.ReasonProgressing)
	if !strings.Contains(found.Message, "ListenerSet "+s.namespace+"/acme") {
		t.Errorf("the condition says %q", found.Message)
	}
	route := fetch(s, &gatewayv1.HTTPRoute{}, "acme")
	route.Status.Parents = []gatewayv1.RouteParentStatus{{ParentRef: route.Spec.ParentRefs[0], ControllerName: "example.com/gateway",
		Conditions: []metav1.Condition{saying("Accepted", "True", "Accepted", route.Generation), saying("ResolvedRefs", "True", "ResolvedRefs", route.Generation)}}}
	if err := s.clients.Status().Update(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	s.waitCondition(tenant, api.ConditionExposed, metav1.ConditionTrue, api.ReasonExposed)
	s.quiet()
	written := len(s.written())
	look()
	s.quiet()
	if got := s.written(); len(got) != written {
		t.Errorf("with nothing to do there were the writes %v", got[written:])
	}

	// Back to the Gateway's own listener: the tenant's go once the route has left them.
	change(s, tenant, "acme", behindGateway)
	s.gone(&gatewayv1.ListenerSet{}, "acme")
	if got := parent(); got.Name != "edge" || *got.SectionName != "https" {
		t.Errorf("the route attaches to %+v", got)
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.Exposure.Gateway.ParentRefs[0].SectionName = ""
		o.Spec.Exposure.Gateway.ListenerSet = &api.GatewayListeners{TLSSecretName: "front", Port: 8443}
	})
	s.eventually("waiting for the listeners", func() error {
		if !s.there(set, "acme") || set.Spec.Listeners[0].Port != 8443 {
			return errNotYet("they are not there")
		}
		return nil
	})
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Exposure = nil })
	s.gone(&gatewayv1.ListenerSet{}, "acme")
	s.gone(&gatewayv1.HTTPRoute{}, "acme")
}
