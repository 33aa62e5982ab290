package store_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// What came in a gap has to be looked up after each subscription, also if nothing was seen between two of them: the first
// look came before what the subscription in between was not heard of any more.
func TestEachNewSubscriptionOwesALookAtItsGap(t *testing.T) {
	t.Parallel()
	gap := store.Gap{Since: start, Seen: []store.ItemHash{store.HashItem("A")}}
	for name, between := range map[string]func(*testing.T, *store.Store, int64){
		"the same gap has been looked at before": func(t *testing.T, s *store.Store, userID int64) {
			claim := takeOwed(t, s, userID, ours, time.Second)[0]
			complete(t, s, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: at(2 * time.Second)})
		},
		"somebody died while looking at it": func(t *testing.T, s *store.Store, userID int64) {
			takeOwed(t, s, userID, theirs, time.Second)
		},
		"the look failed": func(t *testing.T, s *store.Store, userID int64) {
			claim := takeOwed(t, s, userID, ours, time.Second)[0]
			complete(t, s, store.Completion{Claim: claim, Owner: ours, Failed: true, Now: at(2 * time.Second)})
		},
		"nobody has looked yet": func(*testing.T, *store.Store, int64) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t).Store
			user := newUser(t, s, "alice")
			subscribe := func() {
				p := promotion(begin(t, s, user.ID, "phone"))
				p.CatchUp = gap
				if _, promoted, err := s.Promote(t.Context(), p, start); err != nil || !promoted {
					t.Fatalf("promoted: %t, %v", promoted, err)
				}
			}
			subscribe()
			between(t, s, user.ID)
			subscribe()
			claims := takeOwed(t, s, user.ID, ours, 3*time.Second)
			if len(claims) != 1 || claims[0].Kind != store.CatchUp || claims[0].Item != gap.String() {
				t.Fatalf("owed are %+v, want a look at the gap", claims)
			}
		})
	}
}

// A look that is under way may have come too early for the newer subscription: its end does not end what is owed.
func TestALookThatIsUnderWayDoesNotCountForANewerSubscription(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user := newUser(t, s, "alice")
	subscribe := func() {
		p := promotion(begin(t, s, user.ID, "phone"))
		p.CatchUp = store.Gap{Since: start}
		if _, _, err := s.Promote(t.Context(), p, start); err != nil {
			t.Fatal(err)
		}
	}
	subscribe()
	early := takeOwed(t, s, user.ID, ours, time.Second)[0]
	subscribe()
	complete(t, s, store.Completion{Claim: early, Owner: ours, Finished: true, Now: at(2 * time.Second)})
	if claims := takeOwed(t, s, user.ID, ours, 3*time.Second); len(claims) != 1 {
		t.Errorf("owed are %+v, want the newer subscription's look", claims)
	}
}
