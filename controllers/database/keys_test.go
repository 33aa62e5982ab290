package database_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// What uses keys is written by the runtime: the operator has to find all of it.
func TestWhatUsesKeysIsFoundInWhatARuntimeLeaves(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	phone := x.Phone("alice@example.com", push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	server, err := database.Open(t.Context(), database.Options{
		URL: func() (secret.Value, error) { return secret.FromString(x.Schema.Database.URL), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	look := func(now time.Time) database.KeyUse {
		t.Helper()
		use, err := server.KeyUse(t.Context(), database.Names{Schema: x.Schema.Name}, 0, now)
		if err != nil {
			t.Fatal(err)
		}
		return use
	}
	wantSubscriptions := func(use database.KeyUse, signed, replaced int) {
		t.Helper()
		if use.Signed[1] != signed || use.Replaced[1] != replaced {
			t.Errorf("signed are %v, replaced %v", use.Signed, use.Replaced)
		}
	}

	use := look(time.Now())
	want := []database.Replica{{KEKs: []int{1}, WebhookKeys: []int{1}, SealingKEK: 1, SealingWebhook: 1}}
	if !reflect.DeepEqual(use.Replicas, want) {
		t.Errorf("the replicas are %+v, want %+v", use.Replicas, want)
	}
	wantSubscriptions(use, 1, 0)
	sealed, err := x.Schema.Store.SealedUnder(t.Context(), 1)
	if err != nil || !sealed || use.Sealed[1] < 2 || len(use.Sealed) != 1 { // the user's pair and the subscription's key, at least
		t.Errorf("sealed are %v; the runtime says %t (%v)", use.Sealed, sealed, err)
	}
	for _, row := range []string{
		"UPDATE users SET previous_key_id = 'k', previous_private_key = int4send(7) || 'x'",
		"INSERT INTO key_pool (key_id, public_key, private_key, created_at) VALUES ('k', '', int4send(8) || 'x', now())",
	} {
		x.Schema.Exec(t, row)
	}
	if use = look(time.Now()); use.Sealed[7] != 1 || use.Sealed[8] != 1 {
		t.Errorf("sealed are %v", use.Sealed)
	}

	// A subscription that was replaced counts for an hour, a replica that left not at all.
	phone.Extra = map[string]any{"forceSubscription": true}
	runtimetest.MustRegister(t, phone, 7)
	wantSubscriptions(look(time.Now()), 1, 1)
	wantSubscriptions(look(time.Now().Add(61*time.Minute)), 1, 0)
	if err := replica.Stop(); err != nil {
		t.Fatal(err)
	}
	if use = look(time.Now()); len(use.Replicas) != 0 {
		t.Errorf("a replica that left is among %+v", use.Replicas)
	}
}
