package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PushState is how a push provider fares.
//
// +kubebuilder:validation:Enum=Untried;Delivering;Failing;Refused
type PushState string

// The states of a push provider.
const (
	// PushUntried: nothing has been pushed yet that would tell.
	PushUntried PushState = "Untried"
	// PushDelivering: notifications are accepted.
	PushDelivering PushState = "Delivering"
	// PushFailing: the service is out of order or cannot be reached; notifications wait.
	PushFailing PushState = "Failing"
	// PushRefused: the service refuses everything until somebody acts, as with a withdrawn key.
	PushRefused PushState = "Refused"
)

// TenantPushProvider tells how a push provider fares, as the tenant's pods see it.
type TenantPushProvider struct {
	// name is the PushProvider's.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// state is Untried, Delivering, Failing or Refused: the worst that a pod has seen lately.
	// +required
	State PushState `json:"state"`

	// since is when that began, to the minute.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// reason is the service's word for what was wrong, such as InvalidProviderToken.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
}
