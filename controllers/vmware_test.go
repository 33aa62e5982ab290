package controllers_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
)

func TestTheCertificatesOfVMwareAreJudgedAndTheirExpiryIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	authority := cnstest.NewAuthority()
	expiry := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "cns"}, Data: map[string][]byte{
		"signing.pfx": authority.PFX("AW Cloud Notification - aTest", "s3cret", expiry.Add(time.Hour)), "signing-password": []byte("s3cret\n"),
		"client.pfx": authority.PFX("client", "t0psecret", expiry), "client-password": []byte("s3cret"),
	}}
	s.create(keys)
	certificate := func(name api.DataKey) api.PKCS12Certificate {
		return api.PKCS12Certificate{
			PFXSecretRef:      api.SecretKeyReference{Name: "cns", Key: name + ".pfx"},
			PasswordSecretRef: api.SecretKeyReference{Name: "cns", Key: name + "-password"},
		}
	}
	provider := &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "vmware"},
		Spec: api.PushProviderSpec{CNS: &api.CNSProvider{
			SigningCertificate: certificate("signing"), MutualTLS: &api.CNSMutualTLS{Certificate: new(certificate("client"))},
		}, Proxy: &api.ForwardProxy{URL: "http://proxy.example.com:3128"}},
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
	expect(metav1.ConditionFalse, api.ReasonInvalid, "The value client.pfx of Secret cns cannot be used: want a PKCS #12 file (.pfx) "+
		"with one private key and its certificate: the password does not open the PKCS#12 file")
	change(s, &corev1.Secret{}, "cns", func(o *corev1.Secret) { o.Data["client-password"] = []byte("t0psecret") })
	expect(metav1.ConditionTrue, "", "")
	told := fetch(s, &api.PushProvider{}, "vmware").Status.Credential
	if told == nil || told.Identity != "AW Cloud Notification - aTest" || len(told.PublicKeySHA256) != 64 ||
		told.NotAfter == nil || !told.NotAfter.Time.Equal(expiry) {
		t.Errorf("the credential is told as %+v, want one that expires at %s", told, expiry)
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.PushProviders = []api.ResourceName{"google", "vmware"} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange", "google vmware")
	if got := s.configuration().PushProviders[1]; got.CNS == nil || got.CNS.ClientCertificate != config.CNSClientOwn || got.Proxy == nil {
		t.Errorf("the configuration has %+v", got)
	}
	if mounts := s.mounts(); !strings.Contains(mounts, "push/vmware/client.pfx") {
		t.Errorf("the client certificate is not mounted: %s", mounts)
	}

	change(s, &corev1.Secret{}, "cns", func(o *corev1.Secret) {
		o.Data["signing.pfx"] = authority.PFX("AW Cloud Notification - aTest", "s3cret", time.Now().Add(-time.Hour))
	})
	expect(metav1.ConditionFalse, api.ReasonExpired, "has expired: replace it")
	change(s, provider, "vmware", func(o *api.PushProvider) { o.Spec.Proxy.URL = "http://localhost:3128" })
	expect(metav1.ConditionFalse, api.ReasonLoopbackRefused, "spec.proxy.url")
}
