package v1alpha1

// TenantAPIToken is how the phones' API token is kept.
//
// +kubebuilder:validation:XValidation:rule="!has(self.secretName) || (!has(self.rotateEveryDays) && !has(self.overlapDays))",message="rotateEveryDays and overlapDays are for a token that the operator makes; with secretName, rotate the token in that Secret"
// +kubebuilder:validation:XValidation:rule="!has(self.rotateEveryDays) || self.rotateEveryDays > (has(self.overlapDays) ? self.overlapDays : 30)",message="rotateEveryDays must be more than overlapDays (in effect 30 unless set), so that no more than two tokens are valid at once"
type TenantAPIToken struct {
	// secretName names a Secret of yours that holds the token under the key token, as for phones that know it from
	// another service. To replace it, keep the old one under previous-token and, under previous-token-expires, when it
	// ends (RFC 3339).
	// +optional
	SecretName ResourceName `json:"secretName,omitempty"`

	// rotateEveryDays has a new token made that often. Unless set, one is made on request only: whenever the annotation
	// ens-operator.io/rotate-api-token gets another value.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3650
	RotateEveryDays int32 `json:"rotateEveryDays,omitempty"`

	// overlapDays is how long the token before stays valid after a rotation, for the UEM console to reach all phones.
	// With 0 it ends at once. In effect unless set: 30.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=365
	OverlapDays *int32 `json:"overlapDays,omitempty"`
}
