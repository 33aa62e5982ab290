package enstenant

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// gatewayPoll is how often the operator looks whether the Gateway API has been installed: nothing tells it.
const gatewayPoll = time.Minute

// The kinds of gatewayv1.HTTPRoute and gatewayv1.ListenerSet.
var (
	routeKind       = schema.GroupVersionKind{Group: gatewayv1.GroupVersion.Group, Version: gatewayv1.GroupVersion.Version, Kind: "HTTPRoute"}
	listenerSetKind = schema.GroupVersionKind{Group: gatewayv1.GroupVersion.Group, Version: gatewayv1.GroupVersion.Version, Kind: desired.ListenerSetKind}
)

// exposeByGateway makes the route, and before it the listeners of the tenant's own, if it is to have some.
func (p *pass) exposeByGateway(ctx context.Context) (condition.Finding, error) {
	listening := condition.OK(v1alpha1.ReasonExposed, "")
	if desired.Listeners(p.tenant) != nil {
		var missing bool
		var err error
		// Where there are no ListenerSets, the route stays as it is: a Gateway may have taken it.
		if listening, missing, err = p.listen(ctx); missing || err != nil {
			return listening, err
		}
	}
	known, err := p.routes.ensure(p.Client.RESTMapper(), p.Client.Scheme())
	if err != nil {
		return condition.Finding{}, err
	}
	route := &gatewayv1.HTTPRoute{}
	if known {
		refusal, err := p.applyOwn(ctx, desired.HTTPRoute(p.tenant), route)
		if !kindGone(err) {
			if err != nil || !refusal.Good() {
				return refusal, err
			}
			return condition.Summarize(v1alpha1.ReasonExposed, "All Gateways have taken the HTTPRoute", listening, p.routeFinding(route)), nil
		}
	}
	p.lookAgain(gatewayPoll)
	return condition.Failed(v1alpha1.ReasonGatewayAPIMissing,
		"The cluster does not know HTTPRoutes of gateway.networking.k8s.io/v1: install the Gateway API with a controller, or choose another exposure"), nil
}

// listen makes the ListenerSet, and tells what the Gateway's controller says of it. Missing says that there is none.
func (p *pass) listen(ctx context.Context) (finding condition.Finding, missing bool, err error) {
	known, err := p.listenerSets.ensure(p.Client.RESTMapper(), p.Client.Scheme())
	if err != nil {
		return condition.Finding{}, false, err
	}
	set := &gatewayv1.ListenerSet{}
	if known {
		refusal, err := p.applyOwn(ctx, desired.ListenerSet(p.tenant), set)
		if !kindGone(err) {
			if err != nil || !refusal.Good() {
				return refusal, true, err
			}
			return p.listenerFinding(set), false, nil
		}
	}
	p.lookAgain(gatewayPoll)
	return condition.Failed(v1alpha1.ReasonListenerSetsMissing,
		"The cluster does not know ListenerSets of gateway.networking.k8s.io/v1: install a Gateway API that has them, 1.5 or newer, "+
			"or remove spec.exposure.gateway.listenerSet and name a listener of the Gateway's in parentRefs"), true, nil
}

// listenerFinding is what the Gateway's controller says of the tenant's listeners: what is wrong with one of them is the
// reason for what is said of all.
func (p *pass) listenerFinding(set *gatewayv1.ListenerSet) condition.Finding {
	name := desired.WorkloadName(p.tenant)
	generation := max(set.Generation, p.Applier.Generation(listenerSetKind, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}))
	for _, listener := range set.Status.Listeners {
		for kind, wanted := range map[gatewayv1.ListenerEntryConditionType]metav1.ConditionStatus{
			gatewayv1.ListenerEntryConditionConflicted: metav1.ConditionFalse, gatewayv1.ListenerEntryConditionResolvedRefs: metav1.ConditionTrue,
		} {
			said := meta.FindStatusCondition(listener.Conditions, string(kind))
			if said != nil && said.ObservedGeneration >= generation && said.Status != wanted && said.Status != metav1.ConditionUnknown {
				return condition.Failed(v1alpha1.ReasonNotAccepted, fmt.Sprintf(
					"The Gateway cannot listen for %s: %s (%s)", listener.Name, said.Message, said.Reason))
			}
		}
	}
	for _, kind := range []gatewayv1.ListenerSetConditionType{gatewayv1.ListenerSetConditionAccepted, gatewayv1.ListenerSetConditionProgrammed} {
		said := meta.FindStatusCondition(set.Status.Conditions, string(kind))
		switch {
		case said == nil || said.ObservedGeneration < generation || said.Status == metav1.ConditionUnknown:
			return condition.Waiting(fmt.Sprintf("The Gateway has yet to take ListenerSet %s (%s): see whether its controller knows ListenerSets", name, kind))
		case said.Status != metav1.ConditionTrue && said.Reason == string(gatewayv1.ListenerSetReasonNotAllowed):
			return condition.Failed(v1alpha1.ReasonNotAccepted, fmt.Sprintf(
				"The Gateway does not take ListenerSets of this namespace: allow it in the Gateway's spec.allowedListeners: %s (%s)", said.Message, said.Reason))
		case said.Status != metav1.ConditionTrue:
			return condition.Failed(v1alpha1.ReasonNotAccepted, fmt.Sprintf(
				"The Gateway does not take ListenerSet %s: %s (%s)", name, said.Message, said.Reason))
		}
	}
	return condition.OK(v1alpha1.ReasonExposed, "")
}

// routeParent is what a route attaches to.
type routeParent struct{ kind, namespace, name, section string }

func (r routeParent) String() string { return r.kind + " " + r.namespace + "/" + r.name }

// wantedParents are what the tenant's route is to attach to.
func (p *pass) wantedParents() []routeParent {
	if desired.Listeners(p.tenant) != nil {
		return []routeParent{{desired.ListenerSetKind, p.tenant.Namespace, desired.WorkloadName(p.tenant), ""}}
	}
	var wanted []routeParent
	for _, ref := range p.tenant.Spec.Exposure.Gateway.ParentRefs {
		wanted = append(wanted, routeParent{gatewayKind, orOwn(string(ref.Namespace), p.tenant.Namespace), string(ref.Name), string(ref.SectionName)})
	}
	return wanted
}

// gatewayKind is the kind of a parent that names none.
const gatewayKind = "Gateway"

func orOwn(given, own string) string {
	if given == "" {
		return own
	}
	return given
}

// parentOf reads a parent of a route of the tenant's.
func (p *pass) parentOf(ref gatewayv1.ParentReference) routeParent {
	text := func(given *string) string {
		if given == nil {
			return ""
		}
		return *given
	}
	return routeParent{
		kind:      orOwn(text((*string)(ref.Kind)), gatewayKind),
		namespace: orOwn(text((*string)(ref.Namespace)), p.tenant.Namespace),
		name:      string(ref.Name),
		section:   text((*string)(ref.SectionName)),
	}
}

// routeFinding sums up what the controllers of all Gateways say of a route.
func (p *pass) routeFinding(route *gatewayv1.HTTPRoute) condition.Finding {
	generation := max(route.Generation, p.Applier.Generation(routeKind, client.ObjectKeyFromObject(route)))
	var found []condition.Finding
	for _, wanted := range p.wantedParents() {
		found = append(found, p.parentFinding(route, wanted, generation))
	}
	return condition.Summarize(v1alpha1.ReasonExposed, "", found...)
}

// parentFinding is what the controller of one Gateway says.
func (p *pass) parentFinding(route *gatewayv1.HTTPRoute, wanted routeParent, generation int64) condition.Finding {
	for _, parent := range route.Status.Parents {
		if p.parentOf(parent.ParentRef) != wanted {
			continue
		}
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			said := meta.FindStatusCondition(parent.Conditions, string(kind))
			switch {
			case said == nil || said.ObservedGeneration < generation || said.Status == metav1.ConditionUnknown:
				return condition.Waiting(fmt.Sprintf("%s has yet to take the HTTPRoute (%s)", wanted, kind))
			case said.Status != metav1.ConditionTrue:
				return condition.Failed(v1alpha1.ReasonNotAccepted, fmt.Sprintf(
					"%s does not take the HTTPRoute: %s (%s)", wanted, said.Message, said.Reason))
			}
		}
		return condition.OK(v1alpha1.ReasonExposed, "")
	}
	return condition.Waiting(fmt.Sprintf("No controller has taken the HTTPRoute up for %s: see whether that is there, and its controller", wanted))
}
