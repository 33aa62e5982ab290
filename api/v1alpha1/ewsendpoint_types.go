package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EwsEndpointSpec is the address of one Exchange Web Services server, and how it is recognised.
//
// +kubebuilder:validation:XValidation:rule="!has(self.secureEmailGateway) || !has(self.authenticationMethods) || !('NTLM' in self.authenticationMethods)",message="authenticationMethods must not hold NTLM together with secureEmailGateway, because NTLM authenticates a connection from end to end and does not pass the gateway: use Basic, OAuth or ClientCertificate"
type EwsEndpointSpec struct {
	// url is the full EWS address, e.g. https://mail.example.com/EWS/Exchange.asmx. Its host and port cannot change:
	// the credentials of users who registered at this endpoint would be sent to another server. Make a new EwsEndpoint
	// for another server.
	// +required
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]*/.')",message="must hold the path of the service, usually /EWS/Exchange.asmx"
	// +kubebuilder:validation:XValidation:rule="self.find('^https://[^/]*') == oldSelf.find('^https://[^/]*')",message="host and port of the url cannot change, because users' credentials would be sent to another server: make a new EwsEndpoint"
	URL HTTPSURL `json:"url"`

	// pinning says how the server's certificate is verified.
	// +required
	Pinning EndpointPinning `json:"pinning"`

	// authenticationMethods are the ways in which a user's credential may be presented to the server: Basic and NTLM
	// present user name and password, OAuth an access token, ClientCertificate a certificate in the TLS handshake.
	// Where Basic and NTLM are both listed, Basic is used unless the server does not offer it. A certificate beside a
	// password or a token needs both listed, e.g. Basic and ClientCertificate. What is not listed is never used,
	// whatever the server offers. In effect unless set: Basic.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	AuthenticationMethods []AuthenticationMethod `json:"authenticationMethods,omitempty"`

	// secureEmailGateway says that the url is that of a Secure Email Gateway (SEG), which lets compliant devices pass
	// and needs to be told which they are. Write it as {} where the gateway expects the usual headers.
	// +optional
	SecureEmailGateway *SecureEmailGateway `json:"secureEmailGateway,omitempty"`

	// minTLSVersion is the oldest version of TLS that is spoken with the server. VersionTLS10 and VersionTLS11 are
	// broken and only for a server that cannot do better. In effect unless set: VersionTLS12.
	// +optional
	MinTLSVersion TLSVersion `json:"minTLSVersion,omitempty"`

	// serverVersion is the newest RequestServerVersion that is sent to the server. Unless set, it is found out: Exchange
	// refuses what it does not know, and is then asked for less.
	// +optional
	ServerVersion ServerVersion `json:"serverVersion,omitempty"`

	// userAgent is how requests name themselves to the server, for client access rules that look at it. In effect unless
	// set: that of ENS2, MailNotificationService/v2 (ExchangeServicesClient/15.00.0913.015).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]([ -~]*[!-~])?$')",message="must be printable ASCII without spaces around it"
	UserAgent string `json:"userAgent,omitempty"`

	// limits bound what is asked of the server.
	// +optional
	Limits *EndpointLimits `json:"limits,omitempty"`
}

// AuthenticationMethod is a way of presenting a credential to Exchange.
//
// +kubebuilder:validation:Enum=Basic;NTLM;OAuth;ClientCertificate
type AuthenticationMethod string

// The authentication methods.
const (
	// AuthenticationBasic and AuthenticationNTLM present user name and password, always over TLS.
	AuthenticationBasic AuthenticationMethod = "Basic"
	AuthenticationNTLM  AuthenticationMethod = "NTLM"
	// AuthenticationOAuth presents an access token.
	AuthenticationOAuth AuthenticationMethod = "OAuth"
	// AuthenticationClientCertificate presents a certificate in the TLS handshake, alone or beside one of the others.
	AuthenticationClientCertificate AuthenticationMethod = "ClientCertificate"
)

// SecureEmailGateway is how a Secure Email Gateway is told of the devices that a request is for. The names of its
// headers are in no public document; those in effect unless set are the columns of its log.
//
// +kubebuilder:validation:XValidation:rule="(has(self.deviceIDHeader) ? self.deviceIDHeader : 'Request-DeviceId').lowerAscii() != (has(self.devicesHeader) ? self.devicesHeader : 'EnsDevices').lowerAscii()",message="deviceIDHeader and devicesHeader must not be the same header; unless set they are Request-DeviceId and EnsDevices"
type SecureEmailGateway struct {
	// deviceIDHeader is the header with the id of the first device. In effect unless set: Request-DeviceId.
	// +optional
	DeviceIDHeader HeaderName `json:"deviceIDHeader,omitempty"`

	// devicesHeader is the header with the ids of all devices, separated by commas. In effect unless set: EnsDevices.
	// +optional
	DevicesHeader HeaderName `json:"devicesHeader,omitempty"`
}

// HeaderName is the name of an HTTP header.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9][-_A-Za-z0-9]*$')",message="must be the name of a header: letters, digits, '-' and '_', beginning with a letter or digit"
type HeaderName string

// TLSVersion is a version of TLS, named as in Kubernetes' own --tls-min-version.
//
// +kubebuilder:validation:Enum=VersionTLS10;VersionTLS11;VersionTLS12;VersionTLS13
type TLSVersion string

// The versions of TLS. The first two are broken.
const (
	TLS10 TLSVersion = "VersionTLS10"
	TLS11 TLSVersion = "VersionTLS11"
	TLS12 TLSVersion = "VersionTLS12"
	TLS13 TLSVersion = "VersionTLS13"
)

// ServerVersion is a RequestServerVersion of Exchange Web Services.
//
// +kubebuilder:validation:Enum=Exchange2010_SP1;Exchange2010_SP2;Exchange2013
type ServerVersion string

// The versions that are told apart: each has something that the one before does not.
const (
	Exchange2010SP1 ServerVersion = "Exchange2010_SP1"
	Exchange2010SP2 ServerVersion = "Exchange2010_SP2"
	Exchange2013    ServerVersion = "Exchange2013"
)

// EndpointPinning is how a server's certificate is verified: exactly one of pinned, certificateAuthority and
// trustOnFirstUse.
//
// +kubebuilder:validation:XValidation:rule="[has(self.pinned), has(self.certificateAuthority), has(self.trustOnFirstUse)].filter(x, x).size() == 1",message="pinning needs exactly one of pinned, certificateAuthority and trustOnFirstUse"
type EndpointPinning struct {
	// pinned accepts the certificates with these fingerprints and no other. Names and chain are not looked at: the
	// fingerprint is the identity.
	// +optional
	Pinned *PinnedCertificates `json:"pinned,omitempty"`

	// certificateAuthority accepts certificates for the host of the url that these certificate authorities issued.
	// +optional
	CertificateAuthority *CertificateBundle `json:"certificateAuthority,omitempty"`

	// trustOnFirstUse accepts the certificate that the server shows the operator first, and no other from then on: its
	// fingerprint stands in status.trusted. Compare it on the server itself. When the server has another certificate,
	// accept it by the annotation ens-operator.io/accept-certificate with the new fingerprint. Write it as {}.
	// +optional
	TrustOnFirstUse *TrustOnFirstUse `json:"trustOnFirstUse,omitempty"`
}

// TrustOnFirstUse has no settings; write it as {}.
type TrustOnFirstUse struct{}

// PinnedCertificates are fingerprints of certificates and of public keys; one of all must match.
//
// +kubebuilder:validation:XValidation:rule="has(self.sha256) || has(self.publicKeySHA256)",message="pinned needs fingerprints: in sha256 those of certificates, in publicKeySHA256 those of public keys"
type PinnedCertificates struct {
	// sha256 are SHA-256 fingerprints of the server's certificate: 64 hex digits, with or without colons, as
	// `openssl x509 -noout -fingerprint -sha256` prints them. Add the next certificate's before the server changes it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SHA256 []Fingerprint `json:"sha256,omitempty"`

	// publicKeySHA256 are SHA-256 fingerprints of the server's public key (its SubjectPublicKeyInfo), which stay when the
	// certificate is renewed with the same key.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	PublicKeySHA256 []Fingerprint `json:"publicKeySHA256,omitempty"`
}

// Fingerprint is a SHA-256 fingerprint in hex, with or without colons.
//
// +kubebuilder:validation:MinLength=64
// +kubebuilder:validation:MaxLength=95
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})$')",message="must be a SHA-256 fingerprint: 64 hex digits, with or without colons"
type Fingerprint string

// EndpointLimits bound what is asked of a server.
type EndpointLimits struct {
	// timeoutSeconds bounds one request with its answer, at most 100: a user's password is in memory as long as a
	// request lasts, and may be there for less than two minutes. In effect unless set: 30.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// maxConcurrentRequests bounds the requests of one replica of a tenant that are under way at once. In effect
	// unless set: 256.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxConcurrentRequests int32 `json:"maxConcurrentRequests,omitempty"`
}

// EwsEndpointStatus is what the operator found.
type EwsEndpointStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Accepted, ReferencesResolved, Pinned and Reachable. Reachable is no part of Ready: what the
	// operator reaches is not what the tenants' pods reach.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// server is what the server showed when the operator last reached it, without a credential.
	// +optional
	Server *EndpointServer `json:"server,omitempty"`

	// trusted are the fingerprints of the certificates that are accepted with trustOnFirstUse: the last one that was
	// accepted and the one before.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	Trusted []Fingerprint `json:"trusted,omitempty"`

	// certificateAuthority describes the bundle that the server is verified against.
	// +optional
	CertificateAuthority *BundleStatus `json:"certificateAuthority,omitempty"`
}

// EndpointServer is what a server shows to everybody.
type EndpointServer struct {
	// certificates are those that the server showed, its own first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Certificates []ShownCertificate `json:"certificates,omitempty"`

	// tlsVersion is the version of TLS that was spoken, e.g. TLS 1.2.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	TLSVersion string `json:"tlsVersion,omitempty"`

	// authenticationSchemes are those that the server offers at the url, e.g. Negotiate, NTLM, Basic.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	AuthenticationSchemes []string `json:"authenticationSchemes,omitempty"`

	// asksForCredentials says whether the server asks for credentials at the url, as EWS does.
	// +optional
	AsksForCredentials *bool `json:"asksForCredentials,omitempty"`

	// version is the build of Exchange, where the server tells it to everybody.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Version string `json:"version,omitempty"`
}

// ShownCertificate describes a certificate of a server.
type ShownCertificate struct {
	// subject and issuer are common names.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Subject string `json:"subject,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Issuer string `json:"issuer,omitempty"`

	CertificateStatus `json:",inline"`
}

// BundleStatus describes the certificates that were read from a bundle.
type BundleStatus struct {
	// certificates is how many the bundle holds.
	// +optional
	Certificates int32 `json:"certificates,omitempty"`

	// notAfter is when the first of them expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// EwsEndpoint is an Exchange server that tenants of the same namespace may reach.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=ewsendpoints,singular=ewsendpoint,shortName=ewsep,categories=ens
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="the name of an EwsEndpoint is at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit, because a folder of the tenant's configuration is named after it"
type EwsEndpoint struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the server as its administrator describes it.
	// +required
	Spec EwsEndpointSpec `json:"spec"`

	// status is what the operator found.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1,"conditions":{{"type":"Ready","status":"Unknown","reason":"Pending","message":"Waiting for the operator","lastTransitionTime":"1970-01-01T00:00:00Z"}}}
	Status EwsEndpointStatus `json:"status,omitzero"`
}

// EwsEndpointList is a list of EwsEndpoint.
//
// +kubebuilder:object:root=true
type EwsEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []EwsEndpoint `json:"items"`
}
