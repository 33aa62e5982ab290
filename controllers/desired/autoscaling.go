package desired

import (
	"cmp"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	applyautoscaling "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

const (
	// defaultTarget leaves room for what comes while further pods start.
	defaultTarget = 80

	deploymentAPI  = "apps/v1"
	deploymentKind = "Deployment"
)

// autoscaling is what the autoscaler is asked for, with what is in effect; nil if the number of pods is fixed.
func autoscaling(tenant *v1alpha1.EnsTenant) *v1alpha1.TenantAutoscaling {
	wanted := orZero(tenant.Spec.Runtime).Autoscaling
	if wanted == nil {
		return nil
	}
	return &v1alpha1.TenantAutoscaling{
		MinReplicas:                    cmp.Or(wanted.MinReplicas, defaultReplicas),
		MaxReplicas:                    wanted.MaxReplicas,
		TargetCPUUtilizationPercentage: cmp.Or(wanted.TargetCPUUtilizationPercentage, defaultTarget),
	}
}

// Autoscaler has the number of pods follow their load; nil if it is fixed. It looks at the runtime's container only, so
// that one that somebody injects neither counts nor has to have requests.
func Autoscaler(t Tenant) *applyautoscaling.HorizontalPodAutoscalerApplyConfiguration {
	wanted := t.Settings.Autoscaling
	if wanted == nil {
		return nil
	}
	load := applyautoscaling.MetricSpec().WithType(autoscalingv2.ContainerResourceMetricSourceType).
		WithContainerResource(applyautoscaling.ContainerResourceMetricSource().
			WithName(corev1.ResourceCPU).WithContainer(containerName).
			WithTarget(applyautoscaling.MetricTarget().WithType(autoscalingv2.UtilizationMetricType).
				WithAverageUtilization(wanted.TargetCPUUtilizationPercentage)))
	return applyautoscaling.HorizontalPodAutoscaler(WorkloadName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithOwnerReferences(ownerOf(t.Object)).
		WithSpec(applyautoscaling.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(applyautoscaling.CrossVersionObjectReference().
				WithAPIVersion(deploymentAPI).WithKind(deploymentKind).WithName(WorkloadName(t.Object))).
			WithMinReplicas(wanted.MinReplicas).
			WithMaxReplicas(wanted.MaxReplicas).
			WithMetrics(load))
}
