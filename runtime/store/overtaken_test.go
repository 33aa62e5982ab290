package store_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// Two replicas may tell the same user's phones at once, each a count that it has asked for, and neither knows which of the two
// the phones got last. Whoever records second finds out, and the count is owed anew.
func TestWhoTellsAtTheSameTimeAsAnotherReplicaOwesTheCountAnew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// between is what the other replica records between our look and our record, nil for nothing.
		between   func(store.Target, int64) *store.Told
		overtaken bool
	}{
		"nobody else": {func(store.Target, int64) *store.Told { return nil }, false},
		"another count": {func(seen store.Target, userID int64) *store.Told {
			return &store.Told{UserID: userID, Unread: new(1), Revision: seen.Revision}
		}, true},
		"the same count": {func(seen store.Target, userID int64) *store.Told {
			return &store.Told{UserID: userID, Unread: new(2), Revision: seen.Revision}
		}, true},
		"a mail without a count": {func(seen store.Target, userID int64) *store.Told {
			return &store.Told{UserID: userID, Delivered: true, Revision: seen.Revision}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			s := schema.Store
			user, _ := subscribed(t, s, "alice")
			claim := writeOne(t, s, badge(user.ID, ours, 0))
			seen := target(t, s, user.ID)
			if told := test.between(seen, user.ID); told != nil {
				if overtaken, err := s.Finish(t.Context(), store.Ending{Told: told}); err != nil || overtaken {
					t.Fatalf("the other replica: overtaken %t, %v", overtaken, err)
				}
			}
			ending := store.Ending{
				Told:        &store.Told{UserID: user.ID, At: at(time.Second), Unread: new(2), Delivered: true, Revision: seen.Revision, Generation: 1, Owner: ours},
				Completions: []store.Completion{{Claim: claim, Owner: ours, Finished: true, Now: at(time.Second)}},
			}
			overtaken, err := s.Finish(t.Context(), ending)
			if err != nil || overtaken != test.overtaken {
				t.Fatalf("overtaken: %t, %v; want %t", overtaken, err, test.overtaken)
			}
			owed := takeOwed(t, s, user.ID, ours, 2*time.Second)
			if (len(owed) == 1 && owed[0].Kind == store.Badge && owed[0].Interrupted()) != test.overtaken {
				t.Errorf("owed are %+v, want the count, in doubt: %t", owed, test.overtaken)
			}
		})
	}
}

// If each took the count from the other, they would go on for ever.
func TestACountThatTheOtherReplicaIsAtIsLeftToIt(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	seen := target(t, s, user.ID)
	told := func(owner store.Owner) *store.Told {
		return &store.Told{UserID: user.ID, At: at(time.Second), Unread: new(1), Revision: seen.Revision, Generation: 1, Owner: owner}
	}
	theirClaim := writeOne(t, s, badge(user.ID, theirs, 0))
	if overtaken, err := s.Finish(t.Context(), store.Ending{Told: told(ours)}); err != nil || overtaken {
		t.Fatalf("the first: overtaken %t, %v", overtaken, err)
	}
	if overtaken, err := s.Finish(t.Context(), store.Ending{Told: told(ours)}); err != nil || overtaken {
		t.Fatalf("overtaken while the other replica has the count: owed anew %t, %v", overtaken, err)
	}
	ending := store.Ending{Told: told(theirs), Completions: []store.Completion{{Claim: theirClaim, Owner: theirs, Finished: true, Now: at(time.Second)}}}
	if overtaken, err := s.Finish(t.Context(), ending); err != nil || !overtaken {
		t.Fatalf("the other replica: overtaken %t, %v", overtaken, err)
	}
	if owed := takeOwed(t, s, user.ID, theirs, 2*time.Second); len(owed) != 1 {
		t.Errorf("owed are %+v, want the count", owed)
	}
}
