package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestUserIsCreatedWithAPairOfThePool(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	if _, err := s.UserByHash(t.Context(), hash("alice")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("got error %v, want %v", err, store.ErrNotFound)
	}
	if _, err := s.CreateUser(t.Context(), hash("alice"), start); !errors.Is(err, store.ErrPoolEmpty) {
		t.Fatalf("with an empty pool: got error %v, want %v", err, store.ErrPoolEmpty)
	}
	for _, name := range []string{"first", "second"} {
		if err := s.AddKey(t.Context(), pair(name), start); err != nil {
			t.Fatal(err)
		}
	}
	alice, err := s.CreateUser(t.Context(), hash("alice"), start)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := s.CreateUser(t.Context(), hash("bob"), start)
	if err != nil {
		t.Fatal(err)
	}
	if alice.ID == bob.ID || alice.Keys.ID != "first" || bob.Keys.ID != "second" || string(alice.Keys.Private) != "sealed first" {
		t.Errorf("got %+v and %+v", alice, bob)
	}
	found, err := s.UserByHash(t.Context(), hash("alice"))
	if err != nil || found.ID != alice.ID || found.Hash != hash("alice") || string(found.Keys.Public) != "public first" || found.MailboxID != nil {
		t.Errorf("got %+v, %v", found, err)
	}
	if users, err := s.CountUsers(t.Context()); err != nil || users != 2 {
		t.Errorf("got %d users, %v", users, err)
	}
	if keys, err := s.CountKeys(t.Context()); err != nil || keys != 0 {
		t.Errorf("got %d pairs left, %v", keys, err)
	}
}

func TestCreatorsOfOneUserGetTheSameRecord(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	const creators = 8
	for i := range creators / 2 { // the others make their pairs on the spot
		if err := schema.Store.AddKey(t.Context(), pair(fmt.Sprint(i)), start); err != nil {
			t.Fatal(err)
		}
	}
	users := make([]store.User, creators)
	other := schema.Open(t)
	var creating sync.WaitGroup
	for i := range creators {
		creating.Go(func() {
			s := schema.Store
			if i%2 == 1 {
				s = other
			}
			var err error
			if users[i], err = s.CreateUser(t.Context(), hash("alice"), start); errors.Is(err, store.ErrPoolEmpty) {
				users[i], err = s.CreateUserWith(t.Context(), hash("alice"), pair(fmt.Sprintf("spot %d", i)), start)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	for _, user := range users {
		if user.ID != users[0].ID || user.Keys.ID != users[0].Keys.ID || string(user.Keys.Private) != string(users[0].Keys.Private) {
			t.Errorf("one creator got %+v, another %+v", users[0], user)
		}
	}
	if got := rows(t, schema); got != "users 1, user_state 1" {
		t.Errorf("got %s", got)
	}
}

func TestCreatorsOfManyUsersShareNoPair(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	const users = 30
	for i := range users {
		if err := schema.Store.AddKey(t.Context(), pair(fmt.Sprint(i)), start); err != nil {
			t.Fatal(err)
		}
	}
	other := schema.Open(t)
	var creating sync.WaitGroup
	for i := range users {
		creating.Go(func() {
			s := schema.Store
			if i%2 == 1 {
				s = other
			}
			// All that are left may be in the hands of others for the moment.
			_, err := s.CreateUser(t.Context(), hash(fmt.Sprint(i)), start)
			for errors.Is(err, store.ErrPoolEmpty) && t.Context().Err() == nil {
				_, err = s.CreateUser(t.Context(), hash(fmt.Sprint(i)), start)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	if got := storetest.Value[int](t, schema, `SELECT count(DISTINCT key_id) FROM users`); got != users {
		t.Errorf("%d users have %d different pairs", users, got)
	}
}

func TestOneReplicaAtATimeRefillsThePool(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	other := schema.Open(t)
	nothing := func(context.Context) error { return nil }
	boom := errors.New("boom")
	err := schema.Store.RefillKeys(t.Context(), func(ctx context.Context) error {
		if err := other.RefillKeys(ctx, nothing); !errors.Is(err, store.ErrBusy) {
			t.Errorf("the other replica: got error %v, want %v", err, store.ErrBusy)
		}
		// Another tenant in the same database is not held up.
		if err := storetest.On(t, schema.Database, "neighbour").Store.RefillKeys(ctx, nothing); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got error %v, want %v", err, boom)
	}
	if err := other.RefillKeys(t.Context(), nothing); err != nil {
		t.Errorf("after the first one failed: %v", err)
	}
}

func TestUsersThatNeverRegisteredAreRemoved(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	subscribed(t, s, "registered")
	for i := range 5 {
		newUser(t, s, fmt.Sprint("stale ", i))
	}
	if _, err := s.CreateUserWith(t.Context(), hash("fresh"), pair("fresh"), at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{2, 2, 1, 0} {
		if dropped, err := s.DropStaleUsers(t.Context(), at(time.Minute), 2); err != nil || dropped != want {
			t.Errorf("dropped %d, %v, want %d", dropped, err, want)
		}
	}
	for _, name := range []string{"registered", "fresh"} {
		if _, err := s.UserByHash(t.Context(), hash(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
