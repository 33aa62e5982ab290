package store_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestPoisonStandsAlone(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]string{
		"a NUL":         "AAMk\x00",
		"invalid UTF-8": "AAMk\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const callers, poisoner = 100, 57
			schema := storetest.New(t)
			user, _ := subscribed(t, schema.Store, "alice")
			release := locked(t, schema, "pending") // so that all of them meet in few statements
			var failed, claimed atomic.Int32
			var calling sync.WaitGroup
			for i := range callers {
				calling.Go(func() {
					item := fmt.Sprint(i)
					if i == poisoner {
						item = poison
					}
					claims, err := schema.Store.Write(t.Context(), []store.Entry{mail(user.ID, item, ours, 0)})
					claimed.Add(int32(len(claims)))
					if (err != nil) != (i == poisoner) {
						t.Errorf("caller %d: got error %v", i, err)
					}
					if err != nil {
						failed.Add(1)
					}
				})
			}
			waiting(t, schema, 2)
			release()
			calling.Wait()
			if failed.Load() != 1 || claimed.Load() != callers-1 {
				t.Errorf("%d failed, %d were claimed", failed.Load(), claimed.Load())
			}
			if got := storetest.Value[int](t, schema, `SELECT count(*) FROM pending`); got != callers-1 {
				t.Errorf("%d rows are in the journal", got)
			}
		})
	}
}

// A caller writes all of its entries or none.
func TestPoisonTakesItsCallersOtherEntriesAlong(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user, _ := subscribed(t, schema.Store, "alice")
	entries := []store.Entry{mail(user.ID, "good", ours, 0), mail(user.ID, "\x00", ours, 0), badge(user.ID, ours, 0)}
	if claims, err := schema.Store.Write(t.Context(), entries); err == nil || len(claims) != 0 {
		t.Errorf("got %+v, %v", claims, err)
	}
	if got := journal(t, schema, user.ID); got != "" {
		t.Errorf("written are %s", got)
	}
}

func TestEveryCallerOfABatchGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	const users = 100
	schema := storetest.New(t)
	s := schema.Store
	type known struct {
		user    store.User
		attempt store.Attempt
	}
	var all []known
	for i := range users {
		user, attempt := subscribed(t, s, fmt.Sprint(i))
		for d := range i % 3 {
			attach(t, s, user.ID, device(fmt.Sprint("device ", d)), start)
		}
		all = append(all, known{user, attempt})
	}
	var calling sync.WaitGroup
	for range 3 {
		for i, k := range all {
			calling.Go(func() {
				found, err := s.Subscription(t.Context(), k.user.ID, k.attempt.Generation, start)
				if err != nil || !found.Found || found.UserHash != k.user.Hash || found.FillerHash != k.attempt.FillerHash {
					t.Errorf("user %d: got %+v, %v", i, found, err)
				}
				if missing, err := s.Subscription(t.Context(), k.user.ID, 1_000_000, start); err != nil || missing.Found {
					t.Errorf("user %d: got %+v, %v", i, missing, err)
				}
				if got := target(t, s, k.user.ID); len(got.Devices) != 1+i%3 {
					t.Errorf("user %d has %d devices", i, len(got.Devices))
				}
				for _, e := range []store.Entry{mail(k.user.ID, "A", ours, 0), badge(k.user.ID, ours, 0)} {
					claims, err := s.Write(t.Context(), []store.Entry{e})
					if err != nil || len(claims) > 1 || len(claims) == 1 && claims[0].Key != e.Key {
						t.Errorf("user %d: got %+v, %v", i, claims, err)
					}
				}
			})
		}
	}
	calling.Wait()
}

func TestSignsOfLifeCoalesceAndNeverGoBack(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	replicas := []*store.Store{schema.Store, schema.Open(t)}
	alice, _ := subscribed(t, schema.Store, "alice")
	bob, _ := subscribed(t, schema.Store, "bob")
	const marks = 200
	release := locked(t, schema, "user_state")
	var marking sync.WaitGroup
	for i, replica := range replicas {
		var signs []store.Sign
		for n := range marks {
			if n%len(replicas) == i {
				signs = append(signs, store.Sign{UserID: alice.ID, At: at(time.Duration(n) * time.Second)})
			}
		}
		marking.Go(func() {
			if err := replica.MarkAlive(t.Context(), signs...); err != nil {
				t.Error(err)
			}
		})
	}
	waiting(t, schema, 2)
	release()
	marking.Wait()
	for _, user := range []int64{bob.ID, bob.ID + 1000} { // one of whom has gone
		if err := schema.Store.MarkAlive(t.Context(), store.Sign{UserID: user, At: at(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := schema.Store.MarkAlive(t.Context(), store.Sign{UserID: bob.ID, At: at(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{"alice": at((marks - 1) * time.Second), "bob": at(time.Hour)} {
		standing, err := schema.Store.Standing(t.Context(), hash(name), "phone")
		if err != nil || !standing.LastCallback.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", name, standing.LastCallback, err, want)
		}
	}
}

func TestCallersMayGoAway(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Write(gone, []store.Entry{mail(user.ID, "early", ours, 0)}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone before it called: got error %v", err)
	}
	release := locked(t, schema, "pending")
	leaving, leave := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	for i := range 100 {
		calling.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = leaving
			}
			_, err := s.Write(ctx, []store.Entry{mail(user.ID, fmt.Sprint(i), ours, 0)})
			if i%2 == 1 && err != nil || i%2 == 0 && err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("caller %d: got error %v", i, err)
			}
		})
	}
	waiting(t, schema, 2)
	leave() // while the database still hangs
	if _, err := s.Write(leaving, []store.Entry{mail(user.ID, "late", ours, 0)}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone while the database hangs: got error %v", err)
	}
	release()
	calling.Wait()
	const stayed = `SELECT count(*) FROM pending WHERE item ~ '[13579]$'`
	if got := storetest.Value[int](t, schema, stayed); got != 50 {
		t.Errorf("%d of the 50 who stayed are in the journal", got)
	}
	if got := storetest.Value[int](t, schema, `SELECT count(*) FROM pending WHERE item IN ('early', 'late')`); got != 0 {
		t.Errorf("%d of those who had gone before are in the journal", got)
	}
}

// A statement that waits for a lock is not waited for by those who come after it.
func TestAUserWhoseRowIsLockedHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	alice, _ := subscribed(t, s, "alice")
	bob, _ := subscribed(t, s, "bob")
	release := lockedBy(t, schema, fmt.Sprintf("SELECT 1 FROM users WHERE id = %d FOR UPDATE", alice.ID))
	var calling sync.WaitGroup
	calling.Go(func() {
		if _, err := s.Write(t.Context(), []store.Entry{mail(alice.ID, "A", ours, 0)}); err != nil {
			t.Error(err)
		}
	})
	waiting(t, schema, 1)
	write(t, s, mail(bob.ID, "B", ours, 0))
	release()
	calling.Wait()
}

// While the database hangs, whoever comes waits for its statement to begin no longer than for the statement itself: Exchange
// would rather hear that it has to post again.
func TestWhoHasWaitedLongForADatabaseThatHangsIsToldSo(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	release := locked(t, schema, "pending")
	var calling sync.WaitGroup
	call := func(item, want string) {
		calling.Go(func() {
			if _, err := s.Write(t.Context(), []store.Entry{mail(user.ID, item, ours, 0)}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %v, want one that says %q", item, err, want)
			}
		})
	}
	call("1", "timeout")
	waiting(t, schema, 1)
	call("2", "timeout")
	waiting(t, schema, 2)
	call("3", "others are waiting")
	calling.Wait()
	release()
}

// An answer OK to Exchange must mean that the intent is in the journal, and an error that it need not be.
func TestCloseFinishesWhatIsQueued(t *testing.T) {
	t.Parallel()
	for round := range 10 {
		schema := storetest.New(t)
		s := schema.Open(t)
		user, _ := subscribed(t, s, "alice")
		const callers = 300
		written := make([]bool, callers)
		var calling sync.WaitGroup
		release := locked(t, schema, "pending")
		for i := range callers {
			calling.Go(func() {
				_, err := s.Write(t.Context(), []store.Entry{mail(user.ID, fmt.Sprint(i), ours, 0)})
				written[i] = err == nil
			})
		}
		waiting(t, schema, 2)
		calling.Go(s.Close)
		release()
		calling.Wait()
		want := 0
		for _, ok := range written {
			if ok {
				want++
			}
		}
		if got := storetest.Value[int](t, schema, `SELECT count(*) FROM pending`); got != want {
			t.Errorf("round %d: %d callers were told that they are in the journal, %d are", round, want, got)
		}
		if _, err := s.Write(t.Context(), []store.Entry{mail(user.ID, "late", ours, 0)}); err == nil {
			t.Error("a closed store takes more")
		}
		s.Close() // again: nothing
	}
}

// Two replicas under the load of many callers with few users: whatever meets, nothing waits for itself.
func TestReplicasUnderLoadDoNotDeadlock(t *testing.T) {
	t.Parallel()
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	const users, callers, steps = 40, 300, 12
	schema := storetest.New(t)
	replicas := []*store.Store{schema.Store, schema.Open(t)}
	var userIDs []int64
	var generations []int64
	for i := range users {
		user, attempt := subscribed(t, schema.Store, fmt.Sprint(i))
		userIDs, generations = append(userIDs, user.ID), append(generations, attempt.Generation)
	}
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			random := mathrand.New(mathrand.NewPCG(seed, uint64(caller)))
			s, owner := replicas[caller%2], store.Owner{byte(caller % 2)}
			for range steps {
				i := random.IntN(users)
				if err := oneStep(t, s, random, owner, userIDs, i, generations[i]); err != nil {
					t.Errorf("caller %d: %v", caller, err)
				}
			}
		})
	}
	calling.Wait()
	if got := storetest.Value[int](t, schema, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); got != 0 {
		t.Errorf("%d deadlocks", got)
	}
}

func oneStep(t *testing.T, s *store.Store, random *mathrand.Rand, owner store.Owner, userIDs []int64, i int, generation int64) error {
	t.Helper()
	ctx, userID := t.Context(), userIDs[i]
	if err := s.MarkAlive(ctx, store.Sign{UserID: userID, At: at(time.Duration(random.Int64N(int64(time.Hour))))}); err != nil {
		return err
	}
	if found, err := s.Subscription(ctx, userID, generation, start); err != nil || !found.Found {
		return fmt.Errorf("found %t: %w", found.Found, err)
	}
	var entries []store.Entry
	for range 1 + random.IntN(4) {
		// Not of one user only, which Exchange would not post: that makes it harder.
		other := userIDs[random.IntN(len(userIDs))]
		entries = append(entries, mail(other, fmt.Sprint(random.IntN(5)), owner, 0), badge(other, owner, 0))
	}
	claims, err := s.Write(ctx, entries)
	if err != nil {
		return err
	}
	owed, err := s.TakeOwed(ctx, userID, owner, at(time.Minute), at(lease))
	if err != nil {
		return err
	}
	var completions []store.Completion
	for _, claim := range append(claims, owed...) {
		claim.Done = []int64{random.Int64N(9)}
		completions = append(completions, store.Completion{
			Claim: claim, Owner: owner, Finished: random.IntN(2) == 0, Failed: random.IntN(2) == 0, Now: start,
		})
	}
	slices.Reverse(completions)
	_, err = s.Finish(ctx, store.Ending{Completions: completions})
	return err
}
