package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// issue makes a certificate of its own making for names, that ends at a time.
func issue(t *testing.T, notAfter time.Time, names ...string) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

func TestServerCertificateIsJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data         func(hostname string) map[string][]byte
		reason, says string
	}{
		"expired": {func(hostname string) map[string][]byte { return issue(t, time.Now().Add(-time.Minute), hostname) },
			api.ReasonExpired, "has expired: renew it"},
		"of another name": {func(string) map[string][]byte { return issue(t, time.Now().Add(time.Hour), "other.example.com") },
			api.ReasonNameMismatch, "does not hold the name "},
		"with another's key": {func(hostname string) map[string][]byte {
			return map[string][]byte{"tls.crt": issue(t, time.Now().Add(time.Hour), hostname)["tls.crt"], "tls.key": issue(t, time.Now(), "x")["tls.key"]}
		}, api.ReasonInvalid, "does not belong to the certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-server-certificate"}, Type: corev1.SecretTypeTLS, Data: c.data(s.hostname())})
			s.applySamples(without("acme-server-certificate"))
			found := s.waitCondition(s.acme(), api.ConditionTLSReady, metav1.ConditionFalse, c.reason)
			if !strings.Contains(found.Message, c.says) {
				t.Errorf("the condition says %q", found.Message)
			}
			// The workload does not depend on it: pods that serve go on.
			s.eventually("rendering", func() error {
				if !s.there(&corev1.ConfigMap{}, "acme-runtime") {
					return errNotYet("there is no configuration")
				}
				return nil
			})
			s.wantRendered("exchange", "apple google")
		})
	}
}

func TestExpiryIsNoticedWithoutAnybodysDoing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// Certificates count in seconds.
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-server-certificate"}, Type: corev1.SecretTypeTLS,
		Data: issue(t, time.Now().Add(4*time.Second), s.hostname())})
	s.applySamples(without("acme-server-certificate"))
	s.waitCondition(s.acme(), api.ConditionTLSReady, metav1.ConditionTrue, "")
	s.waitCondition(s.acme(), api.ConditionTLSReady, metav1.ConditionFalse, api.ReasonExpired)
}

// cert-manager may come after the operator and the tenant, and is then asked for a certificate; the test plays it.
func TestCertificateFromCertManager(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	wantsCertificate := func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"certManager": map[string]any{
				"issuerRef": map[string]any{"name": "company"}}}, "spec", "tls")
			_ = unstructured.SetNestedStringSlice(o.Object, []string{"internal." + s.hostname()}, "spec", "hostnames")
		}
	}
	for _, object := range samples(t) {
		wantsCertificate(object)
		s.apply(object)
	}
	tenant := s.acme()
	if !s.there(&apiextensions.CustomResourceDefinition{}, "certificates.cert-manager.io") { // else the test was run with -count
		found := s.waitCondition(tenant, api.ConditionTLSReady, metav1.ConditionFalse, api.ReasonCertManagerMissing)
		if !strings.Contains(found.Message, "install cert-manager") {
			t.Errorf("the condition says %q", found.Message)
		}
		installCRDs(t, s, "github.com/cert-manager/cert-manager", filepath.Join("deploy", "crds"))
	}
	// The operator looks once a minute; a change of the tenant is quicker.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"look": "again"} })
	s.waitCondition(tenant, api.ConditionTLSReady, metav1.ConditionUnknown, api.ReasonCertificateNotReady)
	request := fetch(s, &certmanager.Certificate{}, "acme-tls")
	spec := request.Spec
	if spec.SecretName != "acme-tls" || strings.Join(spec.DNSNames, " ") != s.hostname()+" internal."+s.hostname() ||
		spec.IssuerRef != (cmmeta.IssuerReference{Name: "company", Kind: "Issuer", Group: "cert-manager.io"}) ||
		spec.PrivateKey.RotationPolicy != certmanager.RotationPolicyNever {
		t.Errorf("the request is %+v", spec)
	}

	// The issuer says what it is at, and then issues.
	request.Status.Conditions = []certmanager.CertificateCondition{{Type: certmanager.CertificateConditionReady, Status: cmmeta.ConditionFalse, Reason: "Issuing", Message: "waiting for approval"}}
	if err := s.clients.Status().Update(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	s.eventually("passing on what cert-manager says", func() error {
		found := s.waitCondition(tenant, api.ConditionTLSReady, metav1.ConditionUnknown, api.ReasonCertificateNotReady)
		if !strings.Contains(found.Message, "waiting for approval") {
			return errNotYet(found.Message)
		}
		return nil
	})
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-tls"}, Type: corev1.SecretTypeTLS,
		Data: issue(t, time.Now().Add(time.Hour), s.hostname(), "internal."+s.hostname())})
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")

	// A renewal that fails is told of with cert-manager's words, and an end is an end whatever cert-manager says.
	for _, c := range []struct {
		left   time.Duration
		status metav1.ConditionStatus
		reason string
	}{{2 * time.Hour, metav1.ConditionTrue, api.ReasonExpiresSoon}, {-time.Minute, metav1.ConditionFalse, api.ReasonExpired}} {
		change(s, &corev1.Secret{}, "acme-tls", func(o *corev1.Secret) {
			o.Data = issue(t, time.Now().Add(c.left), s.hostname(), "internal."+s.hostname())
		})
		found := s.waitCondition(tenant, api.ConditionTLSReady, c.status, c.reason)
		if !strings.Contains(found.Message, "; cert-manager says: waiting for approval") {
			t.Errorf("the condition says %q", found.Message)
		}
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, "")
	change(s, &corev1.Secret{}, "acme-tls", func(o *corev1.Secret) {
		o.Data = issue(t, time.Now().Add(time.Hour), s.hostname(), "internal."+s.hostname())
	})
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")

	// A tenant that no longer wants it gives it back.
	s.applySamples(named("acme", "acme-server-certificate"))
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.gone(&certmanager.Certificate{}, "acme-tls")

	// cert-manager goes away while the operator runs: that is said, and everything else goes on.
	s.remove(&apiextensions.CustomResourceDefinition{}, "certificates.cert-manager.io")
	s.gone(&apiextensions.CustomResourceDefinition{}, "certificates.cert-manager.io")
	wanting := sample(t, "acme")
	wantsCertificate(wanting)
	_ = unstructured.SetNestedField(wanting.Object, int64(3), "spec", "runtime", "replicas")
	s.apply(wanting)
	s.waitCondition(tenant, api.ConditionTLSReady, metav1.ConditionFalse, api.ReasonCertManagerMissing)
	if tenant.Status.Certificate == nil {
		t.Error("nothing is told of the certificate that is served")
	}
	if got := *fetch(s, &appsv1.Deployment{}, "acme").Spec.Replicas; got != 3 {
		t.Errorf("the Deployment has %d replicas, want 3", got)
	}
}

type errNotYet string

func (e errNotYet) Error() string { return "not yet: " + string(e) }

// installCRDs installs those in a file or folder of a module, of the version in go.mod.
func installCRDs(t *testing.T, s *stage, module, path string) {
	t.Helper()
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, err = envtest.InstallCRDs(s.kube.Config(), envtest.CRDInstallOptions{
		Paths: []string{filepath.Join(strings.TrimSpace(string(folder)), path)}, ErrorIfPathMissing: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}
