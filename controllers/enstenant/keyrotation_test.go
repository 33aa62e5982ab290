package enstenant

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// numbered are keys of these numbers.
func numbered(numbers ...int) map[int]secret.Value {
	keys := map[int]secret.Value{}
	for _, number := range numbers {
		keys[number] = secret.New(config.NewKey())
	}
	return keys
}

// needing are the check values of keys on record that are not retired.
func needing(numbers ...int) map[int]string {
	needed := map[int]string{}
	for _, number := range numbers {
		needed[number] = "check"
	}
	return needed
}

func replica(kek, webhook int, has ...int) database.Replica {
	return database.Replica{KEKs: has, WebhookKeys: has, SealingKEK: kek, SealingWebhook: webhook}
}

func TestAKeyIsSpareOnlyWhenNobodyNeedsItEver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys           []int
		needed         map[int]string
		use            database.KeyUse
		keks, webhooks []int
	}{
		"the only key": {keys: []int{1}, needed: needing(1)},
		"all have moved on": {
			keys: []int{1, 2}, needed: needing(2),
			use:  database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2), replica(2, 2, 2)}, Sealed: map[int]int{2: 9}, Signed: map[int]int{2: 3}},
			keks: []int{1}, webhooks: []int{1},
		},
		"the KEK is not retired": {
			keys: []int{1, 2}, needed: needing(1, 2),
			use:      database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Sealed: map[int]int{2: 9}},
			webhooks: []int{1},
		},
		"a row came late": {
			keys: []int{1, 2}, needed: needing(2),
			use:      database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Sealed: map[int]int{1: 1}},
			webhooks: []int{1},
		},
		"a replica comes back that has not noticed": {
			keys: []int{1, 2}, needed: needing(2),
			use: database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2), replica(1, 1, 1, 2)}},
		},
		"a replica lacks the new keys": {
			keys: []int{1, 2}, needed: needing(1),
			use: database.KeyUse{Replicas: []database.Replica{replica(1, 1, 1, 2), replica(1, 1, 1)}},
		},
		"a replica that has just started has not decided": {
			keys: []int{1, 2}, needed: needing(2),
			use:  database.KeyUse{Replicas: []database.Replica{replica(0, 0, 1, 2)}},
			keks: []int{1}, webhooks: []int{1},
		},
		"nobody has sealed with anything yet": {
			keys: []int{1, 2}, needed: needing(),
			webhooks: []int{1},
		},
		"a key in between was passed over": {
			keys: []int{1, 2, 3}, needed: needing(1, 3),
			use:  database.KeyUse{Replicas: []database.Replica{replica(3, 3, 1, 2, 3)}, Signed: map[int]int{1: 4}},
			keks: []int{2}, webhooks: []int{2},
		},
		"a key in between is sealed with": {
			keys: []int{1, 2, 3}, needed: needing(2),
			use:  database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}},
			keks: []int{1},
		},
		"a subscription has been replaced lately": {
			keys: []int{1, 2}, needed: needing(2),
			use:  database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Replaced: map[int]int{1: 1}},
			keks: []int{1},
		},
		"no pods run": {
			keys: []int{1, 2}, needed: needing(1),
			use:      database.KeyUse{Sealed: map[int]int{1: 2}},
			webhooks: []int{1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keks, webhooks := spareKeys(config.Keys{KEKs: numbered(c.keys...), Webhooks: numbered(c.keys...)}, c.needed, c.use)
			if !slices.Equal(keks, c.keks) || !slices.Equal(webhooks, c.webhooks) {
				t.Errorf("spare are the KEKs %v and the webhook keys %v, want %v and %v", keks, webhooks, c.keks, c.webhooks)
			}
		})
	}
}

func TestARotationSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		needed map[int]string
		use    database.KeyUse
		status metav1.ConditionStatus
		reason string
		tells  string
		soon   bool
	}{
		"a replica that lacks the keys": {
			needing(1), database.KeyUse{Replicas: []database.Replica{replica(1, 1, 1), replica(1, 1, 1, 2)}},
			"Unknown", v1alpha1.ReasonReplicasLackKeys, "yet: 1 of 2", true,
		},
		"a replica that seals with the old one": {
			needing(1, 2), database.KeyUse{Replicas: []database.Replica{replica(1, 1, 1, 2), replica(2, 2, 1, 2)}},
			"Unknown", v1alpha1.ReasonSealedUnderOlderKey, "still seal under an older key-encryption key: 1", true,
		},
		"rows": {
			needing(1, 2), database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Sealed: map[int]int{1: 7, 2: 1}},
			"Unknown", v1alpha1.ReasonSealedUnderOlderKey, "Rows under an older key-encryption key: 7", true,
		},
		"calls under way": {
			needing(1, 2), database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Sealed: map[int]int{2: 1}},
			"Unknown", v1alpha1.ReasonSealedUnderOlderKey, "for some minutes more", true,
		},
		"any replica at all": {
			needing(1), database.KeyUse{Sealed: map[int]int{1: 3}},
			"Unknown", v1alpha1.ReasonSealedUnderOlderKey, "No replica is heard of", true,
		},
		"the pods to be replaced, and phones": {
			needing(2), database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Signed: map[int]int{1: 5}},
			"Unknown", v1alpha1.ReasonOlderKeyMounted, "when no pod mounts it: kek-1. Subscriptions whose URL an older webhook key signed: 5", true,
		},
		"a webhook key that is lost": {
			needing(2), database.KeyUse{Replicas: []database.Replica{replica(2, 2, 1, 2)}, Signed: map[int]int{3: 5}},
			"False", v1alpha1.ReasonKeysLost, "lacks webhook-3, which signed the URLs of 5 subscriptions", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := config.Keys{KEKs: numbered(1, 2), Webhooks: numbered(1, 2)}
			kept := &corev1.Secret{Data: map[string][]byte{"kek-1": {}, "kek-2": {}, "webhook-1": {}, "webhook-2": {}}}
			keks, webhooks := spareKeys(keys, c.needed, c.use)
			stand := rotation{keys: tenantKeys{kept: kept, made: keys, all: keys}, use: c.use, spareKEKs: keks, spareWebhooks: webhooks}
			found, soon := stand.judge()
			if found.Status != c.status || found.Reason != c.reason || !strings.Contains(found.Message, c.tells) || soon != c.soon {
				t.Errorf("it says %s %s %q, soon %t", found.Status, found.Reason, found.Message, soon)
			}
		})
	}
}
