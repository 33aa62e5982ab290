package enstenant

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
)

// paused reports whether the annotation stops the operator.
func paused(tenant *v1alpha1.EnsTenant) bool {
	return tenant.Annotations[v1alpha1.AnnotationPaused] == "true"
}

// reportPause says that the tenant is left alone. Everything else in the status stays, observedGeneration with it: a spec
// that was changed meanwhile has not been acted upon.
func (r *Reconciler) reportPause(ctx context.Context, tenant *v1alpha1.EnsTenant) error {
	before := tenant.DeepCopy()
	paused := condition.Finding{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPaused,
		Message: "Nothing of the tenant is changed: to go on, remove the annotation " + v1alpha1.AnnotationPaused}
	tenant.Status.Conditions = condition.Set(tenant.Status.Conditions, tenant.Generation, metav1.NewTime(r.Clock.Now()),
		condition.Typed{Type: v1alpha1.ConditionPaused, Finding: paused})
	return client.IgnoreNotFound(r.statuses.Patch(ctx, r.Client, before, tenant))
}
