// Package v1alpha1 is the API of ens-operator: the kinds EnsTenant, EwsEndpoint and PushProvider of the group
// ens-operator.io.
//
// What the API server itself can judge is refused by CEL rules in the CRDs, so that a wrong manifest fails at
// `kubectl apply --dry-run=server`. No field of a spec has a default in the CRD: values in effect are shown in the status.
//
// +kubebuilder:object:generate=true
// +groupName=ens-operator.io
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="applyconfiguration"
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group.
const GroupName = "ens-operator.io"

var (
	// SchemeGroupVersion is the group and version of the kinds in this package.
	SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

	// SchemeBuilder registers the kinds of this package.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the kinds of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Resource qualifies a resource with the group, as generated code expects.
func Resource(resource string) schema.GroupResource {
	return SchemeGroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&EnsTenant{}, &EnsTenantList{},
		&EwsEndpoint{}, &EwsEndpointList{},
		&PushProvider{}, &PushProviderList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
