package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestNothingIsOwedToUsersWhoHaveGone(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	if claims := write(t, s, mail(user.ID+1, "A", ours, 0), mail(user.ID, "A", ours, 0)); len(claims) != 1 || claims[0].UserID != user.ID {
		t.Errorf("got %+v", claims)
	}
	if claims := write(t, s); len(claims) != 0 {
		t.Errorf("nothing written, but claimed are %+v", claims)
	}
}

func TestWorkRacesTheLastUnregister(t *testing.T) {
	t.Parallel()
	const rounds, writers = 30, 6
	schema := storetest.New(t)
	replicas := []*store.Store{schema.Store, schema.Open(t)}
	for round := range rounds {
		name := fmt.Sprint("user ", round)
		user, _ := subscribed(t, schema.Store, name)
		var ending []store.Completion
		for item := 'z'; item >= 'a'; item-- { // on disk the other way round than in the index
			claim := writeOne(t, schema.Store, mail(user.ID, string(item), ours, 0))
			ending = append(ending, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: start})
		}
		ref := target(t, schema.Store, user.ID).Devices[0].Ref
		var racing sync.WaitGroup
		for i, work := range []func() error{
			func() error {
				_, err := replicas[0].Finish(t.Context(), store.Ending{Completions: ending})
				return err
			},
			func() error { return replicas[1].MarkAlive(t.Context(), store.Sign{UserID: user.ID, At: start}) },
			func() error {
				_, err := replicas[1].Finish(t.Context(), store.Ending{Told: &store.Told{UserID: user.ID, Unread: new(1), Badged: []int64{ref}}})
				return err
			},
			func() error { return replicas[0].RetireDevice(t.Context(), ref, "another", time.Time{}, start) },
			func() error {
				_, err := replicas[1].TakeOwed(t.Context(), user.ID, theirs, at(lease), at(2*lease))
				return err
			},
		} {
			racing.Go(func() {
				if err := work(); err != nil {
					t.Errorf("work %d: %v", i, err)
				}
			})
		}
		for i := range writers {
			racing.Go(func() {
				entries := []store.Entry{mail(user.ID, fmt.Sprint(i), ours, 0), badge(user.ID, ours, 0)}
				if _, err := replicas[i%2].Write(t.Context(), entries); err != nil {
					t.Error(err)
				}
			})
		}
		racing.Go(func() {
			if removed, err := replicas[0].RemoveDevice(t.Context(), hash(name), "phone", "", ""); err != nil || removed.Removal != store.RemovedUser {
				t.Errorf("got %d, %v", removed.Removal, err)
			}
		})
		racing.Wait()
		if got := rows(t, schema); got != "" {
			t.Fatalf("left are %s", got)
		}
	}
}

// Somebody holds a row that both the last unregister and the work wait for, in this order. When it is free, neither may
// wait for the other.
func TestWorkBehindAnUnregisterDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hold string
		work func(context.Context, *store.Store, int64, []store.Completion) error
	}{
		"remembering what was told": {"SELECT FROM devices FOR UPDATE",
			func(ctx context.Context, s *store.Store, userID int64, _ []store.Completion) error {
				_, err := s.Finish(ctx, store.Ending{Told: &store.Told{UserID: userID, Unread: new(1), Badged: []int64{1}}})
				return err
			}},
		"ending claims": {"SELECT FROM pending WHERE item = 'z' FOR UPDATE",
			func(ctx context.Context, s *store.Store, _ int64, ending []store.Completion) error {
				_, err := s.Finish(ctx, store.Ending{Completions: ending})
				return err
			}},
		"marking alive": {"SELECT FROM user_state FOR UPDATE",
			func(ctx context.Context, s *store.Store, userID int64, _ []store.Completion) error {
				return s.MarkAlive(ctx, store.Sign{UserID: userID, At: start})
			}},
		"writing more": {"SELECT FROM pending WHERE item = 'z' FOR UPDATE",
			func(ctx context.Context, s *store.Store, userID int64, _ []store.Completion) error {
				_, err := s.Write(ctx, []store.Entry{mail(userID, "a", ours, time.Hour), mail(userID, "m", ours, 0), mail(userID, "z", ours, time.Hour)})
				return err
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user, _ := subscribed(t, schema.Store, "alice")
			var ending []store.Completion
			for _, item := range []string{"z", "a"} { // on disk the other way round than in the index
				claim := writeOne(t, schema.Store, mail(user.ID, item, ours, 0))
				ending = append(ending, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: start})
			}
			holding, err := schema.Looking.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = holding.Rollback(t.Context()) }()
			if _, err := holding.Exec(t.Context(), test.hold); err != nil {
				t.Fatal(err)
			}
			var waiters sync.WaitGroup
			waiters.Go(func() {
				removed, err := schema.Store.RemoveDevice(t.Context(), user.Hash, "phone", "", "")
				if err != nil || removed.Removal != store.RemovedUser {
					t.Errorf("unregistering: got %d, %v", removed.Removal, err)
				}
			})
			waiting(t, schema, 1)
			waiters.Go(func() {
				if err := test.work(t.Context(), schema.Store, user.ID, ending); err != nil {
					t.Error(err)
				}
			})
			waiting(t, schema, 2)
			if err := holding.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			waiters.Wait()
			if got := rows(t, schema); got != "" {
				t.Errorf("left are %s", got)
			}
		})
	}
}
