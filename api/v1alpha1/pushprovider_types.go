package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PushProviderSpec is one way to the phones: exactly one of apns, fcm, sns and cns. Which of them cannot change.
//
// +kubebuilder:validation:XValidation:rule="[has(self.apns), has(self.fcm), has(self.sns), has(self.cns)].filter(x, x).size() == 1",message="a PushProvider needs exactly one of apns, fcm, sns and cns: make one PushProvider for each"
// +kubebuilder:validation:XValidation:rule="has(self.apns) == has(oldSelf.apns) && has(self.fcm) == has(oldSelf.fcm) && has(self.sns) == has(oldSelf.sns) && has(self.cns) == has(oldSelf.cns)",message="a PushProvider cannot change between apns, fcm, sns and cns: make a new PushProvider"
type PushProviderSpec struct {
	// apns is the Apple Push Notification service.
	// +optional
	APNs *APNsProvider `json:"apns,omitempty"`

	// fcm is Firebase Cloud Messaging.
	// +optional
	FCM *FCMProvider `json:"fcm,omitempty"`

	// sns is the Simple Notification Service of Amazon, which passes notifications on to Apple or Google.
	// +optional
	SNS *SNSProvider `json:"sns,omitempty"`

	// cns is the Cloud Notification Service of VMware, which passes notifications on to Apple or Google. It is
	// experimental: the service is not described in public.
	// +optional
	CNS *CNSProvider `json:"cns,omitempty"`

	// caBundle replaces the system's certificate authorities, for a network that inspects TLS.
	// +optional
	CABundle *CertificateBundle `json:"caBundle,omitempty"`

	// proxy is the forward proxy that all connections for the provider go through. In effect unless set: none.
	// +optional
	Proxy *ForwardProxy `json:"proxy,omitempty"`

	// limits bound what is asked of the provider.
	// +optional
	Limits *PushLimits `json:"limits,omitempty"`
}

// APNsProvider is the Apple Push Notification service, signed in to with tokens, for which teamID, keyID and keySecretRef
// stand together, or with a certificate.
//
// +kubebuilder:validation:XValidation:rule="has(self.certificate) ? !has(self.teamID) && !has(self.keyID) && !has(self.keySecretRef) : has(self.teamID) && has(self.keyID) && has(self.keySecretRef)",message="APNs needs either teamID, keyID and keySecretRef, or certificate"
type APNsProvider struct {
	// teamID is the Apple developer team, 10 letters and digits.
	// +optional
	TeamID AppleID `json:"teamID,omitempty"`

	// keyID is the id of the signing key, 10 letters and digits.
	// +optional
	KeyID AppleID `json:"keyID,omitempty"`

	// keySecretRef names the signing key as Apple gives it out (.p8).
	// +optional
	KeySecretRef *SecretKeyReference `json:"keySecretRef,omitempty"`

	// certificate is a push certificate of Apple, which expires every year. A signing key does not: prefer one. The
	// certificate must be for the topics and the environment.
	// +optional
	Certificate *PKCS12Certificate `json:"certificate,omitempty"`

	// topics are the bundle ids of the apps that are served.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Topics []AppID `json:"topics"`

	// environment is where the apps' device tokens come from: Production, or Sandbox for development builds. In effect
	// unless set: Production.
	// +optional
	Environment APNsEnvironment `json:"environment,omitempty"`

	// url replaces Apple's server, for a relay or a test: scheme, host and port, without a path.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]*/?$')",message="must hold scheme, host and port only, without a path"
	URL HTTPSURL `json:"url,omitempty"`
}

// AppleID is an identifier that Apple gives out.
//
// +kubebuilder:validation:MinLength=10
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Z0-9]{10}$')",message="must be 10 upper-case letters and digits, as Apple shows it"
type AppleID string

// AppID is the bundle id or package name of an app.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=255
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[A-Za-z0-9][A-Za-z0-9_-]*(\\.[A-Za-z0-9_-]+)*$')",message="must be the id of an app, e.g. com.example.mail"
type AppID string

// APNsEnvironment is one of Apple's two push environments.
//
// +kubebuilder:validation:Enum=Production;Sandbox
type APNsEnvironment string

// Apple's push environments.
const (
	APNsProduction APNsEnvironment = "Production"
	APNsSandbox    APNsEnvironment = "Sandbox"
)

// FCMProvider is Firebase Cloud Messaging, HTTP v1.
type FCMProvider struct {
	// projectID is the Firebase project.
	// +required
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=30
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][-a-z0-9]*[a-z0-9]$')",message="must be the id of a Firebase project: 6 to 30 lower-case letters, digits and '-', beginning with a letter"
	ProjectID string `json:"projectID"`

	// serviceAccountSecretRef names the service account's key file (JSON). Only service accounts of Google are
	// accepted, and only the account's name and key are read from the file.
	// +required
	ServiceAccountSecretRef SecretKeyReference `json:"serviceAccountSecretRef"`

	// appIDs are the packages of the apps that are served. In effect unless set: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AppIDs []AppID `json:"appIDs,omitempty"`

	// url replaces Google's FCM server, for a relay or a test: scheme, host and port, without a path.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]*/?$')",message="must hold scheme, host and port only, without a path"
	URL HTTPSURL `json:"url,omitempty"`

	// tokenURL replaces Google's OAuth token endpoint, for a relay or a test.
	// +optional
	TokenURL HTTPSURL `json:"tokenURL,omitempty"`
}

// PushLimits bound what is asked of a provider.
type PushLimits struct {
	// timeoutSeconds bounds one push, retries included. In effect unless set: 20.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// maxConcurrentPushes bounds the pushes of one replica of a tenant that are under way at once. In effect unless
	// set: 256.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxConcurrentPushes int32 `json:"maxConcurrentPushes,omitempty"`
}

// PushProviderStatus is what the operator found.
type PushProviderStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Accepted, ReferencesResolved and Delivering.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// credential is what may be told of the credential in use.
	// +optional
	Credential *PushCredential `json:"credential,omitempty"`

	// caBundle describes the certificate authorities in use.
	// +optional
	CABundle *BundleStatus `json:"caBundle,omitempty"`
}

// PushCredential identifies a credential without revealing it.
type PushCredential struct {
	// identity is whom the provider knows the credential by: the key id, the service account's address, the role, or the
	// name in the certificate.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	Identity string `json:"identity,omitempty"`

	// publicKeySHA256 is the fingerprint of the public half of the key (SHA-256 of its SubjectPublicKeyInfo). It
	// changes when another key arrives.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PublicKeySHA256 string `json:"publicKeySHA256,omitempty"`

	// notAfter is when the credential expires: of several certificates the first.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// PushProvider is a push service that tenants of the same namespace may use.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=pushproviders,singular=pushprovider,shortName=pushp,categories=ens
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Identity",type=string,JSONPath=`.status.credential.identity`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="the name of a PushProvider is at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit, because a folder of the tenant's configuration is named after it"
type PushProvider struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the provider as its administrator describes it.
	// +required
	Spec PushProviderSpec `json:"spec"`

	// status is what the operator found.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1,"conditions":{{"type":"Ready","status":"Unknown","reason":"Pending","message":"Waiting for the operator","lastTransitionTime":"1970-01-01T00:00:00Z"}}}
	Status PushProviderStatus `json:"status,omitzero"`
}

// PushProviderList is a list of PushProvider.
//
// +kubebuilder:object:root=true
type PushProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []PushProvider `json:"items"`
}
