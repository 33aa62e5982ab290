package enstenant

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// claims are the host names that tenants were given by this process: the cache may be late to show it. Who has a name by
// the status has it, too.
type claims struct {
	mu      sync.Mutex
	holders map[string]types.UID
}

// judgeHostnames sees to it that no two tenants have a name in common, in whatever namespaces they are: what stands in
// front would send the phones of one to the other, with their credentials. Who has a name keeps it, whoever is older; of
// those who newly want it the one that was created first gets it. The other keeps what it has running, and nothing of it is
// changed. That a tenant has further names is written down before anything is changed for them.
func (p *pass) judgeHostnames(ctx context.Context) error {
	wanted := desired.Hostnames(p.tenant)
	holder, hostname, err := p.hostnames.take(ctx, p.Client, p.tenant, wanted)
	if err != nil {
		return err
	}
	if holder != nil {
		p.renderable = false
		p.findings.hostnames = new(condition.Stuck(v1alpha1.ReasonHostnameConflict, fmt.Sprintf(
			"EnsTenant %s/%s has the name %s: choose another name here or there; until then nothing of this tenant is changed",
			holder.Namespace, holder.Name, hostname)))
		return nil
	}
	p.findings.hostnames = new(condition.OK(v1alpha1.ReasonAccepted, "No other tenant has the names"))
	status := &p.tenant.Status
	// Names that the spec has given up are in use until everything has been changed.
	known := len(status.AcceptedHostnames)
	for _, hostname := range wanted {
		if !slices.Contains(status.AcceptedHostnames, v1alpha1.Hostname(hostname)) {
			status.AcceptedHostnames = append(status.AcceptedHostnames, v1alpha1.Hostname(hostname))
		}
	}
	if len(status.AcceptedHostnames) == known || known == 0 { // a new tenant's are written with all the rest, in one write
		return nil
	}
	if err := p.statuses.Patch(ctx, p.Client, p.findings.before, p.tenant); err != nil {
		return err
	}
	p.findings.before = p.tenant.DeepCopy()
	return nil
}

// take gives tenant all the names that it wants, or tells who has or is to have one of them.
func (c *claims) take(ctx context.Context, cache client.Reader, tenant *v1alpha1.EnsTenant, wanted []string) (holder *v1alpha1.EnsTenant, hostname string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, hostname := range wanted {
		var others v1alpha1.EnsTenantList
		if err := cache.List(ctx, &others, client.MatchingFields{indexHostnames: hostname}); err != nil {
			return nil, "", fmt.Errorf("looking for tenants with the name %s: %w", hostname, err)
		}
		for i := range others.Items {
			if other := &others.Items[i]; other.UID != tenant.UID && c.precedes(other, tenant, hostname) {
				return other, hostname, nil
			}
		}
	}
	maps.DeleteFunc(c.holders, func(hostname string, holder types.UID) bool {
		return holder == tenant.UID && !slices.Contains(wanted, hostname)
	})
	if c.holders == nil {
		c.holders = map[string]types.UID{}
	}
	for _, hostname := range wanted {
		c.holders[hostname] = tenant.UID
	}
	return nil, "", nil
}

// precedes reports whether a goes before b with a name that both have or want: by having it, or else by age.
func (c *claims) precedes(a, b *v1alpha1.EnsTenant, hostname string) bool {
	if hasA, hasB := c.has(a, hostname), c.has(b, hostname); hasA != hasB {
		return hasA
	}
	return older(a, b) < 0
}

func (c *claims) has(tenant *v1alpha1.EnsTenant, hostname string) bool {
	return c.holders[hostname] == tenant.UID || slices.Contains(tenant.Status.AcceptedHostnames, v1alpha1.Hostname(hostname))
}

// forget drops the claims of a tenant that is gone.
func (c *claims) forget(tenant types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.holders, func(_ string, holder types.UID) bool { return holder == tenant })
}

// older orders tenants by when they came; those of the same second by their names, so that all agree.
func older(a, b *v1alpha1.EnsTenant) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// claimed are the names that a tenant has or wants.
func claimed(tenant *v1alpha1.EnsTenant) []string {
	names := desired.Hostnames(tenant)
	for _, hostname := range tenant.Status.AcceptedHostnames {
		if !slices.Contains(names, string(hostname)) {
			names = append(names, string(hostname))
		}
	}
	return names
}

// rivals finds the other tenants with a name of a tenant that came, went or changed: one of them may have its turn now.
func (r *Reconciler) rivals(ctx context.Context, changed client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, hostname := range claimed(changed.(*v1alpha1.EnsTenant)) {
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

// hostnamesChanged lets tenants pass that come, go, or have or want other names.
var hostnamesChanged = predicate.Funcs{UpdateFunc: func(change event.UpdateEvent) bool {
	before, after := change.ObjectOld.(*v1alpha1.EnsTenant), change.ObjectNew.(*v1alpha1.EnsTenant)
	return !slices.Equal(claimed(before), claimed(after))
}}
