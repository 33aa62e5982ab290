package config_test

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestLoadReadsTheFilesThatVMwareNeedsAndNoOthers(t *testing.T) {
	t.Parallel()
	signing := []string{"signing.pfx", "signing-password"}
	all := []string{"signing.pfx", "signing-password", "client.pfx", "client-password", "proxy-username", "proxy-password"}
	tests := map[string]struct {
		client config.CNSClientCertificate
		proxy  *config.ForwardProxy
		want   []string
	}{
		"all":                   {config.CNSClientOwn, &config.ForwardProxy{URL: "http://10.0.0.1:3128", Authenticate: true}, all},
		"the signature alone":   {"", nil, signing},
		"one for both purposes": {config.CNSClientSigning, nil, signing},
		"an anonymous proxy":    {"", &config.ForwardProxy{URL: "http://10.0.0.1:3128"}, signing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			vmware(func(v *config.CNS) { v.ClientCertificate = test.client })(&c)
			c.PushProviders[1].Proxy = test.proxy
			set := sampleFiles(t).with(config.FileName, render(t, c))
			for _, file := range test.want {
				set = set.with(filepath.Join(config.PushFolder, "google", file), []byte("of "+file))
			}
			loaded, err := config.Load(set.write(t, t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for key, value := range loaded.PushCredentials {
				if file, found := strings.CutPrefix(key, "google/"); found {
					got = append(got, file)
					if value.RevealString() != "of "+file {
						t.Errorf("%s has another's content", file)
					}
				}
			}
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(test.want)); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			missing := maps.Clone(set)
			delete(missing, filepath.Join(config.PushFolder, "google", "signing.pfx"))
			if _, err := config.Load(missing.write(t, t.TempDir())); err == nil || !strings.Contains(err.Error(), "want the certificate that signs") {
				t.Errorf("without the certificate: %v", err)
			}
		})
	}
}

func TestVMwaresServiceIsFoundUnlessAnotherIsNamed(t *testing.T) {
	t.Parallel()
	const other = "https://cns.example.com/nws/notify/other"
	for name, test := range map[string]struct {
		given config.CNS
		want  config.CNS
	}{
		"for iPhones unless set": {
			config.CNS{},
			config.CNS{Platform: config.CNSPlatformIOS, URL: "https://cns.awmdm.com/nws/notify/apns", Environment: config.PushProduction},
		},
		"for Android": {
			config.CNS{Platform: config.CNSPlatformAndroid},
			config.CNS{Platform: config.CNSPlatformAndroid, URL: "https://cns.awmdm.com/nws/notify/apns"},
		},
		"elsewhere": {
			config.CNS{URL: other, Environment: config.PushSandbox},
			config.CNS{Platform: config.CNSPlatformIOS, URL: other, Environment: config.PushSandbox},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config.Config{PushProviders: []config.PushProvider{{Name: "vmware", CNS: &test.given}}}
			if got := *c.Effective().PushProviders[0].CNS; !reflect.DeepEqual(got, test.want) {
				t.Errorf("in effect is %+v, want %+v", got, test.want)
			}
		})
	}
}
