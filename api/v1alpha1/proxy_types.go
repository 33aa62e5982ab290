package v1alpha1

// ForwardProxy is an HTTP proxy that connections are tunnelled through (CONNECT). What goes through it is TLS from end to
// end, and the proxy finds the server by its name.
type ForwardProxy struct {
	// url is http:// with host and port.
	// +required
	URL ProxyURL `json:"url"`

	// credentials are the user name and the password (Basic). In effect unless set: none are sent.
	// +optional
	Credentials *ProxyCredentials `json:"credentials,omitempty"`
}

// ProxyURL is the address of a proxy: http, a host name or IPv4 address, and a port.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="self.matches(r'^http://[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])/?$')",message="must be http:// with host and port, e.g. http://proxy.example.com:3128"
// +kubebuilder:validation:XValidation:rule="!self.matches('^http://[^/:]{254}')",message="must hold a host name of at most 253 characters"
type ProxyURL string

// ProxyCredentials are what a proxy is signed in to with.
type ProxyCredentials struct {
	// usernameSecretRef names the user name.
	// +required
	UsernameSecretRef SecretKeyReference `json:"usernameSecretRef"`

	// passwordSecretRef names the password.
	// +required
	PasswordSecretRef SecretKeyReference `json:"passwordSecretRef"`
}
