package desired

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

const (
	zoneTopology = "topology.kubernetes.io/zone"

	memoryLimitVariable = "GOMEMLIMIT"
	// memoryShare is how much of its memory limit, in percent, Go's heap may fill before it is cleared up at any cost. The
	// rest is for what Go does not count. The number of CPUs needs no such help: Go reads the container's own limit.
	memoryShare = 90
	mebibyte    = 1 << 20
)

// AffinityError says that the affinity in a tenant's spec is not one.
type AffinityError struct{ Err error }

// Error implements error.
func (e *AffinityError) Error() string {
	return fmt.Sprintf("spec.runtime.podTemplate.affinity cannot be read: %v", e.Err)
}

// Unwrap gives what is wrong with it.
func (e *AffinityError) Unwrap() error { return e.Err }

// affinity reads the affinity that the spec holds as it was written; nil if it holds none. The error is an *AffinityError.
func affinity(template v1alpha1.PodTemplate) (*applycore.AffinityApplyConfiguration, error) {
	if template.Affinity == nil || len(template.Affinity.Raw) == 0 {
		return nil, nil
	}
	result := applycore.Affinity()
	if err := yaml.UnmarshalStrict(template.Affinity.Raw, result); err != nil {
		return nil, &AffinityError{Err: err}
	}
	return result, nil
}

// topologySpread is how the pods are spread: as the spec says, or over nodes and zones. Old and new pods of a rollout are
// counted apart, because the old ones go.
func topologySpread(tenant *v1alpha1.EnsTenant, template v1alpha1.PodTemplate) []*applycore.TopologySpreadConstraintApplyConfiguration {
	wanted := template.TopologySpreadConstraints
	if wanted == nil {
		wanted = []v1alpha1.TopologySpread{{TopologyKey: hostnameTopology}, {TopologyKey: zoneTopology}}
	}
	var result []*applycore.TopologySpreadConstraintApplyConfiguration
	for _, spread := range wanted {
		result = append(result, applycore.TopologySpreadConstraint().
			WithMaxSkew(cmp.Or(spread.MaxSkew, topologyMaxSkew)).
			WithTopologyKey(spread.TopologyKey).
			WithWhenUnsatisfiable(cmp.Or(spread.WhenUnsatisfiable, corev1.ScheduleAnyway)).
			WithLabelSelector(applymeta.LabelSelector().WithMatchLabels(SelectorLabels(tenant))).
			WithMatchLabelKeys(podTemplateHashLabel))
	}
	return result
}

// variables are the runtime's environment: what the spec says, and the limit that Go keeps to.
func variables(template v1alpha1.PodTemplate) []*applycore.EnvVarApplyConfiguration {
	var result []*applycore.EnvVarApplyConfiguration
	limit := goMemoryLimit(template)
	for _, variable := range template.ExtraEnv {
		if variable.Name == memoryLimitVariable {
			limit = ""
		}
		result = append(result, applycore.EnvVar().WithName(variable.Name).WithValue(variable.Value))
	}
	if limit != "" {
		result = append(result, applycore.EnvVar().WithName(memoryLimitVariable).WithValue(limit))
	}
	return result
}

// goMemoryLimit is the share of the container's memory limit, empty if there is none.
func goMemoryLimit(template v1alpha1.PodTemplate) string {
	limits := resources(template).Limits
	if limits == nil {
		return ""
	}
	bytes := limits.Memory().Value() / 100 * memoryShare
	if bytes < mebibyte {
		return ""
	}
	return fmt.Sprintf("%dMiB", bytes/mebibyte)
}
