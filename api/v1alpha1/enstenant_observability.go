package v1alpha1

// TenantLogging is what is logged, and how.
type TenantLogging struct {
	// format is json, or ens2 for the lines of the original service, so that searches made for its log go on working.
	// In effect unless set: json.
	// +optional
	Format LogFormat `json:"format,omitempty"`

	// level is the least severe level that is logged: debug, info, warn or error. In effect unless set: info.
	// +optional
	Level LogLevel `json:"level,omitempty"`
}

// LogFormat is what a line of the log looks like.
//
// +kubebuilder:validation:Enum=json;ens2
type LogFormat string

// The log formats.
const (
	LogJSON LogFormat = "json"
	LogENS2 LogFormat = "ens2"
)

// LogLevel is a severity.
//
// +kubebuilder:validation:Enum=debug;info;warn;error
type LogLevel string

// The log levels.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// TenantTracing says where traces go, in OTLP over HTTP. They hold hashes of users, never an address, a credential or a word
// of a mail.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || self.endpoint.startsWith('https://')",message="caBundle has no effect on an endpoint without https"
type TenantTracing struct {
	// endpoint is the collector's address, e.g. https://collector.example.com:4318. Without a path it is /v1/traces, as
	// usual. The tenant's pods must be able to reach it.
	// +required
	Endpoint CollectorURL `json:"endpoint"`

	// samplePerMille is how many of a thousand calls of phones and posts of Exchange are traced. In effect unless set: 10.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	SamplePerMille int32 `json:"samplePerMille,omitempty"`

	// caBundle holds the certificate authorities to trust instead of the system's.
	// +optional
	CABundle *CertificateBundle `json:"caBundle,omitempty"`
}

// CollectorURL is where traces are posted to.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="self.matches('^https?://[^/@?#]+(/[^@?#]*)?$') && isURL(self)",message="must be http:// or https://, a host and maybe a path, without user information, query and fragment"
type CollectorURL string
