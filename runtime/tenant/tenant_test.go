package tenant_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// load makes a tenant of these endpoints, by name, and providers.
func load(t *testing.T, endpoints map[string]string, providers ...config.PushProvider) (*tenant.Tenant, error) {
	t.Helper()
	keys, err := config.ParseKeys(config.NewKeyFiles())
	if err != nil {
		t.Fatal(err)
	}
	loaded := &config.Loaded{Keys: keys, PushCredentials: map[string]secret.Value{}, Hash: "hash"}
	loaded.Config.Tenant.ID = "ens_test"
	for name, url := range endpoints {
		loaded.Config.Endpoints = append(loaded.Config.Endpoints, config.Endpoint{
			Name: name, URL: url, Pinning: config.Pinning{SHA256: []string{strings.Repeat("0f", 32)}},
			AuthenticationMethods: []config.AuthenticationMethod{config.AuthBasic},
		})
	}
	for _, provider := range providers {
		for file, content := range credentialsOf(provider) {
			loaded.PushCredentials[config.PushCredential(provider.Name, file)] = secret.New(content)
		}
	}
	loaded.Config.PushProviders = providers
	loaded.Config = loaded.Config.Effective()
	made, err := tenant.New(loaded, tenant.Options{Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Cleanup(func() {
			if err := made.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return made, err
}

// credentialsOf are the files of a provider.
func credentialsOf(p config.PushProvider) map[string][]byte {
	switch {
	case p.APNs != nil:
		return map[string][]byte{config.APNsKeyFile: apnstest.NewKey().P8}
	case p.FCM != nil:
		return map[string][]byte{config.FCMServiceAccountFile: fcmtest.NewServiceAccountJSON(p.FCM.ProjectID)}
	case p.CNS != nil:
		return map[string][]byte{
			config.CNSSigningFile:         cnstest.NewAuthority().PFX("CN", "s3cret", time.Now().Add(time.Hour)),
			config.CNSSigningPasswordFile: []byte("s3cret"),
		}
	default:
		key := snstest.NewAccessKey()
		return map[string][]byte{config.SNSAccessKeyIDFile: []byte(key.ID), config.SNSSecretAccessKeyFile: []byte(key.Secret)}
	}
}

func mustLoad(t *testing.T, endpoints map[string]string, providers ...config.PushProvider) *tenant.Tenant {
	t.Helper()
	made, err := load(t, endpoints, providers...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func apple(name string, environment config.PushEnvironment, topics ...string) config.PushProvider {
	key := apnstest.NewKey()
	return config.PushProvider{Name: name, APNs: &config.APNs{
		TeamID: key.TeamID, KeyID: key.KeyID, Topics: topics, Environment: environment,
	}}
}

func google(name string, appIDs ...string) config.PushProvider {
	return config.PushProvider{Name: name, FCM: &config.FCM{ProjectID: "project-" + name, AppIDs: appIDs}}
}

func amazon(name, platform string, appIDs ...string) config.PushProvider {
	return config.PushProvider{Name: name, SNS: &config.SNS{
		ApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/" + platform + "/" + name, AppIDs: appIDs,
	}}
}

func vmware(name string, c config.CNS) config.PushProvider {
	return config.PushProvider{Name: name, CNS: &c}
}

func TestEndpointAtComparesAddresses(t *testing.T) {
	t.Parallel()
	made := mustLoad(t, map[string]string{
		"main":  "https://Mail.example.com/EWS/Exchange.asmx",
		"other": "https://mail.example.com:8443/EWS/Exchange.asmx",
		"ipv6":  "https://[2001:db8::1]/EWS/Exchange.asmx",
	})
	for name, test := range map[string]struct{ address, want string }{
		"as configured":             {"https://Mail.example.com/EWS/Exchange.asmx", "main"},
		"the scheme in capitals":    {"HTTPS://mail.example.com/EWS/Exchange.asmx", "main"},
		"the host in capitals":      {"https://MAIL.EXAMPLE.COM/EWS/Exchange.asmx", "main"},
		"the path in small letters": {"https://mail.example.com/ews/exchange.asmx", "main"},
		"the default port":          {"https://mail.example.com:443/EWS/Exchange.asmx", "main"},
		"an empty port":             {"https://mail.example.com:/EWS/Exchange.asmx", "main"},
		"a trailing slash":          {"https://mail.example.com/EWS/Exchange.asmx/", "main"},
		"another endpoint's port":   {"https://mail.example.com:8443/EWS/Exchange.asmx", "other"},
		"an IPv6 address":           {"https://[2001:DB8::1]:443/EWS/Exchange.asmx", "ipv6"},
		"another port":              {"https://mail.example.com:444/EWS/Exchange.asmx", ""},
		"another scheme":            {"http://mail.example.com/EWS/Exchange.asmx", ""},
		"http to the port of https": {"http://mail.example.com:443/EWS/Exchange.asmx", ""},
		"another host":              {"https://mail.example.com.evil.test/EWS/Exchange.asmx", ""},
		"another path":              {"https://mail.example.com/EWS/Services.wsdl", ""},
		"a path above":              {"https://mail.example.com/EWS/x/../Exchange.asmx", ""},
		"a double slash":            {"https://mail.example.com//EWS/Exchange.asmx", ""},
		"no path":                   {"https://mail.example.com", ""},
		"a user":                    {"https://mail.example.com@evil.test/EWS/Exchange.asmx", ""},
		"a user at the right host":  {"https://user@mail.example.com/EWS/Exchange.asmx", ""},
		"a query":                   {"https://mail.example.com/EWS/Exchange.asmx?x=1", ""},
		"a fragment":                {"https://mail.example.com/EWS/Exchange.asmx#x", ""},
		"no scheme":                 {"mail.example.com/EWS/Exchange.asmx", ""},
		"no host":                   {"https:///EWS/Exchange.asmx", ""},
		"a NUL":                     {"https://mail.example.com/EWS/Exchange.asmx\x00", ""},
		"a line end":                {"https://mail.example.com/EWS/Exchange.asmx\r\n", ""},
		"nothing":                   {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if endpoint := made.EndpointAt(test.address); endpoint != nil {
				got = endpoint.Name
				if endpoint != made.Endpoint(got) || endpoint.Client == nil {
					t.Errorf("got an endpoint that is not the tenant's own")
				}
			}
			if got != test.want {
				t.Errorf("%q is endpoint %q, want %q", test.address, got, test.want)
			}
		})
	}
}

func TestOnlyEndpointIsThereIfItIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	const a, b = "https://a.example.com/EWS/Exchange.asmx", "https://b.example.com/EWS/Exchange.asmx"
	if got := mustLoad(t, nil).OnlyEndpoint(); got != nil {
		t.Errorf("of none: got %s", got.Name)
	}
	if got := mustLoad(t, map[string]string{"a": a}).OnlyEndpoint(); got == nil || got.Name != "a" {
		t.Errorf("of one: got %v", got)
	}
	if got := mustLoad(t, map[string]string{"a": a, "b": b}).OnlyEndpoint(); got != nil {
		t.Errorf("of two: got %s", got.Name)
	}
	if got := mustLoad(t, map[string]string{"a": a}).Endpoint("b"); got != nil {
		t.Errorf("an unknown name: got %s", got.Name)
	}
}

func TestProviderForFindsTheOneThatServesTheDevice(t *testing.T) {
	t.Parallel()
	const boxer, tunnel = "com.example.boxer", "com.example.tunnel"
	const production, sandbox = config.PushProduction, config.PushSandbox
	for name, test := range map[string]struct {
		providers   []config.PushProvider
		platform    push.Platform
		appID       string
		environment config.PushEnvironment
		// want is the provider's name, field the one that is complained of.
		want, field string
	}{
		"no provider at all":           {nil, push.IOS, "", "", "", "platform"},
		"the only one, nothing said":   {[]config.PushProvider{apple("a", production, boxer)}, push.IOS, "", "", "a", ""},
		"the only one, all said":       {[]config.PushProvider{apple("a", production, boxer)}, push.IOS, boxer, production, "a", ""},
		"no provider for iOS":          {[]config.PushProvider{google("g")}, push.IOS, boxer, "", "", "platform"},
		"no provider for Android":      {[]config.PushProvider{apple("a", production, boxer)}, push.Android, boxer, "", "", "platform"},
		"a platform that there is not": {[]config.PushProvider{google("g"), apple("a", production, boxer)}, "Windows", "", "", "", "platform"},
		"another app":                  {[]config.PushProvider{apple("a", production, boxer)}, push.IOS, tunnel, "", "", "appId"},
		"another app in capitals":      {[]config.PushProvider{apple("a", production, boxer)}, push.IOS, strings.ToUpper(boxer), "", "", "appId"},
		"another app on Android":       {[]config.PushProvider{google("g", boxer)}, push.Android, tunnel, "", "", "appId"},
		"any app on Android":           {[]config.PushProvider{google("g")}, push.Android, tunnel, "", "g", ""},
		"another environment":          {[]config.PushProvider{apple("a", production, boxer)}, push.IOS, boxer, sandbox, "", "pushEnvironment"},
		"an environment says nothing to Android": {
			[]config.PushProvider{google("g")}, push.Android, boxer, sandbox, "g", "",
		},
		"one of each platform": {
			[]config.PushProvider{apple("a", production, boxer), google("g", boxer)}, push.Android, boxer, "", "g", "",
		},
		"told apart by the app": {
			[]config.PushProvider{apple("a", production, boxer), apple("b", production, tunnel)}, push.IOS, tunnel, "", "b", "",
		},
		"told apart by the app, which is not said": {
			[]config.PushProvider{apple("a", production, boxer), apple("b", production, tunnel)}, push.IOS, "", "", "", "appId",
		},
		"told apart by the environment": {
			[]config.PushProvider{apple("a", production, boxer), apple("b", sandbox, boxer)}, push.IOS, boxer, sandbox, "b", "",
		},
		"told apart by the environment, which is not said": {
			[]config.PushProvider{apple("a", production, boxer), apple("b", sandbox, boxer)}, push.IOS, boxer, "", "", "pushEnvironment",
		},
		"told apart by the environment alone, nothing said": {
			[]config.PushProvider{apple("a", production, boxer), apple("b", sandbox, boxer)}, push.IOS, "", "", "", "pushEnvironment",
		},
		"one provider of several apps, none said: APNs needs one": {
			[]config.PushProvider{apple("a", production, boxer, tunnel)}, push.IOS, "", "", "", "appId",
		},
		"one provider of several apps": {
			[]config.PushProvider{apple("a", production, boxer, tunnel)}, push.IOS, tunnel, "", "a", "",
		},
		"one provider of several apps on Android, none said": {
			[]config.PushProvider{google("g", boxer, tunnel)}, push.Android, "", "", "g", "",
		},
		"Amazon for an iPhone":           {[]config.PushProvider{amazon("s", "APNS"), amazon("g", "GCM")}, push.IOS, boxer, production, "s", ""},
		"Amazon for an Android phone":    {[]config.PushProvider{amazon("s", "APNS"), amazon("g", "GCM")}, push.Android, boxer, "", "g", ""},
		"Amazon for another app":         {[]config.PushProvider{amazon("s", "APNS", boxer)}, push.IOS, tunnel, "", "", "appId"},
		"Amazon for another environment": {[]config.PushProvider{amazon("s", "APNS_SANDBOX")}, push.IOS, boxer, production, "", "pushEnvironment"},
		"Amazon and Apple told apart by the environment": {
			[]config.PushProvider{apple("a", production, boxer), amazon("s", "APNS_SANDBOX")}, push.IOS, boxer, sandbox, "s", "",
		},
		"Amazon and Apple, nothing said": {
			[]config.PushProvider{apple("a", production, boxer), amazon("s", "APNS_SANDBOX")}, push.IOS, "", "", "", "appId",
		},
		"VMware for an iPhone": {
			[]config.PushProvider{vmware("v", config.CNS{}), vmware("w", config.CNS{Platform: config.CNSPlatformAndroid})}, push.IOS, boxer, production, "v", "",
		},
		"VMware for an Android phone": {
			[]config.PushProvider{vmware("v", config.CNS{}), vmware("w", config.CNS{Platform: config.CNSPlatformAndroid})}, push.Android, boxer, "", "w", "",
		},
		"VMware for another environment": {[]config.PushProvider{vmware("v", config.CNS{})}, push.IOS, boxer, sandbox, "", "pushEnvironment"},
		"VMware for another app":         {[]config.PushProvider{vmware("v", config.CNS{AppIDs: []string{boxer}})}, push.IOS, tunnel, "", "", "appId"},
		"two that serve the same app on Android": {
			[]config.PushProvider{google("g", boxer), google("h")}, push.Android, boxer, "", "", "appId",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := mustLoad(t, nil, test.providers...)
			got, err := made.ProviderFor(test.platform, test.appID, test.environment)
			if test.field != "" {
				refusal, ok := errors.AsType[*tenant.SelectionError](err)
				if !ok || refusal.Field != test.field || got != nil {
					t.Errorf("got %v, error %v, want one about %s", got, err, test.field)
				}
				return
			}
			if err != nil || got.PushProvider.Name != test.want || got != made.Provider(test.want) {
				t.Errorf("got %+v, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestNewRefusesWhatCannotWorkAndNamesIt(t *testing.T) {
	t.Parallel()
	broken := apple("phones", config.PushProduction, "com.example.boxer")
	broken.APNs.TeamID = "?"
	if _, err := load(t, map[string]string{"a": "https://a.example.com/EWS/Exchange.asmx"}, google("g"), broken); err == nil ||
		!strings.Contains(err.Error(), "phones") {
		t.Errorf("a provider that cannot work: got error %v", err)
	}
	if _, err := load(t, map[string]string{"mail": "not a URL"}); err == nil || !strings.Contains(err.Error(), "mail") {
		t.Errorf("an endpoint that cannot work: got error %v", err)
	}
}

func TestKEKChecksAreThoseOfAllKeys(t *testing.T) {
	t.Parallel()
	made := mustLoad(t, nil)
	checks := made.KEKChecks()
	if len(checks) != 1 || checks[1] != config.CheckValue(made.Keys.KEKs[1]) || made.Hash != "hash" {
		t.Errorf("got %v", checks)
	}
}
