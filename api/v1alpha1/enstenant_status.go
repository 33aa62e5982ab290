package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EnsTenantStatus is what the operator found and made.
type EnsTenantStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Provisioned, Available, HostnamesAccepted, ReferencesResolved, SecretsReady, DatabaseReady,
	// TLSReady and RuntimeUpToDate, with an exposure Exposed, after a rotation of the API token APITokenRotated, of the
	// database password DatabasePasswordReplaced, of the keys KeysRotated, with tls.nextSecretName NextCertificateReady,
	// and while they are true Reconciling, Stalled and Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// url is the address for the phones (ENSLinkAddress).
	// +optional
	// +kubebuilder:validation:MaxLength=512
	URL string `json:"url,omitempty"`

	// acceptedHostnames are the names that the tenant has: no other gets them, however old it is. A name that the spec has
	// given up is the tenant's until what is made for it has changed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=66
	AcceptedHostnames []Hostname `json:"acceptedHostnames,omitempty"`

	// addresses are where Ingress or load balancer are reached, for the DNS; a Gateway has its own in its status.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Addresses []string `json:"addresses,omitempty"`

	// replicas is how many pods there are.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// selector is the label selector of the pods, for autoscalers.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Selector string `json:"selector,omitempty"`

	// effective is what holds where the spec says nothing.
	// +optional
	Effective *EffectiveSettings `json:"effective,omitempty"`

	// secrets names the Secrets that were made for the tenant.
	// +optional
	Secrets *TenantSecrets `json:"secrets,omitempty"`

	// apiToken tells of the rotation of the API token.
	// +optional
	APIToken *APITokenStatus `json:"apiToken,omitempty"`

	// keys tells of the keys and their rotation.
	// +optional
	Keys *KeysStatus `json:"keys,omitempty"`

	// database is where the tenant's data are.
	// +optional
	Database *DatabaseStatus `json:"database,omitempty"`

	// certificate is the one that phones and Exchange see.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`

	// nextCertificate is the one in the Secret that spec.tls.nextSecretName names, if it can be used.
	// +optional
	NextCertificate *CertificateStatus `json:"nextCertificate,omitempty"`

	// caConfigMap names the ConfigMap that holds, under ca.crt, the authority that issued the certificate, for import into
	// Exchange; nothing if it is not known.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	CAConfigMap string `json:"caConfigMap,omitempty"`

	// autodiscoverCABundle describes the bundle that Autodiscover's hosts are verified against.
	// +optional
	AutodiscoverCABundle *BundleStatus `json:"autodiscoverCABundle,omitempty"`

	// pushProviders tell how the push providers fare, looked up every two minutes.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	PushProviders []TenantPushProvider `json:"pushProviders,omitempty"`

	// tracingCABundle describes the bundle that the collector of traces is verified against.
	// +optional
	TracingCABundle *BundleStatus `json:"tracingCABundle,omitempty"`
}

// EffectiveSettings are values in effect, given or not.
type EffectiveSettings struct {
	// callbackURL is the address that Exchange calls.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	CallbackURL string `json:"callbackURL,omitempty"`

	// environmentType is what the tenant calls itself.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	EnvironmentType string `json:"environmentType,omitempty"`

	// minTLSVersion is the oldest version of TLS that the tenant speaks; nothing if it serves plain http.
	// +optional
	MinTLSVersion TLSVersion `json:"minTLSVersion,omitempty"`

	// autodiscover is how a user's endpoint is found by the e-mail address; nothing if it is not.
	// +optional
	Autodiscover *EffectiveAutodiscover `json:"autodiscover,omitempty"`

	// mailboxProof is how strictly a registration proves whose mailbox it is.
	// +optional
	MailboxProof MailboxProof `json:"mailboxProof,omitempty"`

	// notifications is what the phones are shown.
	// +optional
	Notifications *TenantNotifications `json:"notifications,omitempty"`

	// limits bound what the phones may do.
	// +optional
	Limits *TenantLimits `json:"limits,omitempty"`

	// logging is what the pods log, and how.
	// +optional
	Logging *TenantLogging `json:"logging,omitempty"`

	// tracing is where traces go; nothing if none are made.
	// +optional
	Tracing *EffectiveTracing `json:"tracing,omitempty"`

	// image is the runtime's container image: while the tenant waits for its turn, still the one before.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// replicas is how many pods are asked for; nothing with autoscaling.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling is what the autoscaler is asked for; nothing with a fixed number.
	// +optional
	Autoscaling *TenantAutoscaling `json:"autoscaling,omitempty"`

	// exposure is how the tenant is exposed: None, Gateway, Ingress or LoadBalancer.
	// +optional
	Exposure ExposureKind `json:"exposure,omitempty"`

	// drainDelaySeconds is how long a stopping pod goes on serving.
	// +optional
	DrainDelaySeconds *int32 `json:"drainDelaySeconds,omitempty"`

	// apiToken is how the API token is kept; nothing of it if the token is in a Secret of the administrator's.
	// +optional
	APIToken *TenantAPIToken `json:"apiToken,omitempty"`

	// deletionPolicy is what becomes of the data when the tenant is deleted.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// EffectiveAutodiscover are values in effect, given or not, of how a user's endpoint is found.
type EffectiveAutodiscover struct {
	// authenticationMethods are the ways in which a user's credential may be presented to the hosts that are asked;
	// none where nothing is set and the endpoints have none in common.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	AuthenticationMethods []AuthenticationMethod `json:"authenticationMethods,omitempty"`

	// cacheSeconds is how long an answer holds for its domain.
	// +optional
	CacheSeconds int32 `json:"cacheSeconds,omitempty"`
}

// EffectiveTracing are values in effect, given or not, of where traces go.
type EffectiveTracing struct {
	// endpoint is where they are posted to.
	// +optional
	// +kubebuilder:validation:MaxLength=600
	Endpoint string `json:"endpoint,omitempty"`

	// samplePerMille is how many of a thousand calls and posts are traced.
	// +optional
	SamplePerMille int32 `json:"samplePerMille,omitempty"`
}

// TenantSecrets are the names of Secrets that the operator made.
type TenantSecrets struct {
	// boxer holds what is to be entered in the UEM console.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Boxer string `json:"boxer,omitempty"`

	// apiToken holds the API token of the phones. Keep a backup.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	APIToken string `json:"apiToken,omitempty"`

	// keys holds the keys that everything in the database is sealed with. Keep a backup: without them the database is
	// worthless.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Keys string `json:"keys,omitempty"`
}

// APITokenStatus tells of the rotation of an API token, and nothing of the token.
type APITokenStatus struct {
	// rotatedAt is when the token was made that is in force.
	// +optional
	RotatedAt *metav1.Time `json:"rotatedAt,omitempty"`

	// request is the value of the annotation ens-operator.io/rotate-api-token that was last carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Request string `json:"request,omitempty"`

	// previousExpires is when the token before ends; nothing if it has.
	// +optional
	PreviousExpires *metav1.Time `json:"previousExpires,omitempty"`

	// previousDevices is how many devices have not called with the new token yet, looked up every few minutes while the
	// token before is valid.
	// +optional
	PreviousDevices *int32 `json:"previousDevices,omitempty"`
}

// CertificateStatus describes a certificate.
type CertificateStatus struct {
	// sha256 is the fingerprint of the certificate, 64 hex digits.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	SHA256 string `json:"sha256,omitempty"`

	// publicKeySHA256 is the fingerprint of its public key (SHA-256 of its SubjectPublicKeyInfo), 64 hex digits. It
	// stays when the certificate is renewed with the same key.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PublicKeySHA256 string `json:"publicKeySHA256,omitempty"`

	// notAfter is when it expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// EnsTenant is one notification service: an API for phones, a webhook for Exchange, and what they need.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.runtime.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:path=enstenants,singular=enstenant,shortName=enst,categories=ens
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Hostname",type=string,JSONPath=`.spec.hostname`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Exposure",type=string,priority=1,JSONPath=`.status.effective.exposure`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Schema",type=string,priority=1,JSONPath=`.status.database.schema`
// +kubebuilder:printcolumn:name="Certificate expires",type=date,priority=1,JSONPath=`.status.certificate.notAfter`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="the name of an EnsTenant is at most 40 lower-case letters, digits and '-', beginning with a letter, because Services and other objects are named after it"
type EnsTenant struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the service as its administrator wants it.
	// +required
	Spec EnsTenantSpec `json:"spec"`

	// status is what the operator found and made.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1,"conditions":{{"type":"Ready","status":"Unknown","reason":"Pending","message":"Waiting for the operator","lastTransitionTime":"1970-01-01T00:00:00Z"}}}
	Status EnsTenantStatus `json:"status,omitzero"`
}

// EnsTenantList is a list of EnsTenant.
//
// +kubebuilder:object:root=true
type EnsTenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []EnsTenant `json:"items"`
}
