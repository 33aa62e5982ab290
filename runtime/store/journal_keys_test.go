package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// Exchange's ids are long. The journal's key holds a hash of them, and the id itself is there as long as somebody may have to
// fetch the mail.
func TestAMailIsKnownByItsItemIDWhateverItsLength(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"short": 5, "as long as a hash": 16, "just longer": 17, "Exchange's": 152, "longer than an index row": 20_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			s := schema.Store
			user, _ := subscribed(t, s, "alice")
			item := strings.Repeat("A", length-1)
			first := writeOne(t, s, mail(user.ID, item+"1", ours, 0))
			if claims := write(t, s, mail(user.ID, item+"1", theirs, time.Second), mail(user.ID, item+"2", theirs, time.Second)); len(claims) != 1 || claims[0].Item != item+"2" {
				t.Fatalf("claimed are %+v, want the second mail", claims)
			}
			complete(t, s, store.Completion{Claim: first, Owner: ours, Now: at(2 * time.Second)})
			taken := takeOwed(t, s, user.ID, theirs, 3*time.Second)
			if len(taken) != 1 || taken[0].Item != item+"1" {
				t.Fatalf("taken up are %+v, want the first mail", taken)
			}
			complete(t, s, store.Completion{Claim: taken[0], Owner: theirs, Finished: true, Now: at(4 * time.Second)})
			if claims := write(t, s, mail(user.ID, item+"1", ours, time.Hour)); len(claims) != 0 {
				t.Errorf("a mail that was told is claimed again: %+v", claims)
			}
			const kept = `SELECT count(*) FROM pending WHERE done_at IS NOT NULL AND item_id IS NOT NULL`
			if rows := storetest.Value[int](t, schema, kept); rows != 0 {
				t.Error("the item id stays although the mail has been told")
			}
		})
	}
}

// A replica of the version before writes the item id itself into the key.
func TestARowOfAnOlderReplicaIsTakenUpAndEnded(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user, _ := subscribed(t, schema.Store, "alice")
	item := strings.Repeat("A", 152)
	schema.Exec(t, `INSERT INTO pending (user_id, kind, item, generation, created_at) VALUES ($1, 1, $2, 1, $3)`, user.ID, item, start)
	claim := takeOwed(t, schema.Store, user.ID, ours, time.Second)[0]
	if claim.Item != item {
		t.Errorf("the item is %q", claim.Item)
	}
	complete(t, schema.Store, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: at(2 * time.Second)})
	if owed(t, schema.Store, store.Attempt{UserID: user.ID, Generation: 1}, time.Hour) {
		t.Error("it is still owed")
	}
	if left := takeOwed(t, schema.Store, user.ID, ours, time.Hour); len(left) != 0 {
		t.Errorf("still owed are %+v", left)
	}
}

func TestWhatWasToldAndItsClaimsAreRecordedTogether(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, attempt := subscribed(t, s, "alice")
	claim := writeOne(t, s, mail(user.ID, "A", ours, 0))
	told := &store.Told{UserID: user.ID, At: at(time.Second), Unread: new(1), Delivered: true, Heard: at(time.Millisecond)}
	if _, err := s.Finish(t.Context(), store.Ending{Told: told, Completions: []store.Completion{{Claim: claim, Owner: ours, Finished: true, Now: at(time.Second)}}}); err != nil {
		t.Fatal(err)
	}
	standing, err := s.Standing(t.Context(), user.Hash, attempt.DeviceID)
	if err != nil {
		t.Fatal(err)
	}
	if want := at(time.Millisecond).Truncate(time.Microsecond); !standing.LastCallback.Equal(want) {
		t.Errorf("Exchange was last heard of at %v, want %v", standing.LastCallback, want)
	}
	if got := journal(t, schema, user.ID); !strings.HasSuffix(got, " done") {
		t.Errorf("the journal holds %s", got)
	}
	if got := target(t, s, user.ID); text(got.Unread) != "1" {
		t.Errorf("the unread count is %s", text(got.Unread))
	}
}
