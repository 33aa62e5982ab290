package enstenant

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

func (p *pass) exposure() v1alpha1.ExposureKind { return p.tenant.Spec.Exposure.Kind() }

// ensureExposure makes what exposes the tenant, and removes what did so before; in that order, so that the tenant stays
// reachable meanwhile.
func (p *pass) ensureExposure(ctx context.Context) error {
	if !p.findings.hostnames.Good() {
		return nil
	}
	var finding condition.Finding
	var err error
	switch p.exposure() {
	case v1alpha1.ExposureGateway:
		finding, err = p.exposeByGateway(ctx)
	case v1alpha1.ExposureIngress:
		finding, err = p.exposeByIngress(ctx)
	case v1alpha1.ExposureLoadBalancer:
		finding, err = p.exposeByLoadBalancer(ctx)
	default:
		return p.dropExposures(ctx)
	}
	if err != nil {
		return err
	}
	p.findings.exposed = &finding
	return p.dropExposures(ctx)
}

// dropExposures removes what exposed the tenant in another way than now.
func (p *pass) dropExposures(ctx context.Context) error {
	for _, other := range []struct {
		kind   v1alpha1.ExposureKind
		object client.Object
		name   string
		known  bool
	}{
		{v1alpha1.ExposureGateway, &gatewayv1.HTTPRoute{}, desired.WorkloadName(p.tenant), p.routes.watching()},
		{v1alpha1.ExposureIngress, &networkingv1.Ingress{}, desired.WorkloadName(p.tenant), true},
		{v1alpha1.ExposureLoadBalancer, &corev1.Service{}, desired.PublicServiceName(p.tenant), true},
	} {
		if other.kind == p.exposure() || !other.known {
			continue
		}
		if err := p.drop(ctx, other.object, other.name); err != nil {
			return err
		}
	}
	if desired.Listeners(p.tenant) == nil && p.listenerSets.watching() {
		return p.drop(ctx, &gatewayv1.ListenerSet{}, desired.WorkloadName(p.tenant))
	}
	return nil
}

// drop removes an object of the tenant's that is no longer wanted, if it is there and the operator's. Object is an empty
// one of the kind.
func (p *pass) drop(ctx context.Context, object client.Object, name string) error {
	missing, err := p.find(ctx, name, object)
	if err != nil || missing || !object.GetDeletionTimestamp().IsZero() || !desired.Owns(p.tenant)(object) {
		return err
	}
	uid := object.GetUID()
	if err := p.Client.Delete(ctx, object, client.Preconditions{UID: &uid}); err != nil && !kindGone(err) {
		return fmt.Errorf("deleting %T %s: %w", object, name, err)
	}
	return nil
}

// applyOwn applies an object. What the finding tells, if it is not good, only a person can put right.
func (p *pass) applyOwn(ctx context.Context, wanted apply.Configuration, current client.Object) (condition.Finding, error) {
	err := p.Applier.Apply(ctx, wanted, current, desired.Owns(p.tenant))
	if refusal := refusalOf(err); refusal != nil {
		return *refusal, nil
	}
	return condition.OK("", ""), err
}

func (p *pass) exposeByIngress(ctx context.Context) (condition.Finding, error) {
	ingress := &networkingv1.Ingress{}
	refusal, err := p.applyOwn(ctx, desired.Ingress(p.tenant), ingress)
	if err != nil || !refusal.Good() {
		return refusal, err
	}
	for _, at := range ingress.Status.LoadBalancer.Ingress {
		p.reachedAt(at.IP, at.Hostname)
	}
	return p.addressFinding(fmt.Sprintf("No controller has given Ingress %s an address yet; some never do", desired.WorkloadName(p.tenant))), nil
}

func (p *pass) exposeByLoadBalancer(ctx context.Context) (condition.Finding, error) {
	name := desired.PublicServiceName(p.tenant)
	if again, err := p.makeAnewForClass(ctx, name); again || err != nil {
		return condition.Waiting(fmt.Sprintf("Service %s is made anew, for another class of load balancer", name)), err
	}
	service := &corev1.Service{}
	refusal, err := p.applyOwn(ctx, desired.PublicService(p.tenant), service)
	if err != nil || !refusal.Good() {
		return refusal, err
	}
	for _, at := range service.Status.LoadBalancer.Ingress {
		p.reachedAt(at.IP, at.Hostname)
	}
	return p.addressFinding(fmt.Sprintf("Service %s waits for an address: see its events, and whether the cluster has load balancers of that class", name)), nil
}

// makeAnewForClass removes a Service that was made for another class of load balancer, since its class cannot be changed.
// It reports whether there is still one.
func (p *pass) makeAnewForClass(ctx context.Context, name string) (still bool, err error) {
	service := &corev1.Service{}
	missing, err := p.find(ctx, name, service)
	if err != nil || missing || !desired.Owns(p.tenant)(service) {
		return false, err
	}
	if !service.DeletionTimestamp.IsZero() {
		return true, nil
	}
	if service.Annotations[desired.AnnotationClass] == p.tenant.Spec.Exposure.LoadBalancer.Class {
		return false, nil
	}
	return true, p.drop(ctx, service, name)
}

// maxAddresses is how many addresses the status has room for.
const maxAddresses = 16

func (p *pass) reachedAt(ip, hostname string) {
	for _, address := range []string{ip, hostname} {
		if address != "" && len(p.findings.addresses) < maxAddresses {
			p.findings.addresses = append(p.findings.addresses, address)
		}
	}
}

// addressFinding says whether there is an address, or what is to be said while there is none.
func (p *pass) addressFinding(waiting string) condition.Finding {
	if len(p.findings.addresses) == 0 {
		return condition.Waiting(waiting)
	}
	return condition.OK(v1alpha1.ReasonExposed, "The tenant has an address")
}

// exposureNeeded is what Ready has to know of the exposure.
func (p *pass) exposureNeeded() condition.Finding {
	if p.findings.exposed == nil || p.exposure() == v1alpha1.ExposureIngress && p.findings.exposed.Status == metav1.ConditionUnknown {
		return condition.OK("", "")
	}
	return *p.findings.exposed
}
