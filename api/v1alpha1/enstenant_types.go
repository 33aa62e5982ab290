package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// EnsTenantSpec is a notification service as its administrator wants it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.callbackURL) || !self.callbackURL.startsWith('http://') || has(self.tls.terminatedElsewhere)",message="callbackURL may use http:// only with tls.terminatedElsewhere, because the tenant itself serves https only"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || !has(self.exposure.gateway) || has(self.tls.terminatedElsewhere)",message="exposure.gateway needs tls.terminatedElsewhere: the Gateway serves https and the tenant plain http behind it; for TLS up to the pods use exposure.loadBalancer, or none and a route of your own"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || !has(self.exposure.gateway) || !has(self.hostnames) || self.hostnames.size() <= 15",message="exposure.gateway takes at most 15 hostnames beside hostname, because an HTTPRoute has room for 16"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || !has(self.exposure.loadBalancer) || !has(self.tls.terminatedElsewhere)",message="exposure.loadBalancer cannot go with tls.terminatedElsewhere: the pods must serve https themselves"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || !has(self.exposure.ingress) || !has(self.exposure.ingress.tlsSecretName) || has(self.tls.terminatedElsewhere)",message="exposure.ingress.tlsSecretName is for tls.terminatedElsewhere: a tenant that has a certificate shares it with the Ingress"
// +kubebuilder:validation:XValidation:rule="has(self.database) == has(oldSelf.database)",message="database can be neither added to a tenant nor taken away, because its data do not move by themselves: docs/database.md says how to move them"
type EnsTenantSpec struct {
	// hostname is the name under which phones reach the tenant. Phones hold it in their configuration: change it
	// together with the certificate and the UEM console.
	// +required
	Hostname Hostname `json:"hostname"`

	// hostnames are further names that the tenant's certificate must hold, e.g. the name that Exchange calls.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Hostnames []Hostname `json:"hostnames,omitempty"`

	// callbackURL is the address that Exchange calls, at most 150 characters, up to and including the API path. It is
	// bound into every subscription when it is made: after a change the old address must go on working until the phones
	// have registered again. In effect unless set: https://<hostname>/MailNotificationService/api/ens.
	// +optional
	CallbackURL CallbackURL `json:"callbackURL,omitempty"`

	// environmentType is what the tenant calls itself in its answers to phones. In effect unless set: OnPrem.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+$')",message="must be letters, digits, '.', '_' and '-'"
	EnvironmentType string `json:"environmentType,omitempty"`

	// endpoints are the names of the EwsEndpoints that the tenant may reach, and no other server.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Endpoints []ResourceName `json:"endpoints"`

	// pushProviders are the names of the PushProviders that notify the tenant's phones.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	PushProviders []ResourceName `json:"pushProviders"`

	// autodiscover finds a user's endpoint by the e-mail address, among the endpoints, where the phone does not name
	// one. Unless set, nothing is asked.
	// +optional
	Autodiscover *TenantAutodiscover `json:"autodiscover,omitempty"`

	// apiToken is how the API token is kept that the phones carry. Unless set, a token is made once and stays.
	// +optional
	APIToken *TenantAPIToken `json:"apiToken,omitempty"`

	// encryption is how the keys are kept that the tenant's data are sealed under. Unless set, the operator makes them and
	// keeps them in Secret <name>-keys, with the webhook keys, which it makes in any case.
	// +optional
	Encryption *TenantEncryption `json:"encryption,omitempty"`

	// mailboxProof is how strictly a registration must prove whose mailbox it is: Required, or FirstUse, which takes
	// the first mailbox that registers under a user id for its owner. In effect unless set: Required.
	// +optional
	MailboxProof MailboxProof `json:"mailboxProof,omitempty"`

	// notifications is what the phones are shown.
	// +optional
	Notifications *TenantNotifications `json:"notifications,omitempty"`

	// limits bound what the tenant's phones may do.
	// +optional
	Limits *TenantLimits `json:"limits,omitempty"`

	// logging is what the tenant's pods log, and how. It changes without a restart.
	// +optional
	Logging *TenantLogging `json:"logging,omitempty"`

	// tracing sends traces of the tenant's work to a collector. Unless set, none are made.
	// +optional
	Tracing *TenantTracing `json:"tracing,omitempty"`

	// tls is where the certificate comes from that phones and Exchange see.
	// +required
	TLS TenantTLS `json:"tls"`

	// exposure is how the tenant is reached from outside of the cluster. In effect unless set: none.
	// +optional
	Exposure *TenantExposure `json:"exposure,omitempty"`

	// networkPolicy limits what the tenant's pods may talk to. Unless set, nothing does.
	// +optional
	NetworkPolicy *TenantNetworkPolicy `json:"networkPolicy,omitempty"`

	// database is a Postgres database of the tenant's own. Unless set, the tenant has a schema in the database that the
	// operator was started with. It can be changed, but neither added nor taken away: data do not move by themselves.
	// +optional
	Database *TenantDatabase `json:"database,omitempty"`

	// runtime is how the tenant's workload runs.
	// +optional
	Runtime *TenantRuntime `json:"runtime,omitempty"`

	// deletionPolicy is what becomes of the tenant's database schema, keys and API token when the EnsTenant is deleted:
	// Retain keeps them, and an EnsTenant of the same name takes them up again; Delete removes them for good, and every
	// phone has to be set up anew. In effect unless set: Retain.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// TenantAutodiscover is what may be asked to find a user's endpoint.
type TenantAutodiscover struct {
	// domains bound what is asked: the e-mail address, and every host, must be of one of them or of a subdomain.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	Domains []Domain `json:"domains"`

	// authenticationMethods are the ways in which a user's credential may be presented to the hosts that are asked. In
	// effect unless set: those that all endpoints allow.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	AuthenticationMethods []AuthenticationMethod `json:"authenticationMethods,omitempty"`

	// caBundle holds the certificate authorities to trust instead of the system's. A host that is an endpoint's, too,
	// is verified as the endpoint is.
	// +optional
	CABundle *CertificateBundle `json:"caBundle,omitempty"`

	// cacheSeconds is how long an answer holds for its domain. In effect unless set: 3600.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	CacheSeconds int32 `json:"cacheSeconds,omitempty"`
}

// Domain is a DNS domain in lower case, of at least two labels.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches(r'^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$')",message="must be a domain of at least two labels in lower case, e.g. example.com"
// +kubebuilder:validation:XValidation:rule="!self.matches(r'\\.[0-9]+$')",message="must be a domain, not an IP address"
type Domain string

// CallbackURL is an address that Exchange posts to.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=150
// +kubebuilder:validation:XValidation:rule="self.matches('^https?://')",message="must begin with https:// (or http://, with tls.terminatedElsewhere)"
// +kubebuilder:validation:XValidation:rule="!self.matches('[@?#]')",message="must have no user information, no query and no fragment"
// +kubebuilder:validation:XValidation:rule="self.matches(r'^https?://[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*(:|/|$)') && (!self.matches(r'^https?://([^/:]*\\.)?[0-9]+(:|/|$)') || self.matches(r'^https?://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:|/|$)'))",message="must hold a valid host name (RFC 1123) or IPv4 address"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/]*:') || self.matches('^https?://[^/]*:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(/|$)')",message="must hold a port between 1 and 65535, or none"
// +kubebuilder:validation:XValidation:rule="self.matches(r'^https?://[^/]*(/[-A-Za-z0-9._~]+)+$')",message="must hold the path of the API without a slash at its end, usually /MailNotificationService/api/ens"
// +kubebuilder:validation:XValidation:rule="!self.matches(r'/\\.\\.?(/|$)')",message="must hold a path without . and .. in it, because what stands in front of the tenant may rewrite them"
type CallbackURL string

// MailboxProof is how strictly a registration proves whose mailbox it is.
//
// +kubebuilder:validation:Enum=Required;FirstUse
type MailboxProof string

// The mailbox proofs.
const (
	MailboxProofRequired MailboxProof = "Required"
	MailboxProofFirstUse MailboxProof = "FirstUse"
)

// DeletionPolicy is what becomes of a tenant's data when the tenant is deleted.
//
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

// The deletion policies.
const (
	DeletionRetain DeletionPolicy = "Retain"
	DeletionDelete DeletionPolicy = "Delete"
)

// TenantNotifications is what the phones are shown.
type TenantNotifications struct {
	// policyCeiling limits what any phone is shown, in the numbers of PolicyLimitNotificationText: 0 everything the
	// phone asks for, up to 4, which sets the badge only. The stricter of this and the phone's own setting counts.
	// In effect unless set: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4
	PolicyCeiling *int32 `json:"policyCeiling,omitempty"`

	// statusFrequencyMinutes is how often Exchange says that a subscription lives. In effect unless set: 15.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1440
	StatusFrequencyMinutes int32 `json:"statusFrequencyMinutes,omitempty"`

	// unchangedBadges is what becomes of an unread count that is the one a phone was last told: Suppress sends nothing,
	// which spares batteries, Send sends it once more, as ENS2 does. In effect unless set: Suppress.
	// +optional
	UnchangedBadges UnchangedBadges `json:"unchangedBadges,omitempty"`
}

// UnchangedBadges is what becomes of an unread count that is the one a phone was last told.
//
// +kubebuilder:validation:Enum=Suppress;Send
type UnchangedBadges string

// What may become of it.
const (
	UnchangedBadgesSuppress UnchangedBadges = "Suppress"
	UnchangedBadgesSend     UnchangedBadges = "Send"
)

// TenantLimits bound what a tenant's phones may do.
type TenantLimits struct {
	// maxUsers is how many users may register. In effect unless set: 100000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	MaxUsers int32 `json:"maxUsers,omitempty"`

	// maxDevicesPerUser is how many phones one user may register. In effect unless set: 20.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxDevicesPerUser int32 `json:"maxDevicesPerUser,omitempty"`

	// requestsPerSecond bounds the calls of all phones to one replica. In effect unless set: 500.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	RequestsPerSecond int32 `json:"requestsPerSecond,omitempty"`

	// userRequestsPerMinute bounds the calls of one user's phones to one replica. In effect unless set: 60.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	UserRequestsPerMinute int32 `json:"userRequestsPerMinute,omitempty"`

	// newUsersPerMinute bounds the users that one replica takes in. In effect unless set: 6000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	NewUsersPerMinute int32 `json:"newUsersPerMinute,omitempty"`
}

// TenantTLS is where the tenant's certificate comes from: exactly one of certManager, secretName and
// terminatedElsewhere.
//
// +kubebuilder:validation:XValidation:rule="[has(self.certManager), has(self.secretName), has(self.terminatedElsewhere)].filter(x, x).size() == 1",message="tls needs exactly one of certManager, secretName and terminatedElsewhere"
// +kubebuilder:validation:XValidation:rule="!has(self.nextSecretName) || !has(self.terminatedElsewhere)",message="nextSecretName has no effect with terminatedElsewhere, where the certificate belongs to what stands in front"
// +kubebuilder:validation:XValidation:rule="!has(self.nextSecretName) || !has(self.secretName) || self.nextSecretName != self.secretName",message="nextSecretName must be another Secret than secretName: the next certificate has a key of its own"
// +kubebuilder:validation:XValidation:rule="!has(self.minTLSVersion) || !has(self.terminatedElsewhere)",message="minTLSVersion has no effect with terminatedElsewhere, where the tenant serves plain http: set it on what stands in front"
type TenantTLS struct {
	// certManager has cert-manager issue the certificate. Its private key is kept when it is renewed, because phones
	// may pin it.
	// +optional
	CertManager *CertManagerTLS `json:"certManager,omitempty"`

	// secretName names a Secret of type kubernetes.io/tls whose certificate holds hostname and hostnames.
	// +optional
	SecretName ResourceName `json:"secretName,omitempty"`

	// nextSecretName names a Secret of type kubernetes.io/tls with the certificate, of another key, that is to follow.
	// Nothing serves it: its pin stands in the status, to be given to the phones before secretName is set to it.
	// +optional
	NextSecretName ResourceName `json:"nextSecretName,omitempty"`

	// terminatedElsewhere says that something in front of the tenant serves https, and the tenant plain http behind it.
	// +optional
	TerminatedElsewhere *TerminatedElsewhere `json:"terminatedElsewhere,omitempty"`

	// minTLSVersion is the oldest version of TLS that phones and Exchange may speak with the tenant. VersionTLS10 and
	// VersionTLS11 are broken and only for an Exchange server that cannot do better. In effect unless set: VersionTLS12.
	// +optional
	MinTLSVersion TLSVersion `json:"minTLSVersion,omitempty"`
}

// CertManagerTLS asks cert-manager for a certificate.
type CertManagerTLS struct {
	// issuerRef is the issuer.
	// +required
	IssuerRef IssuerReference `json:"issuerRef"`
}

// IssuerReference names an issuer of cert-manager or of one of its extensions.
type IssuerReference struct {
	// name is the issuer's name.
	// +required
	Name ResourceName `json:"name"`

	// kind is the issuer's kind. In effect unless set: Issuer.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// group is the issuer's API group. In effect unless set: cert-manager.io.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
}

// TerminatedElsewhere has no settings yet; write it as {}.
type TerminatedElsewhere struct{}

// TenantRuntime is how a tenant's workload runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || !has(self.autoscaling)",message="replicas and autoscaling exclude each other: with autoscaling the autoscaler chooses the number"
type TenantRuntime struct {
	// image is the runtime's container image. In effect unless set: the image that the operator was started with, which
	// running tenants take up in turns.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// replicas is how many pods serve the tenant; none stops the service. It must be set where an autoscaler or
	// `kubectl scale` is to change it: neither can scale what has no number yet. In effect unless set: 2.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling has the number of pods follow their load, instead of replicas. The operator then leaves the number
	// alone.
	// +optional
	Autoscaling *TenantAutoscaling `json:"autoscaling,omitempty"`

	// drainDelaySeconds is how long a pod that is to stop goes on serving while it is taken out of rotation. In effect
	// unless set: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=300
	DrainDelaySeconds *int32 `json:"drainDelaySeconds,omitempty"`

	// podTemplate is what the tenant's pods have beside what they need.
	// +optional
	PodTemplate *PodTemplate `json:"podTemplate,omitempty"`
}

// PodTemplate is the part of a pod that may be chosen.
type PodTemplate struct {
	// labels are further labels of the pods. Those of the operator win.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are further annotations of the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Annotations map[string]string `json:"annotations,omitempty"`

	// resources are the container's. In effect unless set: requests of 100m CPU and 128Mi memory, and a limit of 512Mi
	// memory.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// nodeSelector chooses the nodes by their labels.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are the taints that the pods tolerate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity is the pods' affinity, as in a Pod. The API server judges it when the Deployment is written.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Affinity *runtime.RawExtension `json:"affinity,omitempty"`

	// topologySpreadConstraints spread the pods; an empty list does not. In effect unless set: over nodes and over zones,
	// as far as that can be done.
	// +optional
	// +listType=map
	// +listMapKey=topologyKey
	// +kubebuilder:validation:MaxItems=8
	TopologySpreadConstraints []TopologySpread `json:"topologySpreadConstraints,omitempty"`

	// extraEnv are further variables of the runtime's environment, e.g. GODEBUG.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	ExtraEnv []EnvironmentVariable `json:"extraEnv,omitempty"`

	// serviceAccountAnnotations are annotations of the pods' ServiceAccount, e.g. the cloud's identity for it.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations,omitempty"`

	// priorityClassName is the pods' priority class.
	// +optional
	PriorityClassName ResourceName `json:"priorityClassName,omitempty"`

	// imagePullSecrets are the names of Secrets to pull the image with.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []ResourceName `json:"imagePullSecrets,omitempty"`
}

// ResourceRequirements are what a container is given.
type ResourceRequirements struct {
	// requests is what is set aside for the container.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits is what the container may use at most.
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}
