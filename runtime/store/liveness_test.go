package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// TestSilentUsersAreTaken: those who are to be asked to register again are found among all others, and nobody else is.
func TestSilentUsersAreTaken(t *testing.T) {
	t.Parallel()
	const lost = time.Hour
	now := at(24 * time.Hour)
	for name, c := range map[string]struct {
		// arrange changes a user whose subscription was made a day ago and has been heard of a moment ago.
		arrange string
		silent  bool
	}{
		"heard of a moment ago":                      {``, false},
		"not heard of for long":                      {`UPDATE user_state SET last_callback = '2020-01-01'`, true},
		"never heard of":                             {`UPDATE user_state SET last_callback = NULL`, true},
		"never heard of, but subscribed just now":    {`UPDATE user_state SET last_callback = NULL; UPDATE subscriptions SET promoted_at = 'infinity'`, false},
		"not heard of, but asked already":            {`UPDATE user_state SET last_callback = NULL, nudge_at = 'infinity'`, false},
		"not heard of, and asked long ago":           {`UPDATE user_state SET last_callback = NULL, nudge_at = '2020-01-01'`, true},
		"not heard of, but without a living device":  {`UPDATE user_state SET last_callback = NULL; UPDATE devices SET retired_at = now()`, false},
		"not heard of, but never registered":         {`UPDATE user_state SET last_callback = NULL; UPDATE users SET registered_at = NULL; DELETE FROM subscriptions`, false},
		"without a subscription":                     {`UPDATE user_state SET last_callback = '2020-01-01'; DELETE FROM subscriptions`, true},
		"heard of, refused for long":                 {`UPDATE subscriptions SET refused_at = '2020-01-01'`, true},
		"heard of, refused just now":                 {`UPDATE subscriptions SET refused_at = 'infinity'`, false},
		"heard of, refused for long, asked already":  {`UPDATE subscriptions SET refused_at = '2020-01-01'; UPDATE user_state SET nudge_at = 'infinity'`, false},
		"heard of, refused before it was subscribed": {`UPDATE subscriptions SET refused_at = '2020-01-01', state = 'retired'`, false},
		"not heard of, and refused for long":         {`UPDATE user_state SET last_callback = NULL; UPDATE subscriptions SET refused_at = '2020-01-01'`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user, _ := subscribed(t, schema.Store, "alice")
			schema.Exec(t, `UPDATE user_state SET last_callback = $1`, now)
			if c.arrange != "" {
				schema.Exec(t, c.arrange)
			}
			taken, err := schema.Store.TakeSilent(t.Context(), now, lost, 10)
			if err != nil {
				t.Fatal(err)
			}
			if silent := len(taken) == 1 && taken[0].UserID == user.ID && taken[0].UserHash == hash("alice"); silent != c.silent || len(taken) > 1 {
				t.Errorf("taken are %v, want it to be %t that the user is", taken, c.silent)
			}
			if again, err := schema.Store.TakeSilent(t.Context(), now, lost, 10); err != nil || len(again) > 0 {
				t.Errorf("at the same time it is taken again: %v, %v", again, err)
			}
		})
	}
}

// TestEverybodySilentGetsATurn: who cannot be asked is in nobody's way, and who was never asked comes first.
func TestEverybodySilentGetsATurn(t *testing.T) {
	t.Parallel()
	const users, unreachable, limit = 30, 20, 5
	schema := storetest.New(t)
	var reachable []int64
	for i := range users {
		user, _ := subscribed(t, schema.Store, fmt.Sprint("user", i))
		if i >= unreachable {
			reachable = append(reachable, user.ID)
		}
	}
	schema.Exec(t, `UPDATE devices SET retired_at = now() WHERE user_id < $1`, reachable[0])
	last := reachable[users-unreachable-1]
	schema.Exec(t, `UPDATE user_state SET nudge_at = '2020-01-01' WHERE user_id < $1`, last)
	take := func(s *store.Store) (ids []int64) {
		t.Helper()
		taken, err := s.TakeSilent(t.Context(), at(24*time.Hour), time.Hour, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range taken {
			ids = append(ids, user.UserID)
		}
		return ids
	}
	first := take(schema.Store)
	if len(first) != limit || !slices.Contains(first, last) {
		t.Errorf("the first are %v, want %d and %d among them", first, limit, last)
	}
	all := slices.Sorted(slices.Values(append(first, take(schema.Open(t))...)))
	if !slices.Equal(all, reachable) {
		t.Errorf("taken were %v, want %v", all, reachable)
	}
}
