package controllers_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

func TestAnAccessKeyOfAmazonIsJudgedAndItsIdIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	provider := &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "amazon"},
		Spec: api.PushProviderSpec{SNS: &api.SNSProvider{
			PlatformApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/APNS/mail",
			Credentials: api.SNSCredentials{AccessKey: &api.SNSAccessKey{
				AccessKeyIDSecretRef:     api.SecretKeyReference{Name: "amazon", Key: "access-key-id"},
				SecretAccessKeySecretRef: api.SecretKeyReference{Name: "amazon-secret", Key: "secret-access-key"},
			}},
		}},
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
	expect(metav1.ConditionFalse, api.ReasonNotFound, "Secret amazon does not exist")
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "amazon"}, StringData: map[string]string{"access-key-id": "AKIAIOSFODNN7EXAMPLE"}})
	expect(metav1.ConditionFalse, api.ReasonNotFound, "Secret amazon-secret does not exist")
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "amazon-secret"}, StringData: map[string]string{"secret-access-key": "swordfish"}})
	expect(metav1.ConditionFalse, api.ReasonInvalid, "The value secret-access-key of Secret amazon-secret cannot be used: want a secret access key")
	change(s, &corev1.Secret{}, "amazon-secret", func(o *corev1.Secret) {
		o.Data["secret-access-key"] = []byte("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	})
	expect(metav1.ConditionTrue, "", "")
	if got := fetch(s, &api.PushProvider{}, "amazon").Status.Credential; got == nil || got.Identity != "AKIAIOSFODNN7EXAMPLE" {
		t.Errorf("the credential is told as %+v", got)
	}
	change(s, provider, "amazon", func(o *api.PushProvider) { o.Spec.SNS.STSURL = "https://localhost:1" })
	expect(metav1.ConditionFalse, api.ReasonLoopbackRefused, "spec.sns.stsURL")
}

func TestATenantMayReachPhonesThroughAmazonWithARole(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::123456789012:role/ens"
	s := newStage(t)
	tenant := s.provisioned()
	s.create(&api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "amazon"},
		Spec: api.PushProviderSpec{SNS: &api.SNSProvider{
			PlatformApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/GCM/mail",
			Credentials:            api.SNSCredentials{WebIdentity: &api.SNSWebIdentity{RoleARN: role}},
		}},
	})
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.PushProviders = []api.ResourceName{"amazon", "apple"} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantRendered("exchange", "amazon apple")
	if got := s.configuration().PushProviders[0].SNS; got == nil || got.RoleARN != role {
		t.Errorf("the configuration has %+v", got)
	}
	if mounts := s.mounts(); !strings.Contains(mounts, "push/amazon/web-identity-token") || !strings.Contains(mounts, "sts.amazonaws.com") {
		t.Errorf("no token is mounted for Amazon: %s", mounts)
	}
	if got := fetch(s, &api.PushProvider{}, "amazon").Status.Credential; got == nil || got.Identity != role {
		t.Errorf("the credential is told as %+v", got)
	}
}
