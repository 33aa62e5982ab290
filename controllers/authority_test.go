package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// authority issues certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// issued is a certificate and its key, in PEM.
type issued struct{ certificate, key string }

// newAuthority makes an authority that another has certified, or it itself.
func newAuthority(t *testing.T, name string, by *authority) (*authority, string) {
	t.Helper()
	a := &authority{certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	if by == nil {
		by = a
	}
	made := by.certify(t, a)
	return a, made.certificate
}

// certify certifies what a says of itself, with a new key.
func (by *authority) certify(t *testing.T, a *authority) issued {
	t.Helper()
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.certificate.SerialNumber, a.certificate.NotBefore = big.NewInt(1), time.Now().Add(-time.Hour)
	if a.certificate.NotAfter.IsZero() {
		a.certificate.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, by.certificate, a.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return issued{
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
}

// issue makes a certificate for names.
func (by *authority) issue(t *testing.T, names ...string) issued {
	t.Helper()
	return by.certify(t, &authority{certificate: &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names}})
}

// serve puts files into the Secret that the tenant of the samples serves.
func (s *stage) serve(files map[string]string) {
	s.t.Helper()
	change(s, &corev1.Secret{}, "acme-server-certificate", func(o *corev1.Secret) {
		o.Data = map[string][]byte{}
		for name, text := range files {
			o.Data[name] = []byte(text)
		}
	})
}

func TestAuthorityOfTheCertificateIsToldForExchange(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	root, rootText := newAuthority(t, "root", nil)
	middle, middleText := newAuthority(t, "middle", root)
	_, strangerText := newAuthority(t, "stranger", nil)
	own := issue(t, time.Now().Add(20*time.Hour), s.hostname())
	byRoot, byMiddle := root.issue(t, s.hostname()), middle.issue(t, s.hostname())
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"named in the Secret": {
			map[string]string{"tls.crt": byRoot.certificate, "tls.key": byRoot.key, "ca.crt": rootText}, rootText},
		"named beside others that have nothing to do with it": {
			map[string]string{"tls.crt": byMiddle.certificate + middleText, "tls.key": byMiddle.key, "ca.crt": strangerText + rootText}, rootText},
		"the top of the chain": {
			map[string]string{"tls.crt": byMiddle.certificate + middleText, "tls.key": byMiddle.key}, middleText},
		"the top of the chain where the Secret names another's": {
			map[string]string{"tls.crt": byMiddle.certificate + middleText, "tls.key": byMiddle.key, "ca.crt": strangerText}, middleText},
		"the top of the chain where the Secret holds a key by mistake": {
			map[string]string{"tls.crt": byMiddle.certificate + middleText, "tls.key": byMiddle.key, "ca.crt": rootText + byMiddle.key}, middleText},
		"itself": {
			map[string]string{"tls.crt": string(own["tls.crt"]), "tls.key": string(own["tls.key"])}, string(own["tls.crt"])},
		"not known": {
			map[string]string{"tls.crt": byRoot.certificate, "tls.key": byRoot.key}, ""},
	} {
		s.serve(c.files)
		s.eventually("waiting for the authority: "+name, func() error {
			told := &corev1.ConfigMap{}
			there := s.there(told, "acme-ca")
			if there != (c.want != "") || told.Data["ca.crt"] != c.want {
				return errNotYet("it is " + told.Data["ca.crt"])
			}
			s.get(tenant)
			if (tenant.Status.CAConfigMap == "acme-ca") != there {
				return errNotYet("the status names " + tenant.Status.CAConfigMap)
			}
			return nil
		})
	}

	// An object of somebody else's is left alone, and hinders nobody.
	s.serve(map[string]string{"tls.crt": byRoot.certificate, "tls.key": byRoot.key})
	s.gone(&corev1.ConfigMap{}, "acme-ca")
	s.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "acme-ca"}, Data: map[string]string{"mine": "yes"}})
	s.serve(map[string]string{"tls.crt": byMiddle.certificate + middleText, "tls.key": byMiddle.key})
	s.eventually("waiting for word of it", func() error {
		if found := s.waitCondition(tenant, api.ConditionTLSReady, metav1.ConditionTrue, api.ReasonReady); !strings.Contains(found.Message, "ConfigMap acme-ca exists") {
			return errNotYet(found.Message)
		}
		return nil
	})
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if got := fetch(s, &corev1.ConfigMap{}, "acme-ca"); got.Data["mine"] != "yes" || len(got.Data) != 1 {
		t.Errorf("it was written to: %v", got.Data)
	}
}

func TestPinOfTheNextCertificateIsToldBeforeItIsServed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	current := tenant.Status.Certificate.PublicKeySHA256
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.TLS.NextSecretName = "next" })
	s.waitCondition(tenant, api.ConditionNextCertificateReady, metav1.ConditionFalse, api.ReasonNotFound)
	files := map[string][]byte{"tls.crt": s.certificate["tls.crt"], "tls.key": s.certificate["tls.key"]}
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "next"}, Type: corev1.SecretTypeTLS, Data: files})
	s.waitCondition(tenant, api.ConditionNextCertificateReady, metav1.ConditionFalse, api.ReasonKeyUnchanged)
	replace := func(with map[string][]byte) {
		t.Helper()
		change(s, &corev1.Secret{}, "next", func(o *corev1.Secret) { o.Data = with })
	}
	replace(issue(t, time.Now().Add(20*time.Hour), "other.example.com"))
	s.waitCondition(tenant, api.ConditionNextCertificateReady, metav1.ConditionFalse, api.ReasonNameMismatch)
	if tenant.Status.NextCertificate != nil {
		t.Error("the pin of a certificate that cannot be used is told")
	}
	replace(issue(t, time.Now().Add(20*time.Hour), s.hostname()))
	found := s.waitCondition(tenant, api.ConditionNextCertificateReady, metav1.ConditionTrue, api.ReasonReady)
	if !strings.Contains(found.Message, "set spec.tls.secretName to next") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	next := tenant.Status.NextCertificate.PublicKeySHA256
	if got := tenant.Status.Certificate.PublicKeySHA256; got != current || next == current || len(next) != len(current) {
		t.Errorf("the pins are %s and %s, and it was %s", got, next, current)
	}
	if strings.Contains(s.mounts(), "next") {
		t.Error("the pods see the next certificate already")
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.TLS.SecretName, o.Spec.TLS.NextSecretName = "next", "" })
	s.waitNoCondition(tenant, api.ConditionNextCertificateReady)
	if got := tenant.Status; got.Certificate.PublicKeySHA256 != next || got.NextCertificate != nil {
		t.Errorf("after the change the pins are %+v and %+v, want %s", got.Certificate, got.NextCertificate, next)
	}
	s.eventually("waiting until the pods see it", func() error {
		if !strings.Contains(s.mounts(), "next") {
			return errNotYet(s.mounts())
		}
		return nil
	})
}

func TestCertificateThatNobodyRenewsIsSaidInTime(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	begin := clock.Now()
	tenant := s.provisioned()
	// Made for 90 days, as a public authority does.
	root, _ := newAuthority(t, "root", nil)
	leaf := root.certify(t, &authority{certificate: &x509.Certificate{DNSNames: []string{s.hostname()}, NotAfter: begin.AddDate(0, 0, 90)}})
	s.serve(map[string]string{"tls.crt": leaf.certificate, "tls.key": leaf.key})
	notAfter := begin.AddDate(0, 0, 90)
	s.eventually("waiting for the metric", func() error {
		if got := s.certificateEnd(); got != float64(notAfter.Unix()) {
			return errNotYet("it is another time, or none")
		}
		return nil
	})
	for _, c := range []struct {
		left   time.Duration
		status metav1.ConditionStatus
		reason string
	}{
		{15 * 24 * time.Hour, metav1.ConditionTrue, api.ReasonReady},
		{14 * 24 * time.Hour, metav1.ConditionTrue, api.ReasonExpiresSoon},
		{time.Second, metav1.ConditionTrue, api.ReasonExpiresSoon},
		{0, metav1.ConditionFalse, api.ReasonExpired},
	} {
		clock.SetTime(notAfter.Add(-c.left))
		change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"look": c.left.String()} })
		s.quiet()
		found := s.waitCondition(tenant, api.ConditionTLSReady, c.status, c.reason)
		if c.reason == api.ReasonExpiresSoon && !strings.Contains(found.Message, notAfter.UTC().Format(time.RFC3339)) {
			t.Errorf("the condition says %q", found.Message)
		}
		if c.status == metav1.ConditionTrue {
			s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
		}
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonExpired)
	var events eventsv1.EventList
	s.eventually("waiting for both Events", func() error {
		if err := s.clients.List(t.Context(), &events, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		for _, reason := range []string{api.ReasonExpiresSoon, api.ReasonExpired} {
			if !slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool { return e.Reason == reason && e.Type == corev1.EventTypeWarning }) {
				return errNotYet("there is none of " + reason)
			}
		}
		return nil
	})

	s.remove(&corev1.Secret{}, "acme-server-certificate")
	s.eventually("waiting until the metric is gone", func() error {
		if s.certificateEnd() != 0 {
			return errNotYet("it is there")
		}
		return nil
	})
}

// certificateEnd is when the certificate of the stage's tenant expires by the operator's metrics, 0 if they do not say.
func (s *stage) certificateEnd() float64 {
	s.t.Helper()
	families, err := crmetrics.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "ens_operator_tenant_certificate_not_after_timestamp_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "namespace" && label.GetValue() == s.namespace {
					return metric.GetGauge().GetValue()
				}
			}
		}
	}
	return 0
}
