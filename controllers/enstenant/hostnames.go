package enstenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// judgeHostnames sees to it that no two tenants have a name in common, in whatever namespaces they are: what stands in
// front would send the phones of one to the other, with their credentials. The tenant that was there first has the name.
// The other keeps what it has running, and nothing of it is changed.
func (p *pass) judgeHostnames(ctx context.Context) error {
	p.findings.hostnames = new(condition.OK(v1alpha1.ReasonAccepted, "No other tenant has the names"))
	for _, hostname := range desired.Hostnames(p.tenant) {
		var holders v1alpha1.EnsTenantList
		if err := p.Client.List(ctx, &holders, client.MatchingFields{indexHostnames: hostname}); err != nil {
			return fmt.Errorf("looking for tenants with the name %s: %w", hostname, err)
		}
		// The tenant itself may be there in another version, or not yet.
		first := slices.MinFunc(append(holders.Items, *p.tenant), older)
		if first.UID == p.tenant.UID {
			continue
		}
		p.renderable = false
		p.findings.hostnames = new(condition.Stuck(v1alpha1.ReasonHostnameConflict, fmt.Sprintf(
			"EnsTenant %s/%s was there before and has the name %s: choose another name here or there; until then nothing of this tenant is changed",
			first.Namespace, first.Name, hostname)))
		return nil
	}
	return nil
}

// older orders tenants by when they came; those of the same second by their names, so that all agree.
func older(a, b v1alpha1.EnsTenant) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// rivals finds the other tenants with a name of a tenant that came, went or changed: one of them may have its turn now.
func (r *Reconciler) rivals(ctx context.Context, changed client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, hostname := range desired.Hostnames(changed.(*v1alpha1.EnsTenant)) {
		var holders v1alpha1.EnsTenantList
		if err := r.Client.List(ctx, &holders, client.MatchingFields{indexHostnames: hostname}); err != nil {
			log.FromContext(ctx).Error(err, "Failed to find the tenants with a name", "hostname", hostname)
			continue
		}
		for i := range holders.Items {
			if holders.Items[i].UID != changed.GetUID() {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&holders.Items[i])})
			}
		}
	}
	return requests
}

// hostnamesChanged lets tenants pass that come, go, or take other names.
var hostnamesChanged = predicate.Funcs{UpdateFunc: func(change event.UpdateEvent) bool {
	before, after := change.ObjectOld.(*v1alpha1.EnsTenant), change.ObjectNew.(*v1alpha1.EnsTenant)
	return !slices.Equal(desired.Hostnames(before), desired.Hostnames(after))
}}
