package controllers_test

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// vault makes the administrator's own Secret with keys.
func (s *stage) vault(keys map[string][]byte) {
	s.t.Helper()
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vault"}, Data: keys})
}

// encrypting has the tenant use that Secret.
func encrypting(o *unstructured.Unstructured) {
	if o.GetKind() == "EnsTenant" {
		_ = unstructured.SetNestedField(o.Object, "vault", "spec", "encryption", "secretName")
	}
}

func TestKeyEncryptionKeysOfTheAdministratorsOwnAreUsedAndNeverWritten(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.vault(map[string][]byte{"kek-1": config.NewKey(), "webhook-7": []byte("not looked at"), "note": []byte("mine")})
	version := fetch(s, &corev1.Secret{}, "vault").ResourceVersion
	tenant := s.provisioned(encrypting)
	s.wantKeys("acme-keys", "webhook-1")
	mounted := from("vault", "kek-1")
	maps.Copy(mounted, from("acme-keys", "webhook-1"))
	s.wantMounted(mounted)
	s.recordKEK("vault", 1)
	s.exec(aReplica, []int{1}, 1)

	// A rotation on request makes a webhook key and nothing else.
	s.ask("ticket 1")
	s.wantKeys("acme-keys", "webhook-1", "webhook-2")
	if got := fetch(s, &corev1.Secret{}, "vault").ResourceVersion; got != version {
		t.Error("the administrator's Secret was written")
	}

	// Without its keys nothing is changed, and none are made.
	for name, c := range map[string]struct {
		data   map[string][]byte
		reason string
		tells  string
	}{
		"no KEK in it":                    {map[string][]byte{"note": []byte("mine")}, api.ReasonKeyNotFound, "has no key kek-<number>"},
		"something that is no key":        {map[string][]byte{"kek-1": []byte("c2hvcnQ=")}, api.ReasonInvalid, "kek-1: want 32 bytes in base64"},
		"another key of its number":       {map[string][]byte{"kek-1": config.NewKey()}, api.ReasonKeysLost, "kek-1 differs"},
		"the next one, and not the first": {map[string][]byte{"kek-2": config.NewKey()}, api.ReasonKeysLost, "kek-1 is missing"},
	} {
		before := fetch(s, &corev1.Secret{}, "vault").Data
		change(s, &corev1.Secret{}, "vault", func(o *corev1.Secret) { o.Data = c.data })
		found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, c.reason)
		if !strings.Contains(found.Message, c.tells) {
			t.Errorf("%s: it says %q, want %q", name, found.Message, c.tells)
		}
		change(s, &corev1.Secret{}, "vault", func(o *corev1.Secret) { o.Data = before })
		s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionTrue, "")
	}
	vault := fetch(s, &corev1.Secret{}, "vault").Data
	s.remove(&corev1.Secret{}, "vault")
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonNotFound)
	s.wantKeys("acme-keys", "webhook-1", "webhook-2")
	s.vault(vault)
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

func TestATenantMovesToKeysOfTheAdministratorsOwn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.recordKEK("acme-keys", 1)
	s.exec(aReplica, []int{1}, 1)
	s.exec(aUser)
	move := func(keks map[string][]byte) {
		t.Helper()
		if s.there(&corev1.Secret{}, "vault") {
			s.remove(&corev1.Secret{}, "vault")
		}
		s.vault(keks)
	}

	// Another key of a number that is in use.
	move(map[string][]byte{"kek-1": config.NewKey()})
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Encryption = &api.TenantEncryption{SecretName: "vault"} })
	found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonInvalid)
	if !strings.Contains(found.Message, "give yours a number above 1") {
		t.Errorf("it says %q", found.Message)
	}
	s.wantMounted(from("acme-keys", "kek-1", "webhook-1"))

	// Both are mounted, until nothing is sealed under the operator's.
	move(map[string][]byte{"kek-2": config.NewKey()})
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionTrue, "")
	both := from("acme-keys", "kek-1", "webhook-1")
	both["kek-2"] = "vault"
	s.wantMounted(both)
	s.exec(`UPDATE instances SET kek_ids = '{1,2}', sealing_kek = 2`)
	s.recordKEK("vault", 2)
	s.wantRotation(api.ReasonSealedUnderOlderKey, "Rows under an older key-encryption key: 1")
	s.exec(`UPDATE users SET private_key = int4send(2) || 'x'`)
	s.exec(`INSERT INTO meta VALUES ('kek-retired/1', '2026-03-01T09:00:00Z')`)
	s.wantRotation(api.ReasonOlderKeyMounted, "Secret acme-keys when no pod mounts it: kek-1")
	delete(both, "kek-1")
	s.wantMounted(both)
	s.rolledOut()
	s.wantKeys("acme-keys", "webhook-1")
	s.wantRotation(api.ReasonRotated, "Only the newest keys are left")

	// The administrator rotates his own, and is told when the old one may go.
	change(s, &corev1.Secret{}, "vault", func(o *corev1.Secret) { o.Data["kek-3"] = config.NewKey() })
	s.wantRotation(api.ReasonReplicasLackKeys, "1 of 1")
	s.exec(`UPDATE instances SET kek_ids = '{2,3}', sealing_kek = 3`)
	s.recordKEK("vault", 3)
	s.exec(`UPDATE users SET private_key = int4send(3) || 'x'`)
	s.exec(`INSERT INTO meta VALUES ('kek-retired/2', '2026-03-01T09:00:00Z')`)
	s.wantRotation(api.ReasonRotated, "kek-2 is not needed any more and may be removed from Secret vault")
	delete(both, "kek-2")
	both["kek-3"] = "vault"
	s.wantMounted(both)
	change(s, &corev1.Secret{}, "vault", func(o *corev1.Secret) { delete(o.Data, "kek-2") })
	s.wantRotation(api.ReasonRotated, "Only the newest keys are left")

	// Back to the operator's, which needs the key that is in use.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Encryption = nil })
	found = s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost)
	if !strings.Contains(found.Message, "spec.encryption.secretName") {
		t.Errorf("it says %q", found.Message)
	}
	third := fetch(s, &corev1.Secret{}, "vault").Data["kek-3"]
	change(s, &corev1.Secret{}, "acme-keys", func(o *corev1.Secret) { o.Data["kek-3"] = third })
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionTrue, "")
	s.wantMounted(from("acme-keys", "kek-3", "webhook-1"))
	s.ask("ticket 2")
	s.wantKeys("acme-keys", "kek-3", "kek-4", "webhook-1", "webhook-2")
}

func TestOwnKeysMustBeTheNewest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.ask("ticket 1")
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")
	s.vault(map[string][]byte{"kek-1": fetch(s, &corev1.Secret{}, "acme-keys").Data["kek-1"]})
	for secret, tells := range map[string]string{
		"vault":     "add a key with a number above 2 to Secret vault",
		"acme-keys": "name a Secret of your own",
	} {
		change(s, tenant, "acme", func(o *api.EnsTenant) {
			o.Spec.Encryption = &api.TenantEncryption{SecretName: api.ResourceName(secret)}
		})
		found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonInvalid)
		if !strings.Contains(found.Message, tells) {
			t.Errorf("with %s it says %q", secret, found.Message)
		}
	}
	s.wantMounted(from("acme-keys", "kek-1", "kek-2", "webhook-2")) // nothing was ever signed with webhook-1
}
