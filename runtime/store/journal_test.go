package store_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// Two replicas.
var ours, theirs = store.Owner{1}, store.Owner{2}

const lease = 90 * time.Second

func entry(key store.Key, owner store.Owner, when time.Duration) store.Entry {
	return store.Entry{Key: key, Generation: 1, Owner: owner, Now: at(when), LeaseUntil: at(when + lease)}
}

func mail(userID int64, item string, owner store.Owner, when time.Duration) store.Entry {
	return entry(store.Key{UserID: userID, Kind: store.NewMail, Item: item}, owner, when)
}

func badge(userID int64, owner store.Owner, when time.Duration) store.Entry {
	return entry(store.Key{UserID: userID, Kind: store.Badge}, owner, when)
}

func write(t testing.TB, s *store.Store, entries ...store.Entry) []store.Claim {
	t.Helper()
	claims, err := s.Write(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// writeOne wants to claim what it writes.
func writeOne(t testing.TB, s *store.Store, e store.Entry) store.Claim {
	t.Helper()
	claims := write(t, s, e)
	if len(claims) != 1 || claims[0].Key != e.Key {
		t.Fatalf("got claims %+v, want one of %+v", claims, e.Key)
	}
	return claims[0]
}

func complete(t testing.TB, s *store.Store, c store.Completion) {
	t.Helper()
	if _, err := s.Finish(t.Context(), store.Ending{Completions: []store.Completion{c}}); err != nil {
		t.Fatal(err)
	}
}

func takeOwed(t testing.TB, s *store.Store, userID int64, owner store.Owner, when time.Duration) []store.Claim {
	t.Helper()
	claims, err := s.TakeOwed(t.Context(), userID, owner, at(when), at(when+lease))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// owed is what a callback learns of the journal.
func owed(t testing.TB, s *store.Store, attempt store.Attempt, when time.Duration) bool {
	t.Helper()
	found, err := s.Subscription(t.Context(), attempt.UserID, attempt.Generation, at(when))
	if err != nil {
		t.Fatal(err)
	}
	return found.Owed
}

// journal shows a user's rows.
func journal(t testing.TB, schema *storetest.Schema, userID int64) string {
	t.Helper()
	const query = `SELECT coalesce(string_agg(format('%s/%s r%s a%s %s%s%s', kind, item, revision, attempts, done,
CASE WHEN lease_owner IS NOT NULL THEN ' leased' END, CASE WHEN done_at IS NOT NULL THEN ' done' END), '; ' ORDER BY kind, item), '')
FROM pending WHERE user_id = $1`
	return storetest.Value[string](t, schema, query, userID)
}

func TestNewMailIsClaimedOnceForEachItem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// between happens between the first and the second writing.
		between func(*testing.T, *store.Store, store.Claim)
		second  time.Duration
		owner   store.Owner
		claimed bool
	}{
		"a repeat while the first is at it":                     {nil, time.Second, ours, false},
		"a repeat at another replica":                           {nil, time.Second, theirs, false},
		"a repeat just before the lease ends":                   {nil, lease - time.Microsecond, theirs, false},
		"a repeat when the lease ends: the first may have died": {nil, lease, theirs, true},
		"a repeat after it was done": {func(t *testing.T, s *store.Store, c store.Claim) {
			complete(t, s, store.Completion{Claim: c, Owner: ours, Finished: true, Now: at(1)})
		}, lease + time.Minute, theirs, false},
		"a repeat just after it failed": {func(t *testing.T, s *store.Store, c store.Claim) {
			complete(t, s, store.Completion{Claim: c, Owner: ours, Failed: true, Now: at(time.Second)})
		}, time.Minute, theirs, false},
		"a repeat a minute after it failed": {func(t *testing.T, s *store.Store, c store.Claim) {
			complete(t, s, store.Completion{Claim: c, Owner: ours, Failed: true, Now: at(time.Second)})
		}, time.Minute + time.Second, theirs, true},
		"a repeat after it was given back untried": {func(t *testing.T, s *store.Store, c store.Claim) {
			complete(t, s, store.Completion{Claim: c, Owner: ours, Now: at(time.Second)})
		}, time.Second, theirs, true},
		"a repeat after it was forgotten": {func(t *testing.T, s *store.Store, c store.Claim) {
			complete(t, s, store.Completion{Claim: c, Owner: ours, Finished: true, Now: at(1)})
			if _, err := s.DropDone(t.Context(), at(2*time.Hour), 10); err != nil {
				t.Fatal(err)
			}
		}, 2 * time.Hour, theirs, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user, _ := subscribed(t, schema.Store, "alice")
			first := writeOne(t, schema.Store, mail(user.ID, "A", ours, 0))
			if first.Revision != 1 || first.Attempts != 0 || len(first.Done) != 0 || !first.CreatedAt.Equal(start) {
				t.Errorf("the first claim is %+v", first)
			}
			if test.between != nil {
				test.between(t, schema.Store, first)
			}
			claims := write(t, schema.Store, mail(user.ID, "A", test.owner, test.second), mail(user.ID, "B", test.owner, test.second))
			want := []string{"B"}
			if test.claimed {
				want = []string{"A", "B"}
			}
			var got []string
			for _, c := range claims {
				got = append(got, c.Item)
			}
			if !slices.Equal(got, want) {
				t.Errorf("claimed are %v, want %v", got, want)
			}
		})
	}
}

func TestDevicesThatWereToldOfAMailAreNotToldAgain(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	claim := writeOne(t, s, mail(user.ID, "A", ours, 0))
	claim.Done = []int64{3, 5}
	complete(t, s, store.Completion{Claim: claim, Owner: ours, Failed: true, Now: at(1)})
	again := writeOne(t, s, mail(user.ID, "A", theirs, 2*time.Minute))
	if !slices.Equal(again.Done, []int64{3, 5}) || again.Attempts != 1 || again.Revision <= claim.Revision || !again.CreatedAt.Equal(start) {
		t.Errorf("a repeat after a failure that told two devices: got %+v", again)
	}
}

func TestBadgeIsAskedForAgain(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	first := writeOne(t, s, badge(user.ID, ours, 0))
	second := writeOne(t, s, badge(user.ID, theirs, time.Second))
	if second.Revision <= first.Revision || !second.CreatedAt.Equal(start) {
		t.Errorf("asked for again while the first is at it: got %+v after %+v", second, first)
	}
	// What the first one told may be out of date.
	complete(t, s, store.Completion{Claim: first, Owner: ours, Finished: true, Now: at(2 * time.Second)})
	if got := journal(t, schema, user.ID); got != "2/ r2 a0 {0} leased" {
		t.Errorf("after the first one's end: %s", got)
	}
	second.Done = []int64{7, 8}
	complete(t, s, store.Completion{Claim: second, Owner: theirs, Failed: true, Now: at(3 * time.Second)})
	complete(t, s, store.Completion{Claim: second, Owner: theirs, Finished: true, Now: at(3 * time.Second)})
	if got := journal(t, schema, user.ID); got != "2/ r2 a1 {7,8}" {
		t.Errorf("after the second one's failure, which cannot be ended twice: %s", got)
	}
	third := writeOne(t, s, badge(user.ID, ours, time.Minute))
	if third.Attempts != 1 || len(third.Done) != 0 {
		t.Errorf("after a failure: got %+v; all devices are to be told the new count, and the failures count on", third)
	}
	third.Done = []int64{7}
	complete(t, s, store.Completion{Claim: third, Owner: ours, Finished: true, Now: at(time.Minute)})
	fourth := writeOne(t, s, badge(user.ID, ours, time.Hour))
	if fourth.Revision <= third.Revision || fourth.Attempts != 0 || len(fourth.Done) != 0 || !fourth.CreatedAt.Equal(at(time.Hour)) {
		t.Errorf("after it was done: got %+v", fourth)
	}
}

func TestOwedWorkIsTakenUp(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, attempt := subscribed(t, s, "alice")
	claim := writeOne(t, s, mail(user.ID, "A", ours, 0))
	if owed(t, s, attempt, lease-1000) || len(takeOwed(t, s, user.ID, theirs, lease-1000)) != 0 {
		t.Error("work is taken up while its lease runs")
	}
	if !owed(t, s, attempt, lease) {
		t.Error("nothing is owed when the lease has ended")
	}
	taken := takeOwed(t, s, user.ID, theirs, lease)
	if len(taken) != 1 || taken[0].Key != claim.Key || owed(t, s, attempt, lease) {
		t.Fatalf("taken up is %+v", taken)
	}
	// The replica that was slow, not dead, comes too late.
	claim.Done = []int64{1}
	complete(t, s, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: at(lease)})
	if got := journal(t, schema, user.ID); got != fmt.Sprintf("1/A r%d a0 {0} leased", taken[0].Revision) {
		t.Errorf("after the end of a lost lease: %s", got)
	}
}

func TestUnfinishedWorkStaysOwed(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := subscribed(t, s, "alice")
	claim := writeOne(t, s, mail(user.ID, "A", ours, 0))
	claim.Done = []int64{3, 5}
	complete(t, s, store.Completion{Claim: claim, Owner: ours, Failed: true, Now: start})
	if owed(t, s, attempt, time.Minute-1000) || !owed(t, s, attempt, time.Minute) {
		t.Error("failed work is not left alone for exactly a minute")
	}
	again := takeOwed(t, s, user.ID, theirs, time.Minute)
	if len(again) != 1 || again[0].Attempts != 1 || !slices.Equal(again[0].Done, []int64{3, 5}) || !again[0].CreatedAt.Equal(start) {
		t.Fatalf("after a failure that told two devices: %+v", again)
	}
	complete(t, s, store.Completion{Claim: again[0], Owner: theirs, Now: at(time.Minute)}) // given back untried
	again = takeOwed(t, s, user.ID, ours, time.Minute)
	if len(again) != 1 || again[0].Attempts != 1 {
		t.Fatalf("given back untried: %+v", again)
	}
	complete(t, s, store.Completion{Claim: again[0], Owner: ours, Finished: true, Now: at(time.Minute)})
	if owed(t, s, attempt, 24*time.Hour) || len(takeOwed(t, s, user.ID, ours, 24*time.Hour)) != 0 {
		t.Error("finished work is owed")
	}
}

func TestWorkIsOwedToItsUserOnly(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := subscribed(t, s, "alice")
	neighbour, _ := subscribed(t, s, "bob")
	write(t, s, mail(neighbour.ID, "A", ours, 0))
	if owed(t, s, attempt, time.Hour) || len(takeOwed(t, s, user.ID, ours, time.Hour)) != 0 {
		t.Error("another user's work is owed to this one")
	}
}

// A replica that loses its lease to itself must not give back what it works on anew.
func TestOldClaimEndsNothingAfterTheSameReplicaTookItUpAgain(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user, _ := subscribed(t, schema.Store, "alice")
	old := writeOne(t, schema.Store, mail(user.ID, "A", ours, 0))
	if taken := takeOwed(t, schema.Store, user.ID, ours, lease); len(taken) != 1 {
		t.Fatalf("taken up is %+v", taken)
	}
	complete(t, schema.Store, store.Completion{Claim: old, Owner: ours, Failed: true, Now: at(lease)})
	if claims := write(t, schema.Store, mail(user.ID, "A", theirs, lease+time.Second)); len(claims) != 0 {
		t.Errorf("another replica could claim it as well: %+v", claims)
	}
}

func TestFailedWorkIsTriedLessAndLessOften(t *testing.T) {
	t.Parallel()
	for attempts, minutes := range map[int]time.Duration{0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 5: 32, 6: 60, 9: 60, 40: 60, 30_000: 60} {
		t.Run(fmt.Sprint(attempts, " tries before"), func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user, _ := subscribed(t, schema.Store, "alice")
			claim := writeOne(t, schema.Store, mail(user.ID, "A", ours, 0))
			schema.Exec(t, `UPDATE pending SET attempts = $1`, attempts)
			complete(t, schema.Store, store.Completion{Claim: claim, Owner: ours, Failed: true, Now: start})
			if got := takeOwed(t, schema.Store, user.ID, ours, minutes*time.Minute-1000); len(got) != 0 {
				t.Errorf("it is tried again within %d minutes", minutes)
			}
			if got := takeOwed(t, schema.Store, user.ID, ours, minutes*time.Minute); len(got) != 1 || got[0].Attempts != attempts+1 {
				t.Errorf("after %d minutes: got %+v", minutes, got)
			}
		})
	}
}

func TestOwedWorkIsTakenUpOldestFirstAndBounded(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	for i := range 60 {
		write(t, s, mail(user.ID, fmt.Sprintf("%02d", 99-i), ours, time.Duration(i)*time.Millisecond))
	}
	var items []string
	for _, claim := range takeOwed(t, s, user.ID, theirs, time.Hour) {
		items = append(items, claim.Item)
	}
	slices.Sort(items)
	if len(items) != 50 || items[0] != "50" {
		t.Errorf("taken up are %v", items)
	}
	if rest := takeOwed(t, s, user.ID, theirs, time.Hour); len(rest) != 10 {
		t.Errorf("then %d", len(rest))
	}
}

func TestTwoReplicasNeverHoldTheSameClaim(t *testing.T) {
	t.Parallel()
	const rounds, callers = 20, 10
	schema := storetest.New(t)
	replicas := []*store.Store{schema.Store, schema.Open(t)}
	user, _ := subscribed(t, schema.Store, "alice")
	for round := range rounds {
		var mu sync.Mutex
		claimed := 0
		var calling sync.WaitGroup
		for i := range callers {
			calling.Go(func() {
				owner := store.Owner{byte(i % 2)}
				claims, err := replicas[i%2].Write(t.Context(), []store.Entry{mail(user.ID, fmt.Sprint(round), owner, 0)})
				if err != nil {
					t.Error(err)
				}
				if round%2 == 1 { // the same for work that a dead replica left
					var taken []store.Claim
					taken, err = replicas[i%2].TakeOwed(t.Context(), user.ID, owner, at(lease), at(2*lease))
					claims = append(claims, taken...)
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				claimed += len(claims)
			})
		}
		calling.Wait()
		want := 1
		if round%2 == 1 {
			want = 3 // the item, and then it and the one of the round before, both left lying
		}
		if claimed != want {
			t.Errorf("round %d: %d claims, want %d", round, claimed, want)
		}
		schema.Exec(t, `UPDATE pending SET done_at = now() WHERE item <> $1 OR $2`, fmt.Sprint(round), round%2 == 1)
	}
}

// Several callers may ask for the same at once; who gets the claim must be able to end it.
func TestCallersOfOneBatchWithTheSameKeyGetOneClaimBetweenThem(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	const callers = 50
	claims := make([][]store.Claim, callers)
	release := locked(t, schema, "pending")
	var calling, started sync.WaitGroup
	for i := range 2 { // keep the next statement from being sent until all have come
		calling.Go(func() { write(t, s, badge(user.ID, ours, time.Duration(i))) })
	}
	waiting(t, schema, 2)
	started.Add(callers)
	for i := range callers {
		calling.Go(func() {
			started.Done()
			var err error
			if claims[i], err = s.Write(t.Context(), []store.Entry{mail(user.ID, "A", store.Owner{byte(i)}, 0)}); err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	release()
	calling.Wait()
	held := 0
	for i := range callers {
		for _, claim := range claims[i] {
			held++
			complete(t, s, store.Completion{Claim: claim, Owner: store.Owner{byte(i)}, Finished: true, Now: at(1)})
		}
	}
	if held != 1 {
		t.Errorf("%d callers hold the claim", held)
	}
	if got := journal(t, schema, user.ID); !strings.HasPrefix(got, "1/A r1 a0 {} done; ") {
		t.Errorf("after its end: %s", got)
	}
}

func TestDoneWorkIsRememberedForAnHour(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	for i := range 5 {
		claim := writeOne(t, s, mail(user.ID, fmt.Sprint(i), ours, 0))
		complete(t, s, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: at(time.Minute)})
	}
	write(t, s, mail(user.ID, "owed", ours, 0))
	if dropped, err := s.DropDone(t.Context(), at(time.Hour), 10); err != nil || dropped != 0 {
		t.Errorf("within the hour: dropped %d, %v", dropped, err)
	}
	for _, want := range []int64{3, 2, 0} {
		if dropped, err := s.DropDone(t.Context(), at(time.Hour+2*time.Minute), 3); err != nil || dropped != want {
			t.Errorf("dropped %d, %v, want %d", dropped, err, want)
		}
	}
	if got := journal(t, schema, user.ID); got != "1/owed r1 a0 {} leased" {
		t.Errorf("left are %s", got)
	}
}

func TestKindsHaveNames(t *testing.T) {
	t.Parallel()
	for kind, want := range map[store.EntryKind]string{
		store.NewMail: "new_mail", store.Badge: "badge", store.Resubscribe: "resubscribe", 0: "unknown",
	} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is %s, want %s", kind, got, want)
		}
	}
}
