// Package config is the runtime's configuration: what the operator renders and the runtime reads.
//
// The file is YAML. Unknown fields are ignored, so that an older runtime starts with the file of a newer operator.
// Everything secret stands in files of its own beside it (see Files), never in the configuration itself, so that it may
// be kept in a ConfigMap. All paths are relative to the folder of the configuration file: one projected volume holds
// the whole set, and the same set in any folder runs on a laptop.
package config

import "time"

// FileName is the configuration file's name in its folder.
const FileName = "config.yaml"

// The files beside the configuration. The operator projects Secrets onto these paths.
const (
	// APITokenHashesFile holds one API token a line as `<lower-case hex SHA-256> [<RFC 3339 expiry>]`.
	APITokenHashesFile = "secrets/api-token-hashes"
	// DatabaseURLFile holds the connection string of the tenant's login role.
	DatabaseURLFile = "secrets/database-url"
	// KeysFolder holds the key-encryption keys (`kek-<id>`) and webhook keys (`webhook-<id>`), see Keys.
	KeysFolder = "keys"
	// TLSCertificateFile and TLSKeyFile hold the listener's certificate when Server.TLS is set.
	TLSCertificateFile = "tls/tls.crt"
	TLSKeyFile         = "tls/tls.key"
	// EndpointsFolder holds `<endpoint>/ca.crt` of the endpoints that are verified by a certificate authority.
	EndpointsFolder = "endpoints"
	// AutodiscoverFolder holds `ca.crt`, the authorities that Autodiscover's hosts are verified against.
	AutodiscoverFolder = "autodiscover"
	// TracingFolder holds `ca.crt`, the authorities that the collector of traces is verified against.
	TracingFolder = "tracing"
	// PushFolder holds `<provider>/<file>`, the credentials of the push providers.
	PushFolder = "push"
)

// Config is the whole configuration of one tenant's runtime. The zero value of an optional field means its effective
// default, which Effective fills in.
type Config struct {
	Tenant Tenant `json:"tenant"`
	Server Server `json:"server"`
	// Database is what is to be known of the database beside DatabaseURLFile.
	Database      *Database      `json:"database,omitempty"`
	Endpoints     []Endpoint     `json:"endpoints"`
	Autodiscover  *Autodiscover  `json:"autodiscover,omitempty"`
	PushProviders []PushProvider `json:"pushProviders"`
	Notifications Notifications  `json:"notifications"`
	// MailboxProof is Required or FirstUse (protocol.md, registerdevicev2).
	MailboxProof MailboxProof `json:"mailboxProof,omitempty"`
	Limits       Limits       `json:"limits"`
	KeyPool      KeyPool      `json:"keyPool"`
	Callback     Callback     `json:"callback"`
	Logging      Logging      `json:"logging"`
	// Tracing sends traces to a collector; none are made unless it is set.
	Tracing *Tracing `json:"tracing,omitempty"`
	// AllowLoopback lets outgoing connections reach loopback and link-local addresses. Only for tests and the demo:
	// with it, a tenant could reach the administration port of its own pod.
	AllowLoopback bool `json:"allowLoopback,omitempty"`
}

// Tenant says whose runtime this is. ID is bound into everything that is sealed, so it must never change: it is the
// name of the tenant's database schema.
type Tenant struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Database is how the database is known. The bundle stands here and not in a file of its own, so that the first one, too,
// reaches replicas that run: they could not mount a further file.
type Database struct {
	// CABundle are the certificate authorities, in PEM, that the database's certificate is verified against with the sslmodes
	// verify-ca and verify-full; unless set, the system's.
	CABundle string `json:"caBundle,omitempty"`
}

// Server is what the runtime listens on and calls itself.
type Server struct {
	// Listen, Metrics and Admin are host:port. Admin must be a loopback address.
	Listen  string `json:"listen"`
	Metrics string `json:"metrics"`
	Admin   string `json:"admin"`
	// TLS makes the runtime serve HTTPS with TLSCertificateFile; else it serves plain HTTP behind an entry.
	TLS bool `json:"tls,omitempty"`
	// MinTLSVersion is the oldest version that is spoken with TLS; VersionTLS12 unless set.
	MinTLSVersion TLSVersion `json:"minTLSVersion,omitempty"`
	// CallbackURL is the base under which Exchange reaches the runtime, at most 150 characters, up to and including
	// the API path, e.g. https://ens.example.com/MailNotificationService/api/ens.
	CallbackURL string `json:"callbackURL"`
	// BasePaths are the paths Boxer's calls are served under, compared without case; the two of the original
	// (P-01, P-02) are always among them.
	BasePaths []string `json:"basePaths,omitempty"`
	// EnvironmentType is reported to Boxer as it stands (P-19).
	EnvironmentType string `json:"environmentType,omitempty"`
	// DrainDelaySeconds is how long the server goes on serving after SIGTERM while it is taken out of rotation.
	DrainDelaySeconds *int32 `json:"drainDelaySeconds,omitempty"`
}

// Endpoint is one Exchange server (or SEG in front of it) that the tenant may reach.
type Endpoint struct {
	Name string `json:"name"`
	// URL is the full EWS address (E-06), https only, e.g. https://mail.example.com/EWS/Exchange.asmx.
	URL string `json:"url"`
	// Pinning says how the server's certificate is verified.
	Pinning Pinning `json:"pinning"`
	// MinTLSVersion is the oldest version that is spoken with the server; VersionTLS12 unless set.
	MinTLSVersion TLSVersion `json:"minTLSVersion,omitempty"`
	// AuthenticationMethods are the ways a credential may be presented, e.g. Basic.
	AuthenticationMethods []AuthenticationMethod `json:"authenticationMethods"`
	// SecureEmailGateway says that the URL is that of a SEG, which lets compliant devices pass (G-01 to G-18).
	SecureEmailGateway *SecureEmailGateway `json:"secureEmailGateway,omitempty"`
	// ServerVersion is the newest RequestServerVersion to send, e.g. Exchange2010_SP1. Unless set, it is found out:
	// Exchange refuses what it does not know, and is then asked for less.
	ServerVersion ServerVersion `json:"serverVersion,omitempty"`
	// TimeoutSeconds bounds one request, body included.
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// MaxConcurrentRequests bounds the requests of one replica to this endpoint.
	MaxConcurrentRequests int32 `json:"maxConcurrentRequests,omitempty"`
	// UserAgent replaces the default (E-01).
	UserAgent string `json:"userAgent,omitempty"`
}

// Pinning is how a server certificate is verified: by fingerprints, or by a certificate authority.
type Pinning struct {
	// SHA256 are fingerprints of the server's certificate, 64 lower-case hex digits each. The chain and the name are
	// then not looked at: the fingerprint is the identity.
	SHA256 []string `json:"sha256,omitempty"`
	// PublicKeySHA256 are fingerprints of the server's public key (SHA-256 of its SubjectPublicKeyInfo), 64 lower-case hex
	// digits each. They count beside SHA256: one of all must match.
	PublicKeySHA256 []string `json:"publicKeySHA256,omitempty"`
	// CertificateAuthority verifies chain and name against endpoints/<name>/ca.crt.
	CertificateAuthority bool `json:"certificateAuthority,omitempty"`
}

// AuthenticationMethod is a way of presenting a credential to Exchange.
type AuthenticationMethod string

// The methods.
const (
	// AuthBasic and AuthNTLM present user name and password. Where both are allowed, Basic is used unless the server
	// does not offer it.
	AuthBasic AuthenticationMethod = "Basic"
	AuthNTLM  AuthenticationMethod = "NTLM"
	// AuthOAuth presents an access token.
	AuthOAuth AuthenticationMethod = "OAuth"
	// AuthClientCertificate presents a certificate in the TLS handshake, alone or beside one of the others (E-11, E-12).
	AuthClientCertificate AuthenticationMethod = "ClientCertificate"
)

// TLSVersion is a version of TLS, named as in Kubernetes' own --tls-min-version.
type TLSVersion string

// The versions. The first two are broken and only for servers that cannot do better.
const (
	TLS10 TLSVersion = "VersionTLS10"
	TLS11 TLSVersion = "VersionTLS11"
	TLS12 TLSVersion = "VersionTLS12"
	TLS13 TLSVersion = "VersionTLS13"
)

// ServerVersion is a RequestServerVersion.
type ServerVersion string

// The versions that the runtime tells apart: each has something that the one before does not (ews.md, section 1).
const (
	Exchange2010SP1 ServerVersion = "Exchange2010_SP1"
	Exchange2010SP2 ServerVersion = "Exchange2010_SP2"
	Exchange2013    ServerVersion = "Exchange2013"
)

// SecureEmailGateway is how the devices are told to a SEG. Which names a SEG expects is not in public documents, the
// defaults are those of its log's columns (G-04).
type SecureEmailGateway struct {
	// DeviceIDHeader carries the first device's id.
	DeviceIDHeader string `json:"deviceIDHeader,omitempty"`
	// DevicesHeader carries the ids of all devices, separated by commas; in an answer, `id:status` for each.
	DevicesHeader string `json:"devicesHeader,omitempty"`
}

// Autodiscover finds a user's endpoint by the e-mail address, among the tenant's endpoints.
type Autodiscover struct {
	// Domains bound what is asked: the e-mail address, and every host, must be of one of them or a subdomain.
	Domains []string `json:"domains"`
	// AuthenticationMethods are those by which a credential may be presented to the hosts; unless set, those that all
	// endpoints allow. Autodiscover v2 needs none.
	AuthenticationMethods []AuthenticationMethod `json:"authenticationMethods,omitempty"`
	// CABundle says that autodiscover/ca.crt holds the certificate authorities to trust instead of the system's. A host
	// that is an endpoint's too is verified as the endpoint is.
	CABundle bool `json:"caBundle,omitempty"`
	// CacheSeconds is how long an answer holds for its domain.
	CacheSeconds int32 `json:"cacheSeconds,omitempty"`
}

// CacheTime is CacheSeconds as a duration.
func (a Autodiscover) CacheTime() time.Duration { return time.Duration(a.CacheSeconds) * time.Second }

// PushProvider is one way to the phones. Exactly one of APNs, FCM, SNS and CNS is set.
type PushProvider struct {
	Name string `json:"name"`
	APNs *APNs  `json:"apns,omitempty"`
	FCM  *FCM   `json:"fcm,omitempty"`
	SNS  *SNS   `json:"sns,omitempty"`
	CNS  *CNS   `json:"cns,omitempty"`
	// CABundle says that push/<name>/ca.crt holds the certificate authorities to trust instead of the system's.
	CABundle bool `json:"caBundle,omitempty"`
	// Proxy is the forward proxy to go through (C-10), nil for none.
	Proxy *ForwardProxy `json:"proxy,omitempty"`
	// TimeoutSeconds bounds one push, retries included.
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// MaxConcurrentPushes bounds the pushes of one replica to this provider.
	MaxConcurrentPushes int32 `json:"maxConcurrentPushes,omitempty"`
}

// FCM is Firebase Cloud Messaging, HTTP v1. The service account is push/<name>/service-account.json.
type FCM struct {
	ProjectID string `json:"projectID"`
	// AppIDs are the Android packages that are served; empty serves all.
	AppIDs []string `json:"appIDs,omitempty"`
	// URL replaces Google's server (scheme and host), for tests and the demo.
	URL string `json:"url,omitempty"`
	// TokenURL replaces Google's OAuth token endpoint, for tests and the demo. The service account's own token_uri
	// is never followed (architecture.md, rule 4).
	TokenURL string `json:"tokenURL,omitempty"`
}

// The file names of the push credentials, under push/<provider>/.
const (
	APNsKeyFile                 = "key.p8"
	APNsCertificateFile         = "certificate.pfx"
	APNsCertificatePasswordFile = "certificate-password"
	FCMServiceAccountFile       = "service-account.json"
	SNSAccessKeyIDFile          = "access-key-id"
	SNSSecretAccessKeyFile      = "secret-access-key"
	// SNSWebIdentityTokenFile is replaced while the runtime runs, so it is read whenever a token is needed.
	SNSWebIdentityTokenFile = "web-identity-token"
	CNSSigningFile          = "signing.pfx"
	CNSSigningPasswordFile  = "signing-password"
	CNSClientFile           = "client.pfx"
	CNSClientPasswordFile   = "client-password"
	ProxyUsernameFile       = "proxy-username"
	ProxyPasswordFile       = "proxy-password"
	CABundleFile            = "ca.crt"
)

// PushEnvironment is where an app's tokens come from: production or sandbox (development builds).
type PushEnvironment string

// The environments.
const (
	PushProduction PushEnvironment = "production"
	PushSandbox    PushEnvironment = "sandbox"
)

// Notifications is what the phones are shown.
type Notifications struct {
	// PolicyCeiling is the least revealing limit in effect for all devices, 0..4 (N-01..N-05); the larger of it and
	// the device's own counts.
	PolicyCeiling int32 `json:"policyCeiling,omitempty"`
	// StatusFrequencyMinutes is Exchange's heartbeat, 1..1440 (H-01).
	StatusFrequencyMinutes int32 `json:"statusFrequencyMinutes,omitempty"`
	// UnchangedBadges says what becomes of a count that a device was told already (B-05); Suppress unless set.
	UnchangedBadges UnchangedBadges `json:"unchangedBadges,omitempty"`
}

// UnchangedBadges is what becomes of an unread count that is the one a device was last told.
type UnchangedBadges string

// What may become of it.
const (
	// UnchangedSuppress sends nothing, which spares batteries.
	UnchangedSuppress UnchangedBadges = "Suppress"
	// UnchangedSend sends it once more, as the original does: a phone that has lost its badge shows it again.
	UnchangedSend UnchangedBadges = "Send"
)

// MailboxProof is how strictly a registration proves whose mailbox it is.
type MailboxProof string

// The proofs.
const (
	// ProofRequired: the mailbox must be shown to belong to userId.
	ProofRequired MailboxProof = "Required"
	// ProofFirstUse: the first mailbox that registers under a userId is taken for its owner.
	ProofFirstUse MailboxProof = "FirstUse"
)

// Limits bound what the tenant's devices may do.
type Limits struct {
	MaxUsers          int32 `json:"maxUsers,omitempty"`
	MaxDevicesPerUser int32 `json:"maxDevicesPerUser,omitempty"`
	// RequestsPerSecond bounds Boxer's calls of the whole tenant and replica.
	RequestsPerSecond int32 `json:"requestsPerSecond,omitempty"`
	// UserRequestsPerMinute bounds the calls of one user and replica.
	UserRequestsPerMinute int32 `json:"userRequestsPerMinute,omitempty"`
	// NewUsersPerMinute bounds the records that getpublickey creates, per replica.
	NewUsersPerMinute int32 `json:"newUsersPerMinute,omitempty"`
}

// KeyPool is the stock of RSA key pairs made in advance (K-01..K-04).
type KeyPool struct {
	Size                  int32 `json:"size,omitempty"`
	RefillBelow           int32 `json:"refillBelow,omitempty"`
	RefillIntervalSeconds int32 `json:"refillIntervalSeconds,omitempty"`
}

// Callback bounds the work on Exchange's posts.
type Callback struct {
	// Workers is how many users' mail of each endpoint is worked on at once by one replica.
	Workers int32 `json:"workers,omitempty"`
	// LeaseSeconds is how long a replica holds a journal row before another may take it.
	LeaseSeconds int32 `json:"leaseSeconds,omitempty"`
}

// DrainDelay is Server.DrainDelaySeconds as a duration.
func (s Server) DrainDelay() time.Duration {
	if s.DrainDelaySeconds == nil {
		return defaultDrainDelaySeconds * time.Second
	}
	return time.Duration(*s.DrainDelaySeconds) * time.Second
}

// StatusFrequency is Notifications.StatusFrequencyMinutes as a duration.
func (n Notifications) StatusFrequency() time.Duration {
	return time.Duration(n.StatusFrequencyMinutes) * time.Minute
}

// Lease is Callback.LeaseSeconds as a duration.
func (c Callback) Lease() time.Duration { return time.Duration(c.LeaseSeconds) * time.Second }

// Timeout is TimeoutSeconds as a duration.
func (e Endpoint) Timeout() time.Duration { return time.Duration(e.TimeoutSeconds) * time.Second }

// Timeout is TimeoutSeconds as a duration.
func (p PushProvider) Timeout() time.Duration { return time.Duration(p.TimeoutSeconds) * time.Second }
