package controllers_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

func TestACertificateOfAppleIsJudgedAndItsExpiryIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	authority := apnstest.Start(apnstest.Options{Logf: t.Logf})
	t.Cleanup(authority.Close)
	expiry := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	issue := func(apply func(*apnstest.Certificate)) []byte {
		c := apnstest.Certificate{Topics: []string{"com.example.mail", "com.example.mail.voip"}, Production: true, NotAfter: expiry}
		apply(&c)
		return authority.PFX(c, "s3cret")
	}
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "apns"}, Data: map[string][]byte{
		"file":     issue(func(c *apnstest.Certificate) { c.Topics = []string{"com.example.other"} }),
		"password": []byte("s3cret\n"),
	}})
	provider := &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "certified"},
		Spec: api.PushProviderSpec{APNs: &api.APNsProvider{Topics: []api.AppID{"com.example.mail"}, Certificate: &api.PKCS12Certificate{
			PFXSecretRef:      api.SecretKeyReference{Name: "apns", Key: "file"},
			PasswordSecretRef: api.SecretKeyReference{Name: "apns", Key: "password"},
		}}},
	}
	s.create(provider)
	expect := func(status metav1.ConditionStatus, reason, says string) {
		t.Helper()
		s.eventually("Ready says "+says, func() error {
			if found := s.waitCondition(provider, api.ConditionReady, status, reason); !strings.Contains(found.Message, says) {
				return errors.New("it says " + found.Message)
			}
			return nil
		})
	}
	replace := func(apply func(*apnstest.Certificate)) {
		t.Helper()
		content := issue(apply)
		change(s, &corev1.Secret{}, "apns", func(o *corev1.Secret) { o.Data["file"] = content })
	}
	expect(metav1.ConditionFalse, api.ReasonInvalid, "The value file of Secret apns cannot be used: it is not for the topic com.example.mail but for com.example.other")
	replace(func(c *apnstest.Certificate) { c.Production, c.Sandbox = false, true })
	expect(metav1.ConditionFalse, api.ReasonInvalid, "it is for Apple's sandbox environment alone")
	replace(func(*apnstest.Certificate) {})
	expect(metav1.ConditionTrue, "", "")
	told := fetch(s, &api.PushProvider{}, "certified").Status.Credential
	if told == nil || told.Identity != "Apple Push Services" || len(told.PublicKeySHA256) != 64 || told.NotAfter == nil || !told.NotAfter.Time.Equal(expiry) {
		t.Errorf("the credential is told as %+v, want one that expires at %s", told, expiry)
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.PushProviders = []api.ResourceName{"certified", "google"} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange", "certified google")
	if got := s.configuration().PushProviders[0].APNs; got == nil || !got.Certificate || got.KeyID != "" {
		t.Errorf("the configuration has %+v", got)
	}
	if mounts := s.mounts(); !strings.Contains(mounts, "push/certified/certificate.pfx") || !strings.Contains(mounts, "push/certified/certificate-password") {
		t.Errorf("the certificate is not mounted: %s", mounts)
	}
	replace(func(c *apnstest.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	expect(metav1.ConditionFalse, api.ReasonExpired, "has expired: replace it")
}
