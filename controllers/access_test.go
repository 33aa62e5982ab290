package controllers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// authoritiesUntil is a ConfigMap with a bundle of certificate authorities that ends at a time.
func authoritiesUntil(t *testing.T, notAfter time.Time) *corev1.ConfigMap {
	t.Helper()
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "authorities"},
		Data:       map[string]string{"ca.crt": string(issue(t, notAfter, "company")["tls.crt"])},
	}
}

// discovering changes the tenant of the samples so that Autodiscover may ask at example.com, verified by a bundle.
func discovering(bundle map[string]any) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"domains": []any{"example.com"}, "caBundle": bundle}, "spec", "autodiscover")
		}
	}
}

func inConfigMap(key string) map[string]any {
	return map[string]any{"configMap": map[string]any{"name": "authorities", "key": key}}
}

func inSecret(key string) map[string]any {
	return map[string]any{"secret": map[string]any{"name": "authorities", "key": key}}
}

// configuration is what the runtime would read now.
func (s *stage) configuration() config.Config {
	s.t.Helper()
	var file config.Config
	if err := yaml.Unmarshal([]byte(fetch(s, &corev1.ConfigMap{}, "acme-runtime").Data[config.FileName]), &file); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// load has the runtime read what the pod would see in its configuration's folder.
func (s *stage) load() (*config.Loaded, error) {
	s.t.Helper()
	folder := s.t.TempDir()
	for name, content := range s.mounted() {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return config.Load(filepath.Join(folder, config.FileName))
}

func TestAllThatManifestsSayOfAccessReachesTheRuntime(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.create(authoritiesUntil(t, time.Now().Add(time.Hour)))
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		discovering(inConfigMap("ca.crt"))(o)
		switch o.GetKind() {
		case "EnsTenant":
			_ = unstructured.SetNestedField(o.Object, "VersionTLS13", "spec", "tls", "minTLSVersion")
		case "EwsEndpoint":
			spec := o.Object["spec"].(map[string]any)
			spec["authenticationMethods"] = []any{"Basic", "OAuth", "ClientCertificate"}
			spec["secureEmailGateway"] = map[string]any{}
			spec["minTLSVersion"] = "VersionTLS11"
			spec["serverVersion"] = "Exchange2010_SP1"
		}
	})
	loaded, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	methods := []config.AuthenticationMethod{config.AuthBasic, config.AuthOAuth, config.AuthClientCertificate}
	endpoint := loaded.Config.Endpoints[0]
	if !reflect.DeepEqual(endpoint.AuthenticationMethods, methods) || endpoint.MinTLSVersion != config.TLS11 || endpoint.ServerVersion != config.Exchange2010SP1 ||
		*endpoint.SecureEmailGateway != (config.SecureEmailGateway{DeviceIDHeader: "Request-DeviceId", DevicesHeader: "EnsDevices"}) {
		t.Errorf("the endpoint is %+v, behind %+v", endpoint, endpoint.SecureEmailGateway)
	}
	want := &config.Autodiscover{Domains: []string{"example.com"}, AuthenticationMethods: methods, CABundle: true, CacheSeconds: 3_600}
	if !reflect.DeepEqual(loaded.Config.Autodiscover, want) || loaded.AutodiscoverCAs == nil {
		t.Errorf("Autodiscover is %+v, want %+v with its bundle", loaded.Config.Autodiscover, want)
	}
	if got := loaded.Config.Server.MinTLSVersion; got != config.TLS13 {
		t.Errorf("%s is served, want TLS 1.3", got)
	}

	effective := tenant.Status.Effective
	if effective.MinTLSVersion != api.TLS13 || effective.Autodiscover == nil || effective.Autodiscover.CacheSeconds != 3_600 ||
		fmt.Sprint(effective.Autodiscover.AuthenticationMethods) != "[Basic OAuth ClientCertificate]" {
		t.Errorf("status.effective is %+v, of Autodiscover %+v", effective, effective.Autodiscover)
	}
	if got := tenant.Status.AutodiscoverCABundle; got == nil || got.Certificates != 1 || got.NotAfter.IsZero() {
		t.Errorf("status.autodiscoverCABundle is %+v", got)
	}
}

func TestBundleOfAutodiscoverIsJudgedAndHeals(t *testing.T) {
	t.Parallel()
	good := string(issue(t, time.Now().Add(time.Hour), "company")["tls.crt"])
	for name, c := range map[string]struct {
		// first is what there is of the bundle at first, "" for no object.
		first, key   string
		bundle       func(key string) map[string]any
		reason, says string
	}{
		"a ConfigMap that is missing": {"", "ca.crt", inConfigMap, api.ReasonNotFound, "spec.autodiscover.caBundle: ConfigMap authorities does not exist: create it or correct the reference"},
		"a Secret that is missing":    {"", "ca.crt", inSecret, api.ReasonNotFound, "spec.autodiscover.caBundle: Secret authorities does not exist"},
		"a ConfigMap without the key": {good, "other", inConfigMap, api.ReasonKeyNotFound, "ConfigMap authorities has no key ca.crt"},
		"a Secret without the key":    {good, "other", inSecret, api.ReasonKeyNotFound, "Secret authorities has no key ca.crt"},
		"a bundle that is none":       {"hello", "ca.crt", inConfigMap, api.ReasonInvalid, "The value ca.crt of ConfigMap authorities cannot be used as a bundle of certificate authorities"},
		"a bundle that has expired":   {string(issue(t, time.Now().Add(-time.Minute), "company")["tls.crt"]), "ca.crt", inSecret, api.ReasonExpired, "The value ca.crt of Secret authorities holds no certificate that has not expired: replace them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			put := func(key, content string) {
				object := &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "authorities"}, "data": map[string]any{key: content},
				}}
				if _, secret := c.bundle(key)["secret"]; secret {
					object.Object["kind"], object.Object["stringData"] = "Secret", object.Object["data"]
					delete(object.Object, "data")
				}
				s.apply(object)
			}
			if c.first != "" {
				put(c.key, c.first)
			}
			for _, object := range samples(t) {
				discovering(c.bundle("ca.crt"))(object)
				s.apply(object)
			}
			tenant := s.acme()
			found := s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, c.reason)
			if !strings.Contains(found.Message, c.says) {
				t.Errorf("the condition says %q, want %q", found.Message, c.says)
			}
			if s.there(&corev1.ConfigMap{}, "acme-runtime") {
				t.Error("a tenant was begun that is not what the spec asks for")
			}
			put("ca.crt", good)
			s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
			if _, err := s.load(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRunningTenantKeepsTheAutodiscoverThatWorks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.create(authoritiesUntil(t, time.Now().Add(time.Hour)))
	tenant := s.provisioned(discovering(inConfigMap("ca.crt")))
	files := s.mounts()
	s.remove(&corev1.ConfigMap{}, "authorities")
	s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonNotFound)

	// What belongs to the bundle waits for it, all else goes on.
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.Autodiscover.Domains = []api.Domain{"example.org"}
		o.Spec.EnvironmentType = "Changed"
	})
	s.eventually("rendering", func() error {
		if got := s.configuration().Server.EnvironmentType; got != "Changed" {
			return errNotYet(got)
		}
		return nil
	})
	if got := s.configuration().Autodiscover; got == nil || got.Domains[0] != "example.com" || !got.CABundle {
		t.Errorf("Autodiscover is %+v", got)
	}
	if got := s.mounts(); got != files {
		t.Errorf("the pod's files were\n%s\nand are\n%s", files, got)
	}

	s.create(authoritiesUntil(t, time.Now().Add(time.Hour)))
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if got := s.configuration().Autodiscover; got == nil || got.Domains[0] != "example.org" {
		t.Errorf("Autodiscover is %+v after the bundle came back", got)
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Autodiscover = nil })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if got := s.configuration().Autodiscover; got != nil || strings.Contains(s.mounts(), "autodiscover/") {
		t.Errorf("Autodiscover is still %+v, or its bundle mounted", got)
	}
	if tenant.Status.Effective.Autodiscover != nil || tenant.Status.AutodiscoverCABundle != nil {
		t.Errorf("the status still tells of Autodiscover: %+v", tenant.Status)
	}
}

// Without its bundle Autodiscover would trust the system's authorities, which is not what was asked for.
func TestAutodiscoverDoesNotBeginWithoutItsBundle(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.EnvironmentType = "Changed"
		o.Spec.Autodiscover = &api.TenantAutodiscover{
			Domains:  []api.Domain{"example.com"},
			CABundle: &api.CertificateBundle{Secret: &api.SecretKeyReference{Name: "authorities", Key: "ca.crt"}},
		}
	})
	s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonNotFound)
	if got := s.configuration(); got.Autodiscover != nil || got.Server.EnvironmentType != "Changed" {
		t.Errorf("the configuration is %+v", got)
	}
}

func TestExpiryOfTheBundleOfAutodiscoverIsNoticed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// Certificates count in seconds.
	s.create(authoritiesUntil(t, time.Now().Add(4*time.Second)))
	for _, object := range samples(t) {
		discovering(inConfigMap("ca.crt"))(object)
		s.apply(object)
	}
	s.waitCondition(s.acme(), api.ConditionReferencesResolved, metav1.ConditionTrue, "")
	s.waitCondition(s.acme(), api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonExpired)
}
