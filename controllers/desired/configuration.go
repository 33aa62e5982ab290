package desired

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// Keys of the Secret with the API token.
const (
	APITokenKey = "token"
	// PreviousTokenKey holds the token before, and PreviousTokenExpiresKey until when it is valid (RFC 3339).
	PreviousTokenKey        = "previous-token"
	PreviousTokenExpiresKey = "previous-token-expires"
)

// Keys of the Secret with the runtime's secrets.
const (
	tokenHashesKey = "api-token-hashes"
	databaseURLKey = "database-url"
)

// Config is the runtime's configuration, with every value in effect written out: what holds does not depend on the
// version of the runtime.
func Config(t Tenant) config.Config {
	result := given(t.Object)
	result.Tenant.ID = t.Schema
	result.Endpoints = t.References.Endpoints
	result.Autodiscover = t.References.Autodiscover
	result.PushProviders = t.References.Providers
	result.Tracing = t.References.Tracing
	result.AllowLoopback = t.AllowLoopback
	if t.DatabaseCAs != "" {
		result.Database = &config.Database{CABundle: t.DatabaseCAs}
	}
	return result.Effective()
}

// RefusedError says that the runtime would refuse a configuration. Pods that run would keep the one they have, and new
// ones would not start.
type RefusedError struct {
	// Err are the faults as config.Config.Validate finds them.
	Err error
}

// Error implements error, in one line.
func (e *RefusedError) Error() string {
	return "the runtime would refuse its configuration: " + strings.ReplaceAll(e.Err.Error(), "\n", "; ")
}

// Unwrap gives the faults.
func (e *RefusedError) Unwrap() error { return e.Err }

// ConfigMap holds the runtime's configuration file. The error is a *RefusedError for one that the runtime would refuse.
func ConfigMap(t Tenant) (*applycore.ConfigMapApplyConfiguration, error) {
	content := Config(t)
	if err := content.Validate(); err != nil {
		return nil, &RefusedError{Err: err}
	}
	file, err := yaml.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("rendering the runtime's configuration: %w", err)
	}
	mounts, err := yaml.Marshal(t.References.Mounts)
	if err != nil {
		return nil, fmt.Errorf("rendering what is mounted: %w", err)
	}
	return applycore.ConfigMap(RuntimeName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithOwnerReferences(ownerOf(t.Object)).
		WithData(map[string]string{config.FileName: string(file), mountsFile: string(mounts)}), nil
}

// What the Secret of the pods tells of the database password, so that one is never made twice for the same reason.
const (
	annotationPasswordRequest    = v1alpha1.GroupName + "/password-request"
	annotationPasswordReplacedAt = v1alpha1.GroupName + "/password-replaced-at"
)

// Origin tells where a password comes from.
type Origin struct {
	// Request is what asked for it, empty if nothing did.
	Request string
	// At is when it took another's place, to the second; zero if it is the first.
	At time.Time
}

// RuntimeSecret holds the runtime's secrets: the hashes of the API tokens and the database URL.
func RuntimeSecret(t Tenant) *applycore.SecretApplyConfiguration {
	tokens := config.APITokens{{SHA256: sha256.Sum256(t.APIToken.Reveal())}}
	if previous := t.PreviousToken; !previous.Expires.IsZero() {
		tokens = append(tokens, config.APIToken{SHA256: sha256.Sum256(previous.Value.Reveal()), Expires: previous.Expires})
	}
	result := applycore.Secret(RuntimeName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithOwnerReferences(ownerOf(t.Object)).
		WithData(map[string][]byte{
			tokenHashesKey: []byte(tokens.String()),
			databaseURLKey: t.DatabaseURL.Reveal(),
		})
	if t.PasswordOrigin.Request != "" {
		result.WithAnnotations(map[string]string{annotationPasswordRequest: t.PasswordOrigin.Request})
	}
	if !t.PasswordOrigin.At.IsZero() {
		result.WithAnnotations(map[string]string{annotationPasswordReplacedAt: t.PasswordOrigin.At.UTC().Format(time.RFC3339)})
	}
	return result
}

// PasswordOrigin reads from RuntimeSecret where its database password comes from.
func PasswordOrigin(secret metav1.Object) Origin {
	annotations := secret.GetAnnotations()
	// One that somebody has spoiled counts as the first, which is closed by the next change.
	at, _ := time.Parse(time.RFC3339, annotations[annotationPasswordReplacedAt])
	return Origin{Request: annotations[annotationPasswordRequest], At: at}
}

// DatabaseURL reads the runtime's database URL out of the data of RuntimeSecret.
func DatabaseURL(data map[string][]byte) []byte { return data[databaseURLKey] }

// TokenHashes reads the hashes of the API tokens out of the data of RuntimeSecret.
func TokenHashes(data map[string][]byte) []byte { return data[tokenHashesKey] }

// consolePolicy is the original's PolicyLimitNotificationText: sender and subject, no preview on a lock screen. Who wants
// the preview shown enters 0 in the console.
const consolePolicy = 1

// BoxerSecret holds what the administrator enters in the UEM console (I-03). EWSUrl is what a phone registers with; with
// several endpoints there is one EWSUrl.<endpoint> for each instead.
func BoxerSecret(t Tenant) *applycore.SecretApplyConfiguration {
	values := map[string][]byte{
		"ENSLinkAddress":              []byte(URL(t.Object)),
		"ENSAPIToken":                 t.APIToken.Reveal(),
		"AccountNotifyPush":           []byte("true"),
		"PolicyLimitNotificationText": []byte(number(max(*t.Settings.Notifications.PolicyCeiling, consolePolicy))),
	}
	for _, endpoint := range t.References.Endpoints {
		key := "EWSUrl"
		if len(t.References.Endpoints) > 1 {
			key += "." + endpoint.Name
		}
		values[key] = []byte(endpoint.URL)
	}
	return applycore.Secret(BoxerName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithOwnerReferences(ownerOf(t.Object)).
		WithData(values)
}

// tlsMounts are the files of the tenant's certificate.
func tlsMounts(tenant *v1alpha1.EnsTenant) []Mount {
	secretName := TLSSecretName(tenant)
	if secretName == "" {
		return nil
	}
	return []Mount{
		{Path: config.TLSCertificateFile, Secret: secretName, Key: TLSCertificateKey},
		{Path: config.TLSKeyFile, Secret: secretName, Key: TLSPrivateKeyKey},
	}
}

// Keys of a Secret of type kubernetes.io/tls.
const (
	TLSCertificateKey = "tls.crt"
	TLSPrivateKeyKey  = "tls.key"
)
