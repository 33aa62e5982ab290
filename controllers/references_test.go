package controllers_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestMissingReferencesAreNamedAndHeal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// missing is not applied at first; kind and condition say where it is told of.
		missing, condition, reason, says string
	}{
		"an endpoint":                       {"exchange", api.ConditionReferencesResolved, api.ReasonNotFound, "EwsEndpoint exchange does not exist: create it or remove it from spec.endpoints"},
		"a push provider":                   {"apple", api.ConditionReferencesResolved, api.ReasonNotFound, "PushProvider apple does not exist: create it or remove it from spec.pushProviders"},
		"the Secret of a provider":          {"fcm-service-account", api.ConditionReferencesResolved, api.ReasonNotReady, "PushProvider google is not ready: Secret fcm-service-account does not exist"},
		"the Secret with a tls certificate": {"acme-server-certificate", api.ConditionTLSReady, api.ReasonNotFound, "Secret acme-server-certificate does not exist: create it or correct the reference"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.applySamples(without(c.missing))
			tenant := s.acme()
			found := s.waitCondition(tenant, c.condition, metav1.ConditionFalse, c.reason)
			if !strings.Contains(found.Message, c.says) {
				t.Errorf("the condition says %q, want %q", found.Message, c.says)
			}
			ready := s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, c.reason)
			if ready.Message != found.Message {
				t.Errorf("Ready says %q", ready.Message)
			}
			s.applySamples(named(c.missing))
			s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
		})
	}
}

func TestInvalidReferencesAreNamedAndHeal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret, key, value string
		object             client.Object
		reason, says       string
	}{
		"a signing key that is none": {"apns-key", "key.p8", "hello", &api.PushProvider{ObjectMeta: metav1.ObjectMeta{Name: "apple"}},
			api.ReasonInvalid, "The value key.p8 of Secret apns-key cannot be used: want the signing key as Apple gives it out (.p8)"},
		"a service account that is none": {"fcm-service-account", "service-account.json", `{"type":"authorized_user"}`, &api.PushProvider{ObjectMeta: metav1.ObjectMeta{Name: "google"}},
			api.ReasonInvalid, `its type is not "service_account"`},
		"a Secret without the key": {"apns-key", "other", "x", &api.PushProvider{ObjectMeta: metav1.ObjectMeta{Name: "apple"}},
			api.ReasonKeyNotFound, "Secret apns-key has no key key.p8: add it or correct the reference"},
		"a server certificate that is none": {"acme-server-certificate", "tls.crt", "x", &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}},
			api.ReasonInvalid, "Secret acme-server-certificate cannot be used: the certificate cannot be used: it holds no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.applySamples(without(c.secret))
			for _, object := range samples(t) {
				if object.GetName() == c.secret {
					if c.reason == api.ReasonKeyNotFound {
						unstructured.RemoveNestedField(object.Object, "stringData")
					}
					_ = unstructured.SetNestedField(object.Object, c.value, "stringData", c.key)
					s.apply(object)
				}
			}
			c.object.SetNamespace(s.namespace)
			found := s.waitCondition(c.object, api.ConditionReady, metav1.ConditionFalse, c.reason)
			if !strings.Contains(found.Message, c.says) {
				t.Errorf("Ready says %q, want %q", found.Message, c.says)
			}
			if c.reason == api.ReasonInvalid {
				s.waitCondition(c.object, api.ConditionStalled, metav1.ConditionTrue, c.reason)
			}
			s.applySamples(named(c.secret))
			s.waitCondition(s.acme(), api.ConditionProvisioned, metav1.ConditionTrue, "")
		})
	}
}

// rendered is what the tenant's configuration names now.
func (s *stage) rendered() (endpoints, providers []string) {
	s.t.Helper()
	file := s.configuration()
	for _, endpoint := range file.Endpoints {
		endpoints = append(endpoints, endpoint.Name)
	}
	for _, provider := range file.PushProviders {
		providers = append(providers, provider.Name)
	}
	return endpoints, providers
}

func (s *stage) wantRendered(wantEndpoints, wantProviders string) {
	s.t.Helper()
	endpoints, providers := s.rendered()
	if got := strings.Join(endpoints, " "); got != wantEndpoints {
		s.t.Errorf("the configuration has the endpoints %q, want %q", got, wantEndpoints)
	}
	if got := strings.Join(providers, " "); got != wantProviders {
		s.t.Errorf("the configuration has the providers %q, want %q", got, wantProviders)
	}
}

func TestRunningTenantIsNotShrunkByAReferenceThatIsMissing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*stage){
		"an endpoint is deleted":      func(s *stage) { s.remove(&api.EwsEndpoint{}, "exchange") },
		"a provider is deleted":       func(s *stage) { s.remove(&api.PushProvider{}, "apple") },
		"a provider's key is deleted": func(s *stage) { s.remove(&corev1.Secret{}, "apns-key") },
		"a provider's key is spoilt": func(s *stage) {
			change(s, &corev1.Secret{}, "apns-key", func(o *corev1.Secret) { o.Data["key.p8"] = []byte("x") })
		},
		"an endpoint is replaced by one that does not exist": func(s *stage) {
			change(s, &api.EnsTenant{}, "acme", func(o *api.EnsTenant) { o.Spec.Endpoints = []api.ResourceName{"new"} })
		},
		"an endpoint is added that does not exist": func(s *stage) {
			change(s, &api.EnsTenant{}, "acme", func(o *api.EnsTenant) { o.Spec.Endpoints = append(o.Spec.Endpoints, "new") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			tenant := s.provisioned()
			files := s.mounts()
			spoil(s)
			s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, "")
			s.wantRendered("exchange", "apple google")

			// What has nothing to do with the reference goes on.
			change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(5)) })
			s.eventually("scaling", func() error {
				if got := *fetch(s, &appsv1.Deployment{}, "acme").Spec.Replicas; got != 5 {
					return fmt.Errorf("%d replicas", got)
				}
				return nil
			})
			s.wantRendered("exchange", "apple google")
			if got := s.mounts(); got != files {
				t.Errorf("the pod's files were\n%s\nand are\n%s", files, got)
			}
		})
	}
}

// mounts tells of all files that the pod sees.
func (s *stage) mounts() string {
	s.t.Helper()
	var lines []string
	for _, source := range fetch(s, &appsv1.Deployment{}, "acme").Spec.Template.Spec.Volumes[0].Projected.Sources {
		lines = append(lines, source.String())
	}
	return strings.Join(lines, "\n")
}

func TestTwoEndpointsWithOneAddressAreNamedAndHeal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	twin := plain(t, sampleOf(t, "EwsEndpoint"), &api.EwsEndpoint{})
	twin.Name, twin.Spec.URL = "twin", "https://MAIL.example.com:443/EWS/Exchange.asmx"
	s.create(twin)
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Endpoints = append(o.Spec.Endpoints, "twin") })
	found := s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonInvalid)
	if want := "EwsEndpoints exchange and twin have the same address"; !strings.Contains(found.Message, want) {
		t.Errorf("the condition says %q, want %q", found.Message, want)
	}
	s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonInvalid)
	s.wantRendered("exchange", "apple google")

	change(s, twin, "twin", func(o *api.EwsEndpoint) { o.Spec.URL = "https://MAIL.example.com:443/twin" })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange twin", "apple google")
}

// What the runtime refuses can no longer come from the API, but an operator of before may have rendered it.
func TestConfigurationThatTheRuntimeRefusesIsNotApplied(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.remove(&api.EwsEndpoint{}, "exchange")
	s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonNotFound)
	var found metav1.Condition
	s.eventually("waiting for the refusal", func() error {
		// The operator may put back what it still knew the moment before: then it is changed again.
		change(s, &corev1.ConfigMap{}, "acme-runtime", func(o *corev1.ConfigMap) {
			o.Data[config.FileName] = strings.Replace(o.Data[config.FileName], "timeoutSeconds: 30\n", "timeoutSeconds: 300\n", 1)
		})
		s.get(tenant)
		current := meta.FindStatusCondition(tenant.Status.Conditions, api.ConditionProvisioned)
		if current == nil || current.Reason != api.ReasonInvalid {
			return fmt.Errorf("the conditions are %v", tenant.Status.Conditions)
		}
		found = *current
		return nil
	})
	if want := "endpoints[exchange].timeoutSeconds: want a number from 1 to 100"; !strings.Contains(found.Message, want) {
		t.Errorf("the condition says %q, want %q", found.Message, want)
	}
	s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonInvalid)
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.PushProviders = []api.ResourceName{"google"} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionFalse, api.ReasonInvalid)
	s.wantRendered("exchange", "apple google")

	s.applySamples(named("exchange"))
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange", "google")
}

func TestReferenceThatIsTakenOutOfTheSpecGoes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.PushProviders = []api.ResourceName{"google"} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange", "google")
	if strings.Contains(s.mounts(), "apns-key") {
		t.Error("the provider's key is still mounted")
	}
}

func TestLoopbackAddressesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	endpoint := plain(t, sampleOf(t, "EwsEndpoint"), &api.EwsEndpoint{})
	endpoint.Spec.URL = "https://127.0.0.1:9443/EWS/Exchange.asmx"
	s.create(endpoint)
	found := s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionFalse, api.ReasonLoopbackRefused)
	if !strings.Contains(found.Message, "--allow-loopback") {
		t.Errorf("Ready says %q", found.Message)
	}
	s.waitCondition(endpoint, api.ConditionAccepted, metav1.ConditionFalse, api.ReasonLoopbackRefused)

	s.applySamples(named("apns-key", "apple"))
	provider := at(s, &api.PushProvider{}, "apple")
	s.waitCondition(provider, api.ConditionReady, metav1.ConditionTrue, "")
	change(s, provider, "apple", func(o *api.PushProvider) { o.Spec.APNs.URL = "https://localhost:2197" })
	s.waitCondition(provider, api.ConditionReady, metav1.ConditionFalse, api.ReasonLoopbackRefused)
}

func TestMetadataServicesAreRefusedWhateverTheFlag(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	endpoint := plain(t, sampleOf(t, "EwsEndpoint"), &api.EwsEndpoint{})
	endpoint.Spec.URL = "https://169.254.169.254/latest"
	s.create(endpoint)
	s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionFalse, api.ReasonInvalid)
}

func TestEndpointByCertificateAuthority(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bundle := plain(t, sample(t, "acme-server-certificate"), &corev1.Secret{}).StringData["tls.crt"]
	s.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "authorities"}, Data: map[string]string{"ca.crt": bundle, "bad": "x"}})
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EwsEndpoint" {
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"certificateAuthority": map[string]any{
				"configMap": map[string]any{"name": "authorities", "key": "ca.crt"}}}, "spec", "pinning")
		}
	})
	endpoint := fetch(s, &api.EwsEndpoint{}, "exchange")
	if got := endpoint.Status.CertificateAuthority; got == nil || got.Certificates != 1 || got.NotAfter.IsZero() {
		t.Errorf("status.certificateAuthority is %+v", got)
	}
	if got := s.mounted()["endpoints/exchange/ca.crt"]; string(got) != bundle {
		t.Error("the bundle is not mounted")
	}
	change(s, endpoint, "exchange", func(o *api.EwsEndpoint) { o.Spec.Pinning.CertificateAuthority.ConfigMap.Key = "bad" })
	s.waitCondition(endpoint, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonInvalid)
	s.waitCondition(tenant, api.ConditionReferencesResolved, metav1.ConditionFalse, api.ReasonNotReady)
	if got := s.mounted()["endpoints/exchange/ca.crt"]; string(got) != bundle {
		t.Error("the bundle that works is no longer mounted")
	}
	change(s, &corev1.ConfigMap{}, "authorities", func(o *corev1.ConfigMap) { o.Data["bad"] = bundle })
	s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionTrue, "")
}

func TestSamplesGiveNoDifferenceWhenAppliedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	for _, object := range samples(t) {
		s.localize(object)
		live := object.DeepCopy()
		live.SetNamespace(s.namespace)
		s.get(live)
		before := live.GetResourceVersion()
		s.apply(object)
		s.get(live)
		if live.GetResourceVersion() != before && object.GetKind() != "EnsTenant" {
			t.Errorf("applying %s %s again changed it", object.GetKind(), object.GetName())
		}
		// What was applied is what is there: nothing was defaulted into a field that a person writes.
		wantSpec, _, _ := unstructured.NestedMap(object.Object, "spec")
		spec, _, _ := unstructured.NestedMap(live.Object, "spec")
		if fmt.Sprint(spec) != fmt.Sprint(wantSpec) {
			t.Errorf("%s %s: applied %v, there is %v", object.GetKind(), object.GetName(), wantSpec, spec)
		}
		for key, value := range plain(t, object, &corev1.Secret{}).StringData {
			stored, _, _ := unstructured.NestedString(live.Object, "data", key)
			if decoded, _ := base64.StdEncoding.DecodeString(stored); string(decoded) != value {
				t.Errorf("%s %s: %s differs", object.GetKind(), object.GetName(), key)
			}
		}
	}
}

// The operator's caches divide Secrets and ConfigMaps by its label.
func TestAChangeOfAReferenceIsNoticedWhoeverMadeIt(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.rolledOut() // pods that are waited for are looked at each minute
	s.waitCondition(tenant, api.ConditionAvailable, metav1.ConditionTrue, "")
	for _, step := range []struct {
		when     string
		labelled bool
	}{{"as it gets the operator's label", true}, {"while it has the label", true}, {"as it loses the label", false}, {"without the label", false}} {
		s.quiet() // no look is under way that would find it by chance
		before := tenant.Status.Certificate.SHA256
		change(s, &corev1.Secret{}, "acme-server-certificate", func(o *corev1.Secret) {
			o.Labels = nil
			if step.labelled {
				o.Labels = map[string]string{"app.kubernetes.io/managed-by": "ens-operator"}
			}
			o.Data = issue(t, time.Now().AddDate(1, 0, 0), s.hostname())
		})
		s.eventually("renewing a certificate "+step.when, func() error {
			if s.get(tenant); tenant.Status.Certificate.SHA256 == before {
				return errNotYet("it is the one before")
			}
			return nil
		})
	}
}
