package v1alpha1

// GatewayListeners are listeners of the tenant's own on a Gateway.
type GatewayListeners struct {
	// tlsSecretName names the Secret of type kubernetes.io/tls with the certificate, in the tenant's namespace.
	// +required
	TLSSecretName ResourceName `json:"tlsSecretName"`

	// port is the listeners'. In effect unless set: 443.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// annotations are the ListenerSet's, e.g. which issuer of cert-manager makes the certificate.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Reasons of Exposed where the tenant has listeners of its own.
const (
	// ReasonListenerSetsMissing: the cluster does not know ListenerSets.
	ReasonListenerSetsMissing = "ListenerSetsMissing"
)
