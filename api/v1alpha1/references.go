package v1alpha1

// ResourceName is the name of another object in the same namespace.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of an object: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
type ResourceName string

// DataKey is a key in the data of a Secret or ConfigMap.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[-._a-zA-Z0-9]+$') && !self.matches(r'^\\.\\.?$')",message="must be a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.'"
type DataKey string

// Hostname is a DNS name in lower case (RFC 1123), never an IP address.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="must be a host name (RFC 1123) in lower case, e.g. ens.example.com"
// +kubebuilder:validation:XValidation:rule="!self.matches(r'(^|\\.)[0-9]+$')",message="must be a host name, not an IP address"
type Hostname string

// HTTPSURL is the base address of a service: https, a host name or IPv4 address, optionally a port and a path.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="self.startsWith('https://')",message="must begin with https://, because credentials are sent there"
// +kubebuilder:validation:XValidation:rule="!self.matches('[@?#]')",message="must have no user information, no query and no fragment"
// +kubebuilder:validation:XValidation:rule="self.matches(r'^https://[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*(:|/|$)') && (!self.matches(r'^https://([^/:]*\\.)?[0-9]+(:|/|$)') || self.matches(r'^https://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:|/|$)'))",message="must hold a valid host name (RFC 1123) or IPv4 address, e.g. https://mail.example.com/"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https://[^/:]{254}')",message="must hold a host name of at most 253 characters"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https://[^/]*:') || self.matches('^https://[^/]*:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(/|$)')",message="must hold a port between 1 and 65535, or none"
// +kubebuilder:validation:XValidation:rule="self.matches(r'^https://[^/]*(/([-A-Za-z0-9._~]|%[0-9A-Fa-f]{2})+)*/?$')",message="must hold a valid path"
type HTTPSURL string

// SecretKeyReference names one value in a Secret of the same namespace.
type SecretKeyReference struct {
	// name is the Secret's name.
	// +required
	Name ResourceName `json:"name"`

	// key is the key in the Secret's data.
	// +required
	Key DataKey `json:"key"`
}

// ConfigMapKeyReference names one value in a ConfigMap of the same namespace.
type ConfigMapKeyReference struct {
	// name is the ConfigMap's name.
	// +required
	Name ResourceName `json:"name"`

	// key is the key in the ConfigMap's data.
	// +required
	Key DataKey `json:"key"`
}

// CertificateBundle is where certificates of certificate authorities stand, in PEM: exactly one of configMap and secret.
//
// +kubebuilder:validation:XValidation:rule="[has(self.configMap), has(self.secret)].filter(x, x).size() == 1",message="a certificate bundle needs exactly one of configMap and secret"
type CertificateBundle struct {
	// configMap names the bundle in a ConfigMap.
	// +optional
	ConfigMap *ConfigMapKeyReference `json:"configMap,omitempty"`

	// secret names the bundle in a Secret.
	// +optional
	Secret *SecretKeyReference `json:"secret,omitempty"`
}
