package desired_test

import (
	"bytes"
	"errors"
	"flag"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

var update = flag.Bool("update", false, "write the golden files anew")

func endpoint(name string) *api.EwsEndpoint {
	return &api.EwsEndpoint{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: api.EwsEndpointSpec{
			URL: api.HTTPSURL("https://" + name + ".example.com/EWS/Exchange.asmx"),
			Pinning: api.EndpointPinning{Pinned: &api.PinnedCertificates{
				SHA256: []api.Fingerprint{api.Fingerprint(strings.TrimSuffix(strings.Repeat("0A:", 32), ":"))},
			}},
		},
	}
}

// gateway is an endpoint with all that can be said of one.
func gateway() *api.EwsEndpoint {
	gateway := endpoint("gateway")
	gateway.Spec.Pinning = api.EndpointPinning{CertificateAuthority: authorities("gateway.crt")}
	gateway.Spec.AuthenticationMethods = []api.AuthenticationMethod{api.AuthenticationBasic, api.AuthenticationOAuth, api.AuthenticationClientCertificate}
	gateway.Spec.SecureEmailGateway = &api.SecureEmailGateway{DevicesHeader: "X-Devices"}
	gateway.Spec.MinTLSVersion = api.TLS13
	gateway.Spec.ServerVersion = api.Exchange2010SP2
	gateway.Spec.UserAgent = "ens/1 (mail)"
	return gateway
}

func authorities(key api.DataKey) *api.CertificateBundle {
	return &api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "authorities", Key: key}}
}

// discovery is all that can be said of Autodiscover.
func discovery() *api.TenantAutodiscover {
	return &api.TenantAutodiscover{
		Domains:               []api.Domain{"example.com", "example.org"},
		AuthenticationMethods: []api.AuthenticationMethod{api.AuthenticationOAuth},
		CABundle:              &api.CertificateBundle{Secret: &api.SecretKeyReference{Name: "discovery", Key: "authorities.crt"}},
		CacheSeconds:          600,
	}
}

func apple() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "apple"},
		Spec: api.PushProviderSpec{APNs: &api.APNsProvider{
			TeamID: "TEAM000000", KeyID: "KEY0000000", Topics: []api.AppID{"com.example.mail"}, Environment: api.APNsSandbox,
			KeySecretRef: &api.SecretKeyReference{Name: "apns-key", Key: "key.p8"},
		}},
	}
}

func google() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "google"},
		Spec: api.PushProviderSpec{
			FCM:      &api.FCMProvider{ProjectID: "example-mail", ServiceAccountSecretRef: api.SecretKeyReference{Name: "fcm", Key: "sa.json"}},
			CABundle: authorities("ca.crt"),
			Limits:   &api.PushLimits{TimeoutSeconds: 10},
		},
	}
}

func minimal() *api.EnsTenant {
	return &api.EnsTenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "mail", Name: "acme", UID: "11111111-2222-3333-4444-555555555555"},
		Spec: api.EnsTenantSpec{
			Hostname: "ens.example.com", Endpoints: []api.ResourceName{"exchange"}, PushProviders: []api.ResourceName{"apple"},
			TLS: api.TenantTLS{SecretName: "acme-certificate"},
		},
	}
}

func full() *api.EnsTenant {
	tenant := minimal()
	tenant.Spec.Hostnames = []api.Hostname{"ens.internal", "ens.example.com"}
	tenant.Spec.CallbackURL = "https://ens.internal:8443/hooks/ens"
	tenant.Spec.EnvironmentType = "Test"
	tenant.Spec.MailboxProof = api.MailboxProofFirstUse
	tenant.Spec.Notifications = &api.TenantNotifications{PolicyCeiling: new(int32(2)), StatusFrequencyMinutes: 30, UnchangedBadges: api.UnchangedBadgesSend}
	tenant.Spec.Limits = &api.TenantLimits{MaxUsers: 10}
	tenant.Spec.Logging = &api.TenantLogging{Format: api.LogENS2, Level: api.LogDebug}
	tenant.Spec.TLS = api.TenantTLS{
		CertManager:   &api.CertManagerTLS{IssuerRef: api.IssuerReference{Name: "company", Kind: "ClusterIssuer"}},
		MinTLSVersion: api.TLS13,
	}
	tenant.Spec.Autodiscover = discovery()
	tenant.Spec.Tracing = &api.TenantTracing{
		Endpoint: "https://collector.example.com:4318", SamplePerMille: 50,
		CABundle: &api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "authorities", Key: "collector.crt"}},
	}
	tenant.Spec.DeletionPolicy = api.DeletionDelete
	tenant.Spec.Runtime = &api.TenantRuntime{
		Image: "registry.example.com/other:1", Replicas: new(int32(5)), DrainDelaySeconds: new(int32(0)),
		PodTemplate: &api.PodTemplate{
			Labels:            map[string]string{"team": "mail", "app.kubernetes.io/instance": "not this"},
			Annotations:       map[string]string{"note": "x"},
			NodeSelector:      map[string]string{"zone": "a"},
			Tolerations:       []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
			Resources:         &api.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
			PriorityClassName: "high", ImagePullSecrets: []api.ResourceName{"pull"},
		},
	}
	return tenant
}

func build(t *testing.T, object *api.EnsTenant, endpoints ...string) desired.Tenant {
	t.Helper()
	tenant := desired.Tenant{
		Object: object, Settings: desired.Settings(object, "registry.example.com/ens-runtime:1"), Schema: "ens_mail_acme_0123456789",
		APIToken:    secret.FromString("TOKENTOKENTOKENTOKENTOKENTOKENTOKENTOKEN"),
		DatabaseURL: secret.FromString("postgres://role:password@db:5432/ens?sslmode=verify-full"),
		KeyFiles:    []string{"webhook-1", "kek-2", "kek-1", "note"},
	}
	for _, name := range endpoints {
		if err := tenant.References.AddEndpoint(endpoint(name)); err != nil {
			t.Fatal(err)
		}
	}
	tenant.References.AddAutodiscover(object.Spec.Autodiscover)
	tenant.References.AddTracing(object.Spec.Tracing)
	add(t, &tenant.References, google())
	add(t, &tenant.References, apple())
	tenant.References.Sort()
	return tenant
}

// The golden files are what an upgrade of the operator must not change unawares: a change in a pod's template restarts
// every tenant of every cluster.
func TestObjectsAreAsBefore(t *testing.T) {
	t.Parallel()
	elsewhere := minimal()
	elsewhere.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	behindGateway := build(t, minimal())
	if err := behindGateway.References.AddEndpoint(gateway()); err != nil {
		t.Fatal(err)
	}
	behindGateway.References.Sort()
	throughAmazon := build(t, minimal(), "exchange")
	add(t, &throughAmazon.References, amazon("GCM", "arn:aws:iam::123456789012:role/ens"))
	add(t, &throughAmazon.References, amazon("APNS", ""))
	throughAmazon.References.Sort()
	throughVMware := build(t, minimal(), "exchange")
	add(t, &throughVMware.References, vmware())
	add(t, &throughVMware.References, vmwareForAndroid())
	throughVMware.References.Sort()
	withCertificate := build(t, minimal(), "exchange")
	add(t, &withCertificate.References, certified())
	withCertificate.References.Sort()
	for name, tenant := range map[string]desired.Tenant{
		"minimal":   build(t, minimal(), "exchange"),
		"full":      build(t, full(), "exchange", "another"),
		"elsewhere": build(t, elsewhere, "exchange"),
		"gateway":   behindGateway,
		"amazon":    throughAmazon,
		"vmware":    throughVMware,
		"certified": withCertificate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compare(t, filepath.Join("testdata", name+".yaml"), render(t, tenant))
		})
	}
}

// The order in which things are found must not matter, or pods would restart for nothing.
func TestOrderOfReferencesDoesNotMatter(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(render(t, build(t, minimal(), "a", "b", "c")), render(t, build(t, minimal(), "c", "a", "b"))) {
		t.Error("another order gives other objects")
	}
}

func TestWhatWasRenderedIsFoundAgain(t *testing.T) {
	t.Parallel()
	tenant := build(t, full(), "a", "b")
	add(t, &tenant.References, amazon("GCM", "arn:aws:iam::123456789012:role/ens"))
	tenant.References.Sort()
	configMap, err := desired.ConfigMap(tenant)
	if err != nil {
		t.Fatal(err)
	}
	last, err := desired.LastRendered(configMap.Data)
	if err != nil {
		t.Fatal(err)
	}
	carried := desired.References{}
	carried.CarryEndpoints(last)
	carried.CarryProviders(last)
	carried.CarryAutodiscover(last)
	carried.CarryTracing(last)
	carried.Sort()
	if !reflect.DeepEqual(carried.Mounts, tenant.References.Mounts) {
		t.Errorf("mounts are %+v, want %+v", carried.Mounts, tenant.References.Mounts)
	}
	again := tenant
	again.References = carried
	if !bytes.Equal(render(t, again), render(t, tenant)) {
		t.Error("rendering what was carried over gives other objects")
	}

	// What is there anew goes before what was.
	fresh := desired.References{}
	changed := endpoint("a")
	changed.Spec.URL = "https://a.example.com/new"
	if err := fresh.AddEndpoint(changed); err != nil {
		t.Fatal(err)
	}
	fresh.CarryEndpoints(last)
	fresh.AddAutodiscover(&api.TenantAutodiscover{Domains: []api.Domain{"example.net"}})
	fresh.CarryAutodiscover(last)
	if fresh.Autodiscover.Domains[0] != "example.net" || fresh.Autodiscover.CABundle || len(fresh.Mounts) != 0 {
		t.Errorf("Autodiscover is %+v, mounts are %+v", fresh.Autodiscover, fresh.Mounts)
	}
	if len(fresh.Endpoints) != 2 || fresh.Endpoints[0].URL != "https://a.example.com/new" || fresh.Endpoints[1].Name != "b" {
		t.Errorf("endpoints are %+v", fresh.Endpoints)
	}
	for _, spoilt := range []map[string]string{{config.FileName: "a: [", "mounts.yaml": ""}, {config.FileName: "", "mounts.yaml": "x"}} {
		if _, err := desired.LastRendered(spoilt); err == nil {
			t.Errorf("%v was read", spoilt)
		}
	}
}

func TestEndpointsWithOneAddressAreWithdrawn(t *testing.T) {
	t.Parallel()
	at := func(name string, url api.HTTPSURL) *api.EwsEndpoint {
		changed := endpoint(name)
		changed.Spec.URL = url
		changed.Spec.Pinning = api.EndpointPinning{CertificateAuthority: authorities(api.DataKey(name))}
		return changed
	}
	references := desired.References{}
	for _, e := range []*api.EwsEndpoint{
		at("c", "https://MAIL.example.com:443/ews/exchange.asmx"), at("b", "https://mail.example.com/EWS"),
		at("a", "https://mail.example.com/EWS/Exchange.asmx"),
	} {
		if err := references.AddEndpoint(e); err != nil {
			t.Fatal(err)
		}
	}
	if got := references.WithdrawClashes(); !reflect.DeepEqual(got, [][]string{{"a", "c"}}) {
		t.Errorf("clashes are %v", got)
	}
	if len(references.Endpoints) != 1 || references.Endpoints[0].Name != "b" || len(references.Mounts) != 1 || references.Mounts[0].Key != "b" {
		t.Errorf("what is left is %+v", references)
	}
	if got := references.WithdrawClashes(); len(got) != 0 {
		t.Errorf("clashes are again %v", got)
	}

	// What was rendered last is not carried over to an address that is taken by now.
	last := desired.References{}
	for _, e := range []*api.EwsEndpoint{at("old", "https://mail.example.com/EWS"), at("other", "https://other.example.com/EWS")} {
		if err := last.AddEndpoint(e); err != nil {
			t.Fatal(err)
		}
	}
	references.CarryEndpoints(last)
	references.Sort()
	if len(references.Endpoints) != 2 || references.Endpoints[0].Name != "b" || references.Endpoints[1].Name != "other" || len(references.Mounts) != 2 {
		t.Errorf("with what is carried over there is %+v", references)
	}
}

// Each of these is refused by the API server, too; what it let in before, or would let in by mistake, must not get to
// the pods.
func TestWhatTheRuntimeRefusesIsNotRendered(t *testing.T) {
	t.Parallel()
	appleWith := func(change func(*config.PushProvider)) func(*desired.Tenant) {
		return func(t *desired.Tenant) { change(&t.References.Providers[0]) }
	}
	googleWith := func(change func(*config.FCM)) func(*desired.Tenant) {
		return func(t *desired.Tenant) { change(t.References.Providers[1].FCM) }
	}
	exchangeWith := func(change func(*config.Endpoint)) func(*desired.Tenant) {
		return func(t *desired.Tenant) { change(&t.References.Endpoints[0]) }
	}
	for name, c := range map[string]struct {
		spoil func(*desired.Tenant)
		// field is what the error must name; empty is no error.
		field string
	}{
		"nothing is wrong":              {func(*desired.Tenant) {}, ""},
		"an endpoint's name with a dot": {exchangeWith(func(e *config.Endpoint) { e.Name = "a.b" }), "endpoints[0].name"},
		"an endpoint's long timeout":    {exchangeWith(func(e *config.Endpoint) { e.TimeoutSeconds = 300 }), "endpoints[exchange].timeoutSeconds"},
		"an endpoint without a path":    {exchangeWith(func(e *config.Endpoint) { e.URL = "https://mail.example.com" }), "endpoints[exchange].url"},
		"one address twice": {func(t *desired.Tenant) {
			twin := t.References.Endpoints[0]
			twin.Name = "twin"
			t.References.Endpoints = append(t.References.Endpoints, twin)
		}, "endpoints[twin].url"},
		"a provider's name that is too long": {appleWith(func(p *config.PushProvider) { p.Name = strings.Repeat("a", 64) }), "pushProviders[0].name"},
		"a provider's long timeout":          {appleWith(func(p *config.PushProvider) { p.TimeoutSeconds = 61 }), "pushProviders[apple].timeoutSeconds"},
		"a relay of APNs with a path":        {appleWith(func(p *config.PushProvider) { p.APNs.URL = "https://relay.example.com/x" }), "pushProviders[apple].apns.url"},
		"a topic that begins with _":         {appleWith(func(p *config.PushProvider) { p.APNs.Topics[0] = "_x" }), "pushProviders[apple].apns.topics[0]"},
		"a relay of FCM with a path":         {googleWith(func(f *config.FCM) { f.URL = "https://relay.example.com/x" }), "pushProviders[google].fcm.url"},
		"a token address over http":          {googleWith(func(f *config.FCM) { f.TokenURL = "http://relay.example.com/x" }), "pushProviders[google].fcm.tokenURL"},
		"a callback that goes up":            {func(t *desired.Tenant) { t.Object.Spec.CallbackURL = "https://ens.internal/a/../b" }, "server.callbackURL"},
		"NTLM through a gateway": {exchangeWith(func(e *config.Endpoint) {
			e.SecureEmailGateway, e.AuthenticationMethods = &config.SecureEmailGateway{}, []config.AuthenticationMethod{config.AuthNTLM}
		}), "endpoints[exchange].authenticationMethods"},
		"an unknown version of TLS": {exchangeWith(func(e *config.Endpoint) { e.MinTLSVersion = "1.2" }), "endpoints[exchange].minTLSVersion"},
		"a domain of one label": {func(t *desired.Tenant) {
			t.References.Autodiscover = &config.Autodiscover{Domains: []string{"localhost"}}
		}, "autodiscover.domains[0]"},
		"two faults": {func(t *desired.Tenant) {
			t.References.Endpoints[0].TimeoutSeconds, t.Object.Spec.EnvironmentType = 300, "ä"
		}, "server.environmentType: want at most 256 printable ASCII characters; endpoints[exchange].timeoutSeconds"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := build(t, minimal(), "exchange")
			c.spoil(&tenant)
			_, err := desired.ConfigMap(tenant)
			if c.field == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			refused, ok := errors.AsType[*desired.RefusedError](err)
			if !ok || !strings.Contains(refused.Error(), c.field) || strings.Contains(refused.Error(), "\n") {
				t.Errorf("got %v, want a refusal in one line that names %s", err, c.field)
			}
		})
	}
}

func TestUnchangedCountsAreSuppressedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for want, tenant := range map[api.UnchangedBadges]*api.EnsTenant{
		api.UnchangedBadgesSuppress: minimal(), api.UnchangedBadgesSend: full(),
	} {
		if got := desired.Settings(tenant, "image:1").Notifications.UnchangedBadges; got != want {
			t.Errorf("in effect is %q, want %q", got, want)
		}
	}
}

func TestSettingsInEffect(t *testing.T) {
	t.Parallel()
	settings := desired.Settings(minimal(), "image:1")
	if settings.CallbackURL != "https://ens.example.com/MailNotificationService/api/ens" || settings.EnvironmentType != "OnPrem" ||
		settings.MailboxProof != api.MailboxProofRequired || *settings.Notifications.PolicyCeiling != 0 || settings.Notifications.StatusFrequencyMinutes != 15 ||
		settings.Limits.MaxUsers != 100_000 || settings.Image != "image:1" || *settings.Replicas != 2 || *settings.DrainDelaySeconds != 10 ||
		settings.DeletionPolicy != api.DeletionRetain || settings.MinTLSVersion != api.TLS12 {
		t.Errorf("by default %+v", settings)
	}
	settings = desired.Settings(full(), "image:1")
	if settings.CallbackURL != "https://ens.internal:8443/hooks/ens" || settings.Image != "registry.example.com/other:1" || *settings.Replicas != 5 ||
		*settings.DrainDelaySeconds != 0 || settings.Limits.MaxUsers != 10 || settings.DeletionPolicy != api.DeletionDelete || settings.MinTLSVersion != api.TLS13 {
		t.Errorf("as asked for %+v", settings)
	}
	// The documentation of the API tells the defaults in words.
	if got := desired.GracePeriod(settings); got <= 0 {
		t.Errorf("a pod has %v to end", got)
	}
}

func TestLoggingInEffect(t *testing.T) {
	t.Parallel()
	if got, want := *desired.Settings(minimal(), "image:1").Logging, (api.TenantLogging{Format: api.LogJSON, Level: api.LogInfo}); got != want {
		t.Errorf("by default %+v, want %+v", got, want)
	}
	if got, want := *desired.Settings(full(), "image:1").Logging, *full().Spec.Logging; got != want {
		t.Errorf("as asked for %+v, want %+v", got, want)
	}
}

func TestTracingInEffect(t *testing.T) {
	t.Parallel()
	if got := desired.TracingSettings(build(t, minimal(), "exchange").References); got != nil {
		t.Errorf("although none are asked for there are traces: %+v", got)
	}
	given := build(t, full(), "exchange").References
	want := api.EffectiveTracing{Endpoint: "https://collector.example.com:4318/v1/traces", SamplePerMille: 50}
	if got := desired.TracingSettings(given); got == nil || *got != want {
		t.Errorf("as asked for %+v, want %+v", got, want)
	}
	var carried desired.References
	carried.CarryTracing(given)
	if carried.Tracing == nil || len(carried.Mounts) != 1 || carried.Mounts[0].Path != "tracing/ca.crt" {
		t.Errorf("what was rendered last is carried as %+v", carried)
	}
	tenant := build(t, minimal(), "exchange")
	tenant.References.AddTracing(&api.TenantTracing{Endpoint: "http://collector.monitoring:4318/otlp/v1/traces"})
	want = api.EffectiveTracing{Endpoint: "http://collector.monitoring:4318/otlp/v1/traces", SamplePerMille: 10}
	if got := desired.TracingSettings(tenant.References); got == nil || *got != want {
		t.Errorf("by default %+v, want %+v", got, want)
	}
}

func TestAutodiscoverInEffect(t *testing.T) {
	t.Parallel()
	off := build(t, minimal(), "exchange")
	if got := desired.AutodiscoverSettings(off.References); got != nil {
		t.Errorf("although nothing may be asked there is %+v", got)
	}
	given := build(t, full(), "exchange")
	want := &api.EffectiveAutodiscover{AuthenticationMethods: []api.AuthenticationMethod{api.AuthenticationOAuth}, CacheSeconds: 600}
	if got := desired.AutodiscoverSettings(given.References); !reflect.DeepEqual(got, want) {
		t.Errorf("as asked for %+v, want %+v", got, want)
	}

	// Unless it is set, what all endpoints allow: here Basic, which is in effect for the one that says nothing.
	tenant := build(t, minimal(), "exchange")
	if err := tenant.References.AddEndpoint(gateway()); err != nil {
		t.Fatal(err)
	}
	tenant.References.AddAutodiscover(&api.TenantAutodiscover{Domains: []api.Domain{"example.com"}})
	want = &api.EffectiveAutodiscover{AuthenticationMethods: []api.AuthenticationMethod{api.AuthenticationBasic}, CacheSeconds: 3_600}
	if got := desired.AutodiscoverSettings(tenant.References); !reflect.DeepEqual(got, want) {
		t.Errorf("by default %+v, want %+v", got, want)
	}
	tenant.References.Endpoints = nil
	if got := desired.AutodiscoverSettings(tenant.References); got != nil {
		t.Errorf("without endpoints there is %+v", got)
	}
}
