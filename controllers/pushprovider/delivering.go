package pushprovider

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
)

// indexStanding indexes tenants by the providers of which their status tells.
const indexStanding = "status.pushProviders"

func standingNames(object client.Object) []string {
	var names []string
	for _, provider := range object.(*v1alpha1.EnsTenant).Status.PushProviders {
		names = append(names, provider.Name)
	}
	return names
}

// standingChanged lets tenants pass that come or go, or of whose providers another thing is told.
var standingChanged = predicate.Funcs{UpdateFunc: func(change event.UpdateEvent) bool {
	told := func(object client.Object) []v1alpha1.TenantPushProvider {
		return object.(*v1alpha1.EnsTenant).Status.PushProviders
	}
	return !slices.EqualFunc(told(change.ObjectOld), told(change.ObjectNew), func(a, b v1alpha1.TenantPushProvider) bool {
		return a.Name == b.Name && a.State == b.State && a.Reason == b.Reason
	})
}}

// toldOf finds the providers of which a tenant's status tells.
func toldOf(_ context.Context, tenant client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range standingNames(tenant) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: tenant.GetNamespace(), Name: name}})
	}
	return requests
}

// judgeDelivery sums up how the provider fares at the tenants of its namespace.
func (r *Reconciler) judgeDelivery(ctx context.Context, provider *v1alpha1.PushProvider) (condition.Finding, error) {
	var tenants v1alpha1.EnsTenantList
	err := r.Client.List(ctx, &tenants, client.InNamespace(provider.Namespace), client.MatchingFields{indexStanding: provider.Name})
	if err != nil {
		return condition.Finding{}, fmt.Errorf("looking for the tenants that use the provider: %w", err)
	}
	byState := map[v1alpha1.PushState][]string{}
	reasons := map[v1alpha1.PushState][]string{}
	for _, tenant := range tenants.Items {
		if !tenant.DeletionTimestamp.IsZero() {
			continue
		}
		for _, told := range tenant.Status.PushProviders {
			if told.Name == provider.Name {
				byState[told.State] = append(byState[told.State], tenant.Name)
				reasons[told.State] = append(reasons[told.State], told.Reason)
			}
		}
	}
	why := func(state v1alpha1.PushState) string {
		said := slices.Compact(slices.Sorted(slices.Values(reasons[state])))
		return strings.Join(slices.DeleteFunc(said, func(reason string) bool { return reason == "" }), ", ")
	}
	return deliveryFinding(names(byState[v1alpha1.PushRefused]), why(v1alpha1.PushRefused), names(byState[v1alpha1.PushFailing]),
		why(v1alpha1.PushFailing), len(byState[v1alpha1.PushDelivering]) > 0), nil
}

// deliveryFinding says what to do about a service that refuses or fails some tenants, whose names are given.
func deliveryFinding(refused, refusal, failing, failure string, delivering bool) condition.Finding {
	switch {
	case refused != "":
		return condition.Stuck(v1alpha1.ReasonRefused, fmt.Sprintf(
			"The service refuses what tenants push (%s): %s. Replace the credential in the Secret, or correct what that word names (identity, "+
				"permission, proxy); a new one is taken up within minutes, without a restart", refused, cmp.Or(refusal, "it gave no reason")))
	case failing != "":
		return condition.Failed(v1alpha1.ReasonFailing, fmt.Sprintf(
			"The service does not take what tenants push (%s): %s. It may be out of order, or the way to it blocked (proxy, firewall, NetworkPolicy); "+
				"notifications wait and are tried again", failing, cmp.Or(failure, "it gave no reason")))
	case delivering:
		return condition.OK(v1alpha1.ReasonDelivering, "The service accepts notifications")
	}
	untried := condition.Waiting("No tenant has pushed anything yet that would tell")
	untried.Reason = v1alpha1.ReasonUntried
	return untried
}

// maxNamed is how many tenants a message names.
const maxNamed = 5

// names lists tenants, empty if there are none.
func names(tenants []string) string {
	slices.Sort(tenants)
	if more := len(tenants) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(tenants[:maxNamed], ", "), more)
	}
	return strings.Join(tenants, ", ")
}
