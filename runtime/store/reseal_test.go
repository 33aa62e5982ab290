package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// users are more than are sealed anew in one transaction.
const users = 130

// restUnderFirstKEK adds users with a subscription each. What is sealed is the name of the user, after the number 1.
func restUnderFirstKEK(t *testing.T, schema *storetest.Schema) {
	t.Helper()
	for i := range users {
		name := fmt.Sprint("user", i)
		pair := credential.KeyPair{ID: name, Public: []byte("public"), Private: numbered(1, name)}
		user, err := schema.Store.CreateUserWith(t.Context(), hash(name), pair, start)
		if err != nil {
			t.Fatal(err)
		}
		attempt := begin(t, schema.Store, user.ID, "phone")
		schema.Exec(t, `UPDATE subscriptions SET key_sealed = $1 WHERE generation = $2`, numbered(1, name), attempt.Generation)
	}
}

func TestWhatRestsIsSealedAnewUnderTheNewestKEK(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	restUnderFirstKEK(t, schema)
	if err := s.AddKey(t.Context(), credential.KeyPair{ID: "pool", Public: []byte("public"), Private: numbered(1, "pool")}, start); err != nil {
		t.Fatal(err)
	}
	if replaced, err := s.ReplaceKey(t.Context(), hash("user0"), start); !replaced || err != nil {
		t.Fatal(err)
	}
	if err := s.AddKey(t.Context(), credential.KeyPair{ID: "pool", Public: []byte("public"), Private: numbered(1, "pool")}, start); err != nil {
		t.Fatal(err)
	}
	anew := store.Reseal{
		KEK: 2,
		KeyPair: func(id string, sealed []byte) ([]byte, error) {
			if !slices.Equal(sealed, numbered(1, id)) {
				return nil, fmt.Errorf("asked to seal %q under the name of %s", sealed, id)
			}
			return numbered(2, id), nil
		},
		SubscriptionKey: func(_, _ int64, sealed []byte) ([]byte, error) { return numbered(2, string(sealed[4:])), nil },
	}
	if used, err := s.SealedUnder(t.Context(), 1); err != nil || !used {
		t.Errorf("under KEK 1: %t, %v", used, err)
	}
	if done, err := s.Reseal(t.Context(), anew); err != nil || done != 2*users+1 {
		t.Errorf("%d rows were sealed anew, %v, want %d", done, err, 2*users+1)
	}
	if used, err := s.SealedUnder(t.Context(), 1); err != nil || used {
		t.Errorf("under KEK 1: %t, %v", used, err)
	}
	if done, err := s.Reseal(t.Context(), anew); err != nil || done != 0 {
		t.Errorf("a second time %d rows were sealed anew, %v", done, err)
	}
	if inUse, err := s.WebhookKeysInUse(t.Context()); err != nil || inUse[0] != users {
		t.Errorf("webhook keys in use: %v, %v", inUse, err)
	}
}

// TestARowThatDoesNotOpenHoldsUpNoOther has rows at the start, at the end of a chunk and in the last table that do not
// open.
func TestARowThatDoesNotOpenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	restUnderFirstKEK(t, schema)
	broken := []string{"user0", "user99"}
	seal := func(name string) ([]byte, error) {
		if slices.Contains(broken, name) {
			return nil, credential.ErrSealBroken
		}
		return numbered(2, name), nil
	}
	anew := store.Reseal{
		KEK:             2,
		KeyPair:         func(id string, _ []byte) ([]byte, error) { return seal(id) },
		SubscriptionKey: func(_, _ int64, sealed []byte) ([]byte, error) { return seal(string(sealed[4:])) },
	}
	done, err := s.Reseal(t.Context(), anew)
	if !errors.Is(err, store.ErrDamaged) || !errors.Is(err, credential.ErrSealBroken) || !strings.Contains(err.Error(), "4 rows stay as they are, the first: the key pair of user ") {
		t.Errorf("the damage was told as %v", err)
	}
	if want := 2 * (users - len(broken)); done != want {
		t.Errorf("%d rows were sealed anew, want %d", done, want)
	}
	if used, err := s.SealedUnder(t.Context(), 1); err != nil || !used {
		t.Errorf("under KEK 1, which the damaged rows name: %t, %v", used, err)
	}
	broken = nil // say, a restored backup of the Secret
	if done, err := s.Reseal(t.Context(), anew); err != nil || done != 4 {
		t.Errorf("mended, %d rows were sealed anew, %v, want 4", done, err)
	}
}

func TestResealingEndsAtAFaultThatIsNotOfARow(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	for _, name := range []string{"one", "two"} {
		if err := s.AddKey(t.Context(), credential.KeyPair{ID: name, Public: []byte("public"), Private: numbered(1, name)}, start); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	done, err := s.Reseal(t.Context(), store.Reseal{KEK: 2, KeyPair: func(string, []byte) ([]byte, error) {
		asked++
		return nil, credential.ErrUndecided
	}})
	if !errors.Is(err, credential.ErrUndecided) || errors.Is(err, store.ErrDamaged) || done != 0 || asked != 1 {
		t.Errorf("%d rows were sealed anew after %d attempts, %v", done, asked, err)
	}
}
