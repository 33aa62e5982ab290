package enstenant

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

func TestRolloutIsJudgedAsKubectlDoes(t *testing.T) {
	t.Parallel()
	const generation, replicas = 7, 2
	for name, c := range map[string]struct {
		change            func(*appsv1.DeploymentStatus)
		available, ready  metav1.ConditionStatus
		availableFor, why string
	}{
		"all pods are the latest and ready": {
			func(*appsv1.DeploymentStatus) {},
			"True", "True", v1alpha1.ReasonAvailable, v1alpha1.ReasonAvailable,
		},
		"the latest spec was not seen yet": {
			func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = generation - 1 },
			"True", "Unknown", v1alpha1.ReasonAvailable, v1alpha1.ReasonProgressing,
		},
		"one pod is of the old template": {
			func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 1 },
			"True", "Unknown", v1alpha1.ReasonAvailable, v1alpha1.ReasonProgressing,
		},
		"an old pod has yet to end": {
			func(s *appsv1.DeploymentStatus) { s.Replicas = 3 },
			"True", "Unknown", v1alpha1.ReasonAvailable, v1alpha1.ReasonProgressing,
		},
		"a latest pod is not ready": {
			func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 1 },
			"True", "Unknown", v1alpha1.ReasonAvailable, v1alpha1.ReasonProgressing,
		},
		"the rollout is stuck while old pods serve": {
			func(s *appsv1.DeploymentStatus) {
				s.Replicas, s.UpdatedReplicas = 3, 1
				s.Conditions[1].Status, s.Conditions[1].Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
			},
			"True", "False", v1alpha1.ReasonAvailable, v1alpha1.ReasonUnavailable,
		},
		"it was stuck before the latest spec": {
			func(s *appsv1.DeploymentStatus) {
				s.ObservedGeneration = generation - 1
				s.Conditions[1].Status, s.Conditions[1].Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
			},
			"True", "Unknown", v1alpha1.ReasonAvailable, v1alpha1.ReasonProgressing,
		},
		"nothing serves and nothing comes": {
			func(s *appsv1.DeploymentStatus) {
				s.AvailableReplicas = 0
				s.Conditions[0].Status = corev1.ConditionFalse
				s.Conditions[1].Status, s.Conditions[1].Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
			},
			"False", "False", v1alpha1.ReasonUnavailable, v1alpha1.ReasonUnavailable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deployment := &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Name: "acme", Generation: generation},
				Spec:       appsv1.DeploymentSpec{Replicas: new(int32(replicas))},
				Status: appsv1.DeploymentStatus{
					ObservedGeneration: generation, Replicas: replicas, UpdatedReplicas: replicas, AvailableReplicas: replicas,
					Conditions: []appsv1.DeploymentCondition{
						{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
						{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: rolloutComplete},
					},
				},
			}
			c.change(&deployment.Status)
			if got := availableFinding(deployment); got.Status != c.available || got.Reason != c.availableFor {
				t.Errorf("available: %+v, want %s %s", got, c.available, c.availableFor)
			}
			if got := rolloutFinding(deployment); got.Status != c.ready || got.Reason != c.why {
				t.Errorf("rolled out: %+v, want %s %s", got, c.ready, c.why)
			}
		})
	}
}
