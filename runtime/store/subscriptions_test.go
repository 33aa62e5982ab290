package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestGenerationsRise(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	other := schema.Open(t)
	last := int64(0)
	for i := range 6 {
		s := schema.Store
		if i%2 == 1 {
			s = other
		}
		generation, err := s.NextGeneration(t.Context())
		if err != nil || generation <= last {
			t.Errorf("got %d after %d, %v", generation, last, err)
		}
		last = generation
	}
}

// Each step is <verb> <attempt>, attempts being a, b and c in the order of their generations.
func TestPromotionsInAnyOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		steps    []string
		promoted map[string]bool
		states   string
	}{
		"the only one": {[]string{"begin a", "promote a"}, map[string]bool{"a": true}, "active"},
		"a newer one": {
			[]string{"begin a", "promote a", "begin b", "promote b"}, map[string]bool{"a": true, "b": true}, "retired active",
		},
		"the older one finishes after the newer one": {
			[]string{"begin a", "begin b", "promote b", "promote a"}, map[string]bool{"a": false, "b": true}, "retired active",
		},
		"the older one finishes first": {
			[]string{"begin a", "begin b", "promote a", "promote b"}, map[string]bool{"a": true, "b": true}, "retired active",
		},
		"a newer one that is still pending stays so": {
			[]string{"begin a", "begin b", "promote a"}, map[string]bool{"a": true}, "active pending",
		},
		"one whose answer was lost is retired by the next": {
			[]string{"begin a", "begin b", "begin c", "promote c"}, map[string]bool{"c": true}, "retired retired active",
		},
		"the oldest finishes last": {
			[]string{"begin a", "begin b", "begin c", "promote b", "promote c", "promote a"},
			map[string]bool{"a": false, "b": true, "c": true}, "retired retired active",
		},
		"one between an active newer one and a pending newest": {
			[]string{"begin a", "begin b", "begin c", "promote b", "promote a"},
			map[string]bool{"a": false, "b": true}, "retired active pending",
		},
		"one that was abandoned": {[]string{"begin a", "promote a", "begin b", "abandon b"}, map[string]bool{"a": true}, "active"},
		"one that was abandoned and had succeeded after all": {
			[]string{"begin a", "promote a", "begin b", "abandon b", "promote b"}, map[string]bool{"a": true, "b": false}, "retired",
		},
		"an active one cannot be abandoned": {[]string{"begin a", "promote a", "abandon a"}, map[string]bool{"a": true}, "active"},
		"one promoted twice":                {[]string{"begin a", "promote a", "promote a"}, map[string]bool{"a": false}, "active"},
		"a lost one":                        {[]string{"begin a", "promote a", "lose a"}, map[string]bool{"a": true}, "retired"},
		"after a lost one": {
			[]string{"begin a", "promote a", "lose a", "begin b", "promote b"}, map[string]bool{"a": true, "b": true}, "retired active",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user := newUser(t, schema.Store, "alice")
			attempts, promoted := map[string]store.Attempt{}, map[string]bool{}
			for _, step := range test.steps {
				var verb, which string
				_, _ = fmt.Sscan(step, &verb, &which)
				var err error
				switch attempt := attempts[which]; verb {
				case "begin":
					attempts[which] = begin(t, schema.Store, user.ID, "phone "+which)
				case "promote":
					_, promoted[which] = promote(t, schema.Store, attempt)
				case "abandon":
					err = schema.Store.Abandon(t.Context(), user.ID, attempt.Generation)
				case "lose":
					_, err = schema.Store.Lost(t.Context(), user.ID, attempt.Generation)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if fmt.Sprint(promoted) != fmt.Sprint(test.promoted) {
				t.Errorf("promoted are %v, want %v", promoted, test.promoted)
			}
			if got := states(t, schema, user.ID); got != test.states {
				t.Errorf("the generations are %s, want %s", got, test.states)
			}
			// Whoever has proven the mailbox is attached, whichever attempt won.
			want := 0
			for range promoted {
				want++
			}
			if got := storetest.Value[int](t, schema, `SELECT count(*) FROM devices`); got != want {
				t.Errorf("%d devices are attached, want %d", got, want)
			}
		})
	}
}

func TestRegistrationsOnTwoReplicasAtOnceLeaveOneActive(t *testing.T) {
	t.Parallel()
	const rounds, attempts = 10, 6
	schema := storetest.New(t)
	replicas := []*store.Store{schema.Store, schema.Open(t)}
	for round := range rounds {
		user := newUser(t, schema.Store, fmt.Sprint("user ", round))
		var registering sync.WaitGroup
		for i := range attempts {
			s := replicas[i%len(replicas)]
			registering.Go(func() {
				attempt := begin(t, s, user.ID, fmt.Sprint("phone ", i))
				promote(t, s, attempt)
			})
		}
		registering.Wait()
		const newest = `SELECT state FROM subscriptions WHERE user_id = $1 ORDER BY generation DESC LIMIT 1`
		if got := storetest.Value[string](t, schema, newest, user.ID); got != "active" {
			t.Errorf("the newest is %s", got)
		}
		const others = `SELECT count(*) FROM subscriptions WHERE user_id = $1 AND state = 'retired'`
		if got := storetest.Value[int](t, schema, others, user.ID); got != attempts-1 {
			t.Errorf("the generations are %s", states(t, schema, user.ID))
		}
		if target, err := schema.Store.Target(t.Context(), user.ID); err != nil || len(target.Devices) != attempts {
			t.Errorf("%d devices are attached, %v", len(target.Devices), err)
		}
	}
}

func TestPromotionThatFailsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*store.Promotion)
		want   error
	}{
		"another mailbox":               {func(p *store.Promotion) { p.MailboxID = []byte("another") }, store.ErrOtherMailbox},
		"no mailbox":                    {func(p *store.Promotion) { p.MailboxID = nil }, store.ErrOtherMailbox},
		"too many devices":              {func(p *store.Promotion) { p.MaxDevices = 1 }, store.ErrTooManyDevices},
		"a user who has gone":           {func(p *store.Promotion) { p.UserID++ }, store.ErrNotFound},
		"a device the database refuses": {func(p *store.Promotion) { p.Device.Locale = "\x00" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			user, first := subscribed(t, schema.Store, "alice")
			attempt := begin(t, schema.Store, user.ID, "tablet")
			before := rows(t, schema)
			p := promotion(attempt)
			test.change(&p)
			ref, promoted, err := schema.Store.Promote(t.Context(), p, at(time.Hour))
			if err == nil || test.want != nil && !errors.Is(err, test.want) || promoted {
				t.Errorf("got ref %d, promoted %t, error %v, want %v", ref, promoted, err, test.want)
			}
			if after := rows(t, schema); after != before {
				t.Errorf("there were %s, now %s", before, after)
			}
			if got := states(t, schema, user.ID); got != "active pending" {
				t.Errorf("the generations are %s", got)
			}
			// The same for Attach.
			if _, err := schema.Store.Attach(t.Context(), p.UserID, p.MailboxID, p.Device, p.MaxDevices, at(time.Hour)); err == nil ||
				test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("attaching: got error %v, want %v", err, test.want)
			}
			if after := rows(t, schema); after != before {
				t.Errorf("after attaching there are %s, were %s", after, before)
			}
			standing, err := schema.Store.Standing(t.Context(), hash("alice"), "tablet")
			if err != nil || standing.Generation != first.Generation || standing.DeviceKnown {
				t.Errorf("got %+v, %v", standing, err)
			}
		})
	}
}

func TestFirstMailboxIsNotRecordedByAFailedRegistration(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user := newUser(t, schema.Store, "alice")
	_, err := schema.Store.Attach(t.Context(), user.ID, []byte("mallory's"), device("phone"), 0, start)
	if !errors.Is(err, store.ErrTooManyDevices) {
		t.Fatal(err)
	}
	if _, err := schema.Store.Attach(t.Context(), user.ID, nil, device("phone"), maxDevices, start); !errors.Is(err, store.ErrOtherMailbox) {
		t.Errorf("a device without any proof: got error %v, want %v", err, store.ErrOtherMailbox)
	}
	subscription := begin(t, schema.Store, user.ID, "phone")
	if _, promoted := promote(t, schema.Store, subscription); !promoted {
		t.Error("not promoted")
	}
	found, err := schema.Store.UserByHash(t.Context(), hash("alice"))
	if err != nil || string(found.MailboxID) != string(mailbox) {
		t.Errorf("the mailbox is %q, %v", found.MailboxID, err)
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	standing := func(device string) store.Standing {
		t.Helper()
		standing, err := s.Standing(t.Context(), hash("alice"), device)
		if err != nil {
			t.Fatal(err)
		}
		return standing
	}
	if _, err := s.Standing(t.Context(), hash("alice"), "phone"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an unknown user: got error %v, want %v", err, store.ErrNotFound)
	}
	user := newUser(t, s, "alice")
	if got := standing("phone"); !reflect.DeepEqual(got, store.Standing{}) {
		t.Errorf("a user who has a key only: got %+v", got)
	}
	attempt := begin(t, s, user.ID, "phone")
	if got := standing("phone"); !reflect.DeepEqual(got, store.Standing{}) {
		t.Errorf("with a pending attempt: got %+v", got)
	}
	ref, _ := promote(t, s, attempt)
	got := standing("phone")
	if !got.PromotedAt.Equal(start) || got.Fresh(start, time.Hour) {
		t.Errorf("before the first callback: got %+v", got)
	}
	if !got.RegisteredAt.Equal(start) {
		t.Errorf("registered at %v, want %v", got.RegisteredAt, start)
	}
	got.PromotedAt, got.RegisteredAt = time.Time{}, time.Time{}
	want := store.Standing{
		Subscribed: true, Generation: attempt.Generation, SubscriptionID: fmt.Sprint("subscription ", attempt.Generation),
		DeviceID: "phone", Endpoint: "exchange", AuthType: credential.Basic, DeviceKnown: true, DeviceRef: ref,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := s.MarkAlive(t.Context(), store.Sign{UserID: user.ID, At: at(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	got = standing("tablet")
	if got.DeviceKnown || got.DeviceRef != 0 || !got.Subscribed || !got.LastCallback.Equal(at(time.Minute)) {
		t.Errorf("as another device sees it: got %+v", got)
	}
	if !got.Fresh(at(31*time.Minute-1), 30*time.Minute) || got.Fresh(at(31*time.Minute), 30*time.Minute) {
		t.Error("a callback is not fresh for exactly as long as asked")
	}
}

func TestLostSubscriptionIsLostOnce(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := subscribed(t, s, "alice")
	for _, want := range []bool{true, false} {
		if lost, err := s.Lost(t.Context(), user.ID, attempt.Generation); err != nil || lost != want {
			t.Errorf("lost %t, %v, want %t", lost, err, want)
		}
	}
	standing, err := s.Standing(t.Context(), user.Hash, "phone")
	if err != nil || standing.Subscribed || standing.Generation != 0 || !standing.DeviceKnown {
		t.Errorf("got %+v, %v", standing, err)
	}
}

func TestSubscriptionIsFoundByUserAndGeneration(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user := newUser(t, s, "alice")
	attempt := begin(t, s, user.ID, "phone")
	look := func(userID, generation int64) store.Subscription {
		t.Helper()
		found, err := s.Subscription(t.Context(), userID, generation, start)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for name, key := range map[string][2]int64{
		"another user": {user.ID + 1, attempt.Generation}, "another generation": {user.ID, attempt.Generation + 1}, "zeros": {0, 0},
	} {
		if got := look(key[0], key[1]); got.Found || got.Key != nil || got.State != "" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	pending := look(user.ID, attempt.Generation)
	if !pending.CreatedAt.Equal(start) {
		t.Errorf("it was made at %v", pending.CreatedAt)
	}
	pending.CreatedAt = time.Time{}
	want := store.Subscription{
		Found: true, UserHash: hash("alice"), State: store.Pending, FillerHash: attempt.FillerHash, Key: attempt.Key,
		DeviceID: "phone", Endpoint: "exchange", AuthType: credential.Basic,
	}
	if !reflect.DeepEqual(pending, want) {
		t.Errorf("pending: got %+v, want %+v", pending, want)
	}
	promote(t, s, attempt)
	active := look(user.ID, attempt.Generation)
	if active.State != store.Active || active.SubscriptionID != fmt.Sprint("subscription ", attempt.Generation) ||
		string(active.MailboxID) != string(mailbox) {
		t.Errorf("active: got %+v", active)
	}
	promote(t, s, begin(t, s, user.ID, "phone"))
	if retired := look(user.ID, attempt.Generation); !retired.Found || retired.State != store.Retired {
		t.Errorf("retired: got %+v", retired)
	}
}

func TestStaleSubscriptionsAreForgottenButTheActiveOne(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	promote(t, s, begin(t, s, user.ID, "phone"))
	begin(t, s, user.ID, "tablet")
	if err := s.DropStaleSubscriptions(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	if got := states(t, schema, user.ID); got != "retired active pending" {
		t.Errorf("before their time: %s", got)
	}
	// What Exchange posts for one that has just been replaced may be news, however old it is.
	schema.Exec(t, `UPDATE subscriptions SET promoted_at = $1 WHERE state = 'active'`, at(time.Minute))
	if err := s.DropStaleSubscriptions(t.Context(), at(time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := states(t, schema, user.ID); got != "retired active pending" {
		t.Errorf("right after another took their place: %s", got)
	}
	if err := s.DropStaleSubscriptions(t.Context(), at(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := states(t, schema, user.ID); got != "active" {
		t.Errorf("after their time: %s", got)
	}
}

// Exchange's first post may be quicker than the answer to Subscribe.
func TestSignOfLifeBeforeThePromotionCounts(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user := newUser(t, schema.Store, "alice")
	attempt := begin(t, schema.Store, user.ID, "phone")
	if err := schema.Store.MarkAlive(t.Context(), store.Sign{UserID: user.ID, At: at(time.Second)}); err != nil {
		t.Fatal(err)
	}
	promote(t, schema.Store, attempt)
	standing, err := schema.Store.Standing(t.Context(), hash("alice"), "phone")
	if err != nil || !standing.LastCallback.Equal(at(time.Second)) {
		t.Errorf("got %+v, %v", standing, err)
	}
}
