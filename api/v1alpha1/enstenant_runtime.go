package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// TenantAutoscaling has a HorizontalPodAutoscaler choose the number of pods.
//
// +kubebuilder:validation:XValidation:rule="self.maxReplicas >= (has(self.minReplicas) ? self.minReplicas : 2)",message="maxReplicas must be no less than minReplicas (in effect 2 unless set)"
type TenantAutoscaling struct {
	// minReplicas is how many pods serve at least. In effect unless set: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas is how many pods serve at most.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxReplicas int32 `json:"maxReplicas"`

	// targetCPUUtilizationPercentage is how much of the CPU that they request the pods are to use on average. Requests
	// of CPU must be there for it (podTemplate.resources). In effect unless set: 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPUUtilizationPercentage int32 `json:"targetCPUUtilizationPercentage,omitempty"`
}

// TopologySpread spreads the tenant's pods over parts of the cluster.
type TopologySpread struct {
	// topologyKey is the label of nodes whose values are the parts, e.g. topology.kubernetes.io/zone.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	TopologyKey string `json:"topologyKey"`

	// maxSkew is how many pods more than another a part may have. In effect unless set: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxSkew int32 `json:"maxSkew,omitempty"`

	// whenUnsatisfiable is what becomes of a pod that cannot be placed so: DoNotSchedule or ScheduleAnyway. In effect
	// unless set: ScheduleAnyway.
	// +optional
	// +kubebuilder:validation:Enum=DoNotSchedule;ScheduleAnyway
	WhenUnsatisfiable corev1.UnsatisfiableConstraintAction `json:"whenUnsatisfiable,omitempty"`
}

// EnvironmentVariable is a variable of the runtime's environment.
//
// +kubebuilder:validation:XValidation:rule="self.name != 'GODEBUG' || !has(self.value) || !self.value.contains('http2debug')",message="GODEBUG must not hold http2debug: it writes headers, and credentials with them, into the log"
type EnvironmentVariable struct {
	// name is the variable's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="must be letters, digits and '_', not beginning with a digit"
	Name string `json:"name"`

	// value is the variable's value. Nothing secret: whoever may read Deployments sees it.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}
