package controllers_test

import (
	"crypto/sha256"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// keyring opens and seals as a pod would, with what is mounted.
func (s *stage) keyring() (*credential.Keyring, *config.Loaded) {
	s.t.Helper()
	loaded, err := s.load()
	if err != nil {
		s.t.Fatal(err)
	}
	ring, err := credential.NewKeyring(loaded.Config.Tenant.ID, loaded.Keys)
	if err != nil {
		s.t.Fatal(err)
	}
	return ring, loaded
}

func TestATenantThatIsAppliedAgainAuthenticatesTheURLsThatExchangeHolds(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	s.recordKEK("acme-keys", 1)
	s.exec(aReplica, []int{1}, 1)
	s.ask("ticket 1") // not to be done again by a tenant that finds it done
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")
	s.wantMounted(from("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2"))
	s.exec(aUser)
	token := fetch(s, &corev1.Secret{}, "acme-api-token").Data["token"]
	before, loaded := s.keyring()
	if err := before.SealWith(1, 1); err != nil {
		t.Fatal(err)
	}
	const password = "pass-W0rd!"
	sealed, err := before.SealIntoURL(loaded.Config.Server.CallbackURL, 1, 1, credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString("alice"), Password: secret.FromString(password),
	}, secret.Value{})
	if err != nil {
		t.Fatal(err)
	}
	s.exec(aSubscription, 1, 1)
	s.exec(`UPDATE subscriptions SET key_sealed = $1, f_hash = $2`, sealed.Key, sealed.FillerHash[:])

	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	s.collectGarbage()
	s.provisioned()
	s.ask("ticket 1")
	s.quiet()
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")

	after, again := s.keyring()
	if again.Config.Server.CallbackURL != loaded.Config.Server.CallbackURL || again.Config.Tenant != loaded.Config.Tenant {
		t.Errorf("it is reached at %s as %+v, before at %s as %+v",
			again.Config.Server.CallbackURL, again.Config.Tenant, loaded.Config.Server.CallbackURL, loaded.Config.Tenant)
	}
	if _, accepted := again.Tokens.Accept(string(token), time.Now()); !accepted {
		t.Error("the phones' token is not accepted any more")
	}
	address, err := url.Parse(sealed.URL.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	hook, err := after.ParseWebhook(address.RawQuery)
	if err != nil {
		t.Fatalf("a post at the URL that Exchange holds is not taken for ours: %v", err)
	}
	var key, filler []byte
	session := s.connect(again.DatabaseURL.RevealString())
	const look = `SELECT key_sealed, f_hash FROM subscriptions WHERE user_id = $1 AND generation = $2 AND state = 'active'`
	if err := session.QueryRow(t.Context(), look, hook.UserID, hook.Generation).Scan(&key, &filler); err != nil {
		t.Fatalf("the subscription is gone: %v", err)
	}
	if [sha256.Size]byte(filler) != hook.FillerHash() {
		t.Error("the subscription is another")
	}
	opened, err := after.OpenWebhook(hook, credential.Resting{Key: key})
	if err != nil || opened.Password.RevealString() != password {
		t.Errorf("the credential does not come back: %v", err)
	}
}
