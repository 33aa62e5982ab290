// Package desired builds the objects that a tenant needs. Its functions are pure: the same tenant gives the same
// objects, byte for byte, so that an operator that starts anew finds nothing to do.
package desired

import (
	"cmp"
	"net/url"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// apiPath is where the phones find the API (P-01).
	apiPath = "/MailNotificationService/api/ens"

	defaultReplicas = 2
	// defaultOverlapDays is how long an API token stays valid after it was replaced: consoles take weeks to reach all phones.
	defaultOverlapDays = 30
)

// Labels of the objects that the operator makes.
const (
	// LabelManagedBy marks everything the operator makes; its caches hold nothing else.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy.
	ManagedBy = "ens-operator"
	// LabelTenant holds the tenant's name.
	LabelTenant = v1alpha1.GroupName + "/tenant"

	labelName     = "app.kubernetes.io/name"
	labelInstance = "app.kubernetes.io/instance"
	runtimeName   = "ens-runtime"
)

// Tenant is all that a tenant's objects are made from.
type Tenant struct {
	Object *v1alpha1.EnsTenant
	// Settings are the tenant's settings in effect.
	Settings v1alpha1.EffectiveSettings
	// Schema is the name of the tenant's database schema.
	Schema string
	// References are the servers that it may reach.
	References References
	// AllowLoopback lets it reach loopback addresses.
	AllowLoopback bool
	// APIToken is the phones' token, DatabaseURL the runtime's connection string.
	APIToken, DatabaseURL secret.Value
	// DatabaseCAs are the authorities, in PEM, that the database is verified against; empty for the system's.
	DatabaseCAs string
	// PreviousToken is the token before, the zero value if it has ended.
	PreviousToken PreviousToken
	// PasswordOrigin tells where the password in DatabaseURL comes from.
	PasswordOrigin Origin
	// DatabasePorts are the ports in DatabaseURL.
	DatabasePorts []int32
	// FirstReplicas is how many pods a Deployment begins with whose number is an autoscaler's from then on; nil for one
	// that is there.
	FirstReplicas *int32
	// ReplacedImage is the image of the pods that are being replaced because the operator's own image is another one; empty
	// if none are.
	ReplacedImage string
	// KeyFiles are the names of the keys to mount of the Secret with the tenant's keys.
	KeyFiles []string
	// OwnKEKFiles are those of OwnKEKSecret, the administrator's own.
	OwnKEKSecret string
	OwnKEKFiles  []string
}

// PreviousToken is a token that was replaced, and until when it is valid.
type PreviousToken struct {
	Value   secret.Value
	Expires time.Time
}

// Names of the objects of a tenant.
func name(tenant *v1alpha1.EnsTenant, suffix string) string { return tenant.Name + suffix }

// KeysName is the name of the Secret with the tenant's keys.
func KeysName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-keys") }

// APITokenName is the name of the Secret with the API token.
func APITokenName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-api-token") }

// BoxerName is the name of the Secret with what is to be entered in the UEM console.
func BoxerName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-boxer") }

// RuntimeName is the name of the ConfigMap and of the Secret with the runtime's configuration.
func RuntimeName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-runtime") }

// CertificateName is the name of the Certificate that is asked of cert-manager, and of its Secret.
func CertificateName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-tls") }

// CAName is the name of the ConfigMap with the authority that issued the certificate.
func CAName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-ca") }

// WorkloadName is the name of Deployment, Service, PodDisruptionBudget and ServiceAccount.
func WorkloadName(tenant *v1alpha1.EnsTenant) string { return tenant.Name }

// TLSSecretName is the name of the Secret with the tenant's certificate, empty if it needs none.
func TLSSecretName(tenant *v1alpha1.EnsTenant) string {
	switch tls := tenant.Spec.TLS; {
	case tls.SecretName != "":
		return string(tls.SecretName)
	case tls.CertManager != nil:
		return CertificateName(tenant)
	default:
		return ""
	}
}

// Hostnames are all names that the tenant's certificate must hold.
func Hostnames(tenant *v1alpha1.EnsTenant) []string {
	names := []string{string(tenant.Spec.Hostname)}
	for _, hostname := range tenant.Spec.Hostnames {
		if hostname != tenant.Spec.Hostname {
			names = append(names, string(hostname))
		}
	}
	return names
}

// URL is the address for the phones.
func URL(tenant *v1alpha1.EnsTenant) string {
	return "https://" + string(tenant.Spec.Hostname) + apiPath
}

// Labels are those of all objects of a tenant.
func Labels(tenant *v1alpha1.EnsTenant) map[string]string {
	labels := SelectorLabels(tenant)
	labels[LabelManagedBy] = ManagedBy
	labels[LabelTenant] = tenant.Name
	return labels
}

// SelectorLabels choose the tenant's pods. They must never change: a Deployment's selector cannot.
func SelectorLabels(tenant *v1alpha1.EnsTenant) map[string]string {
	return map[string]string{labelName: runtimeName, labelInstance: tenant.Name}
}

// Owns reports whether an object was made for tenant, or for an earlier one of its name that the garbage collector has
// yet to clear up after.
func Owns(tenant *v1alpha1.EnsTenant) func(metav1.Object) bool {
	return func(object metav1.Object) bool {
		owner := metav1.GetControllerOf(object)
		return owner != nil && owner.Kind == tenantKind && owner.Name == tenant.Name &&
			owner.APIVersion == v1alpha1.SchemeGroupVersion.String()
	}
}

// Keeps reports whether an object that has no owner, so that it outlives the tenant, is tenant's.
func Keeps(tenant *v1alpha1.EnsTenant, object metav1.Object) bool {
	labels := object.GetLabels()
	return labels[LabelManagedBy] == ManagedBy && labels[LabelTenant] == tenant.Name
}

const tenantKind = "EnsTenant"

func ownerOf(tenant *v1alpha1.EnsTenant) *applymeta.OwnerReferenceApplyConfiguration {
	return applymeta.OwnerReference().
		WithAPIVersion(v1alpha1.SchemeGroupVersion.String()).WithKind(tenantKind).
		WithName(tenant.Name).WithUID(tenant.UID).
		WithController(true).WithBlockOwnerDeletion(true)
}

// Settings are a tenant's settings in effect: what the spec says, and defaults for the rest. Image is what the operator
// was started with.
func Settings(tenant *v1alpha1.EnsTenant, image string) v1alpha1.EffectiveSettings {
	effective := given(tenant).Effective()
	runtime := orZero(tenant.Spec.Runtime)
	settings := v1alpha1.EffectiveSettings{
		CallbackURL:     effective.Server.CallbackURL,
		EnvironmentType: effective.Server.EnvironmentType,
		MailboxProof:    v1alpha1.MailboxProof(effective.MailboxProof),
		Notifications: &v1alpha1.TenantNotifications{
			PolicyCeiling:          new(effective.Notifications.PolicyCeiling),
			StatusFrequencyMinutes: effective.Notifications.StatusFrequencyMinutes,
			UnchangedBadges:        v1alpha1.UnchangedBadges(effective.Notifications.UnchangedBadges),
		},
		Limits: &v1alpha1.TenantLimits{
			MaxUsers:              effective.Limits.MaxUsers,
			MaxDevicesPerUser:     effective.Limits.MaxDevicesPerUser,
			RequestsPerSecond:     effective.Limits.RequestsPerSecond,
			UserRequestsPerMinute: effective.Limits.UserRequestsPerMinute,
			NewUsersPerMinute:     effective.Limits.NewUsersPerMinute,
		},
		Logging: &v1alpha1.TenantLogging{
			Format: v1alpha1.LogFormat(effective.Logging.Format),
			Level:  v1alpha1.LogLevel(effective.Logging.Level),
		},
		Image:             cmp.Or(runtime.Image, image),
		Replicas:          fixedReplicas(runtime),
		Autoscaling:       autoscaling(tenant),
		Exposure:          tenant.Spec.Exposure.Kind(),
		DrainDelaySeconds: effective.Server.DrainDelaySeconds,
		DeletionPolicy:    cmp.Or(tenant.Spec.DeletionPolicy, v1alpha1.DeletionRetain),
	}
	if token := orZero(tenant.Spec.APIToken); token.SecretName == "" {
		settings.APIToken = &v1alpha1.TenantAPIToken{RotateEveryDays: token.RotateEveryDays, OverlapDays: new(int32(defaultOverlapDays))}
		if token.OverlapDays != nil {
			settings.APIToken.OverlapDays = new(*token.OverlapDays)
		}
	}
	if effective.Server.TLS {
		settings.MinTLSVersion = v1alpha1.TLSVersion(effective.Server.MinTLSVersion)
	}
	return settings
}

// fixedReplicas is how many pods are asked for; nil if an autoscaler chooses.
func fixedReplicas(runtime v1alpha1.TenantRuntime) *int32 {
	switch {
	case runtime.Autoscaling != nil:
		return nil
	case runtime.Replicas != nil:
		return new(*runtime.Replicas)
	}
	return new(int32(defaultReplicas))
}

// AutodiscoverSettings are the settings in effect of what Autodiscover may ask; nil if that is nothing, or if there is no
// endpoint to find.
func AutodiscoverSettings(references References) *v1alpha1.EffectiveAutodiscover {
	if references.Autodiscover == nil || len(references.Endpoints) == 0 {
		return nil
	}
	effective := config.Config{Endpoints: references.Endpoints, Autodiscover: references.Autodiscover}.Effective().Autodiscover
	settings := &v1alpha1.EffectiveAutodiscover{CacheSeconds: effective.CacheSeconds}
	for _, method := range effective.AuthenticationMethods {
		settings.AuthenticationMethods = append(settings.AuthenticationMethods, v1alpha1.AuthenticationMethod(method))
	}
	return settings
}

// TracingSettings are the settings in effect of where traces go; nil if none are made.
func TracingSettings(references References) *v1alpha1.EffectiveTracing {
	effective := config.Config{Tracing: references.Tracing}.Effective().Tracing
	if effective == nil {
		return nil
	}
	return &v1alpha1.EffectiveTracing{Endpoint: effective.URL(), SamplePerMille: effective.SamplePerMille}
}

// given is what the spec says, in the runtime's words, without references.
func given(tenant *v1alpha1.EnsTenant) config.Config {
	spec := tenant.Spec
	notifications, limits, runtime := orZero(spec.Notifications), orZero(spec.Limits), orZero(spec.Runtime)
	logging := orZero(spec.Logging)
	result := config.Config{
		Tenant: config.Tenant{Namespace: tenant.Namespace, Name: tenant.Name},
		Server: config.Server{
			TLS:               spec.TLS.TerminatedElsewhere == nil,
			MinTLSVersion:     config.TLSVersion(spec.TLS.MinTLSVersion),
			CallbackURL:       cmp.Or(string(spec.CallbackURL), URL(tenant)),
			EnvironmentType:   spec.EnvironmentType,
			DrainDelaySeconds: runtime.DrainDelaySeconds,
		},
		MailboxProof: config.MailboxProof(spec.MailboxProof),
		Notifications: config.Notifications{
			PolicyCeiling:          orZero(notifications.PolicyCeiling),
			StatusFrequencyMinutes: notifications.StatusFrequencyMinutes,
			UnchangedBadges:        config.UnchangedBadges(notifications.UnchangedBadges),
		},
		Limits: config.Limits{
			MaxUsers:              limits.MaxUsers,
			MaxDevicesPerUser:     limits.MaxDevicesPerUser,
			RequestsPerSecond:     limits.RequestsPerSecond,
			UserRequestsPerMinute: limits.UserRequestsPerMinute,
			NewUsersPerMinute:     limits.NewUsersPerMinute,
		},
		Logging: config.Logging{Format: config.LogFormat(logging.Format), Level: config.LogLevel(logging.Level)},
	}
	if callback, err := url.Parse(result.Server.CallbackURL); err == nil && callback.Path != "" {
		result.Server.BasePaths = []string{callback.Path}
	}
	return result
}

func orZero[T any](pointer *T) T {
	if pointer == nil {
		var zero T
		return zero
	}
	return *pointer
}

func number(n int32) string { return strconv.Itoa(int(n)) }
