package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestAClaimTellsWhetherSomebodyHadItAndDidNotEndIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		between     func(*testing.T, *store.Store, store.Claim)
		again       func(*testing.T, *store.Store, int64) []store.Claim
		interrupted bool
	}{
		"a mail whose replica died":              {nil, takeOwedLate, true},
		"a mail whose replica died twice":        {func(t *testing.T, s *store.Store, c store.Claim) { takeOwed(t, s, c.UserID, ours, lease) }, takeOwedLate, true},
		"a mail whose replica died, once more":   {nil, mailAgainLate, true},
		"a mail that was given back":             {giveBack, takeOwedLate, false},
		"a badge whose replica died":             {nil, takeOwedLate, true},
		"a badge that another replica is at":     {nil, badgeAgain, true},
		"a badge that was told":                  {finish, badgeAgain, false},
		"a badge that the same replica is asked": {nil, badgeAgainOurs, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t).Store
			user, _ := subscribed(t, s, "alice")
			e := mail(user.ID, "A", ours, 0)
			if strings.HasPrefix(name, "a badge") {
				e = badge(user.ID, ours, 0)
			}
			claim := writeOne(t, s, e)
			if claim.Interrupted() {
				t.Error("a new claim counts as interrupted")
			}
			if test.between != nil {
				test.between(t, s, claim)
			}
			again := test.again(t, s, user.ID)
			if len(again) != 1 || again[0].Interrupted() != test.interrupted {
				t.Errorf("claimed again is %+v, want interrupted %t", again, test.interrupted)
			}
		})
	}
}

func takeOwedLate(t *testing.T, s *store.Store, userID int64) []store.Claim {
	return takeOwed(t, s, userID, theirs, 3*lease)
}

func mailAgainLate(t *testing.T, s *store.Store, userID int64) []store.Claim {
	return write(t, s, mail(userID, "A", theirs, 3*lease))
}

func badgeAgain(t *testing.T, s *store.Store, userID int64) []store.Claim {
	return write(t, s, badge(userID, theirs, time.Second))
}

func badgeAgainOurs(t *testing.T, s *store.Store, userID int64) []store.Claim {
	return write(t, s, badge(userID, ours, time.Second))
}

func giveBack(t *testing.T, s *store.Store, c store.Claim) {
	complete(t, s, store.Completion{Claim: c, Owner: ours, Now: at(time.Second)})
}

func finish(t *testing.T, s *store.Store, c store.Claim) {
	complete(t, s, store.Completion{Claim: c, Owner: ours, Finished: true, Now: at(time.Second)})
}
