package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func attach(t testing.TB, s *store.Store, userID int64, d store.Device, when time.Time) int64 {
	t.Helper()
	ref, err := s.Attach(t.Context(), userID, mailbox, d, maxDevices, when)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func target(t testing.TB, s *store.Store, userID int64) store.Target {
	t.Helper()
	target, err := s.Target(t.Context(), userID)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// ids are the ids of the devices that are told something.
func ids(t testing.TB, s *store.Store, userID int64) []string {
	t.Helper()
	var ids []string
	for _, d := range target(t, s, userID).Devices {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestTargetHoldsWhatTheDeviceRegisteredWith(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user := newUser(t, s, "alice")
	if got := target(t, s, user.ID); len(got.Devices) != 0 || got.Unread != nil {
		t.Errorf("a user without devices: got %+v", got)
	}
	ref := attach(t, s, user.ID, device("phone"), start)
	changed := store.Device{
		ID: "phone", Platform: push.Android, Token: "new", Provider: "fcm", AppID: "com.example.other", Policy: 4, Locale: "fr",
		DeviceLogID: "other",
	}
	if again := attach(t, s, user.ID, changed, at(time.Minute)); again != ref {
		t.Errorf("the device had ref %d and has %d now", ref, again)
	}
	attach(t, s, user.ID, device("tablet"), start)
	attach(t, s, newUser(t, s, "bob").ID, device("phone"), start)

	devices := target(t, s, user.ID).Devices
	if len(devices) != 2 {
		t.Fatalf("got %+v", devices)
	}
	if !devices[0].Registered.Equal(at(time.Minute)) || !devices[1].Registered.Equal(start) {
		t.Errorf("registered at %s and %s, want %s and %s", devices[0].Registered, devices[1].Registered, at(time.Minute), start)
	}
	changed.Ref, changed.Registered = ref, devices[0].Registered
	if devices[0] != changed {
		t.Errorf("got %+v, want %+v", devices[0], changed)
	}
	want := device("tablet")
	want.Ref, want.Registered = devices[1].Ref, devices[1].Registered
	want.PushEnvironment, want.SyncKey, want.AppVersion, want.OSVersion = "", "", "", "" // no notification needs them
	if devices[1] != want || devices[1].Ref <= ref {
		t.Errorf("got %+v, want %+v", devices[1], want)
	}
}

func TestDevicesAreBounded(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user := newUser(t, s, "alice")
	limited := func(id string) (int64, error) {
		return s.Attach(t.Context(), user.ID, mailbox, device(id), 2, at(time.Hour))
	}
	refs := map[string]int64{}
	for _, id := range []string{"one", "two", "one"} { // a device that is there already is no further one
		var err error
		if refs[id], err = limited(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if _, err := limited("three"); !errors.Is(err, store.ErrTooManyDevices) {
		t.Errorf("a third: got error %v, want %v", err, store.ErrTooManyDevices)
	}
	others := func(want int) {
		t.Helper()
		if standing, err := s.Standing(t.Context(), user.Hash, "three"); err != nil || standing.OtherDevices != want {
			t.Errorf("the third has %d others, %v, want %d", standing.OtherDevices, err, want)
		}
	}
	others(2)
	// A device whose token is dead is kept, since it may come back, but makes room.
	if err := s.RetireDevice(t.Context(), refs["one"], "token of one", time.Time{}, at(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	others(1)
	if _, err := limited("three"); err != nil {
		t.Errorf("a third where one of two is dead: %v", err)
	}
	if got := ids(t, s, user.ID); !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("the devices are %v", got)
	}
	if got := storetest.Value[int](t, schema, `SELECT count(*) FROM devices`); got > 2 {
		t.Errorf("%d rows are kept where two are allowed", got)
	}
}

func TestRemoveDevice(t *testing.T) {
	t.Parallel()
	const all = "users 1, devices 2, subscriptions 1, user_state 1, pending 1"
	for name, test := range map[string]struct {
		user, device, token, endpoint string
		arrange                       func(*testing.T, *store.Store, store.User)
		want                          store.Removal
		rows                          string
	}{
		"one of two": {
			"alice", "phone", "", "", nil, store.RemovedDevice, "users 1, devices 1, subscriptions 1, user_state 1, pending 1",
		},
		"with its token and the endpoint": {
			"alice", "phone", "token of phone", "exchange", nil, store.RemovedDevice,
			"users 1, devices 1, subscriptions 1, user_state 1, pending 1",
		},
		"the last one, and with it all of the user": {
			"alice", "phone", "", "", func(t *testing.T, s *store.Store, _ store.User) {
				t.Helper()
				if got, err := s.RemoveDevice(t.Context(), hash("alice"), "tablet", "", ""); err != nil || got.Removal != store.RemovedDevice {
					t.Fatal(got, err)
				}
			}, store.RemovedUser, "",
		},
		"the last one that is not dead": {
			"alice", "phone", "", "", func(t *testing.T, s *store.Store, user store.User) {
				t.Helper()
				for _, d := range target(t, s, user.ID).Devices {
					if d.ID == "tablet" {
						if err := s.RetireDevice(t.Context(), d.Ref, d.Token, time.Time{}, start); err != nil {
							t.Fatal(err)
						}
					}
				}
			}, store.RemovedUser, "",
		},
		"another token":     {"alice", "phone", "token of tablet", "", nil, store.UnknownDevice, all},
		"an unknown device": {"alice", "watch", "", "", nil, store.UnknownDevice, all},
		"an unknown user":   {"bob", "phone", "", "", nil, store.UnknownUser, all},
		"another endpoint":  {"alice", "phone", "", "other", nil, store.OtherEndpoint, all},
		"an endpoint, where the subscription was lost": {
			"alice", "phone", "", "other", func(t *testing.T, s *store.Store, user store.User) {
				t.Helper()
				standing, err := s.Standing(t.Context(), user.Hash, "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Lost(t.Context(), user.ID, standing.Generation); err != nil {
					t.Fatal(err)
				}
			}, store.RemovedDevice, "users 1, devices 1, subscriptions 1, user_state 1, pending 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			s := schema.Store
			user, _ := subscribed(t, s, "alice")
			attach(t, s, user.ID, device("tablet"), start)
			write(t, s, mail(user.ID, "1", ours, 0))
			if test.arrange != nil {
				test.arrange(t, s, user)
			}
			got, err := s.RemoveDevice(t.Context(), hash(test.user), test.device, test.token, test.endpoint)
			if err != nil || got.Removal != test.want {
				t.Errorf("got %d, %v, want %d", got.Removal, err, test.want)
			}
			if got := rows(t, schema); got != test.rows {
				t.Errorf("left are %q, want %q", got, test.rows)
			}
		})
	}
}

func TestRetireDeviceOnlyIfTheProviderMeansItsPresentRegistration(t *testing.T) {
	t.Parallel()
	registered := at(time.Hour)
	for name, test := range map[string]struct {
		token     string
		deadSince time.Time
		retired   bool
	}{
		"the provider named no time":                  {"token of phone", time.Time{}, true},
		"it died after the registration":              {"token of phone", registered.Add(time.Second), true},
		"it died at the moment of the registration":   {"token of phone", registered, true},
		"it died before the device registered again":  {"token of phone", registered.Add(-time.Second), false},
		"the device has another token by now":         {"token before", time.Time{}, false},
		"another token and a time after registration": {"token before", registered.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t).Store
			user := newUser(t, s, "alice")
			attach(t, s, user.ID, device("phone"), start)
			ref := attach(t, s, user.ID, device("phone"), registered)
			other := attach(t, s, user.ID, device("tablet"), start)
			if err := s.RetireDevice(t.Context(), ref, test.token, test.deadSince, at(2*time.Hour)); err != nil {
				t.Fatal(err)
			}
			want := []string{"phone", "tablet"}
			if test.retired {
				want = []string{"tablet"}
			}
			if got := ids(t, s, user.ID); !slices.Equal(got, want) {
				t.Errorf("the devices are %v, want %v", got, want)
			}
			standing, err := s.Standing(t.Context(), hash("alice"), "phone")
			if err != nil || standing.DeviceKnown == test.retired {
				t.Errorf("got %+v, %v", standing, err)
			}
			// It lives again when it registers, under the ref the logs know.
			if again := attach(t, s, user.ID, device("phone"), at(3*time.Hour)); again != ref || again == other {
				t.Errorf("it had ref %d and has %d", ref, again)
			}
			if got := ids(t, s, user.ID); len(got) != 2 {
				t.Errorf("after it registered again the devices are %v", got)
			}
		})
	}
}

func TestWhatWasToldIsRemembered(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	attach(t, s, user.ID, device("tablet"), start)
	phone, tablet := target(t, s, user.ID).Devices[0].Ref, target(t, s, user.ID).Devices[1].Ref
	neighbour, _ := subscribed(t, s, "bob")
	foreign := target(t, s, neighbour.ID).Devices[0].Ref

	// A replica of the version before goes by what it has told itself, until a newer one tells.
	if _, err := schema.Looking.Exec(t.Context(), `UPDATE devices SET badge_sent = 5`); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name                  string
		told                  store.Told
		unread, phone, tablet string
		delivered             time.Duration
	}{
		{"nothing told so far", store.Told{}, "-", "-", "-", 0},
		{"a count to one", store.Told{Unread: new(3), Badged: []int64{phone}, Delivered: true}, "3", "3", "-", 1},
		{"a count to both", store.Told{Unread: new(0), Badged: []int64{phone, tablet}, Delivered: true}, "0", "0", "0", 2},
		{"a mail without a count", store.Told{Delivered: true}, "0", "0", "0", 3},
		{"another count to one", store.Told{Unread: new(4), Badged: []int64{tablet}, Delivered: true}, "4", "-", "4", 4},
		{"the same to the other", store.Told{Unread: new(4), Badged: []int64{phone}, Delivered: true}, "4", "4", "4", 5},
		{"the same that nobody needed", store.Told{Unread: new(4)}, "4", "4", "4", 6},
		{"a count that nobody took", store.Told{Unread: new(7)}, "7", "-", "-", 7},
		{"somebody else's device", store.Told{Unread: new(8), Badged: []int64{foreign}}, "8", "-", "-", 8},
		{"both again", store.Told{Unread: new(9), Badged: []int64{phone, tablet}}, "9", "9", "9", 9},
	} {
		step.told.UserID = user.ID
		if step.delivered > 0 {
			record(t, s, step.told, step.delivered)
			if !step.told.Delivered {
				record(t, s, step.told, time.Hour)
			}
		}
		got := target(t, s, user.ID)
		if text(got.Unread) != step.unread || text(got.Devices[0].BadgeSent) != step.phone || text(got.Devices[1].BadgeSent) != step.tablet {
			t.Errorf("%s: got unread %s, badges %s and %s", step.name, text(got.Unread), text(got.Devices[0].BadgeSent), text(got.Devices[1].BadgeSent))
		}
	}
	if got := target(t, s, neighbour.ID); got.Unread != nil || got.Devices[0].BadgeSent != nil {
		t.Errorf("another user's: got %+v", got)
	}
	delivery := storetest.Value[time.Time](t, schema, `SELECT last_delivery FROM user_state WHERE user_id = $1`, user.ID)
	if want := at(5); !delivery.Equal(want.Truncate(time.Microsecond)) {
		t.Errorf("the last delivery was at %v, want %v", delivery, want)
	}
	if n := storetest.Value[int](t, schema, `SELECT count(*) FROM devices WHERE user_id = $1 AND badge_sent IS NOT NULL`, user.ID); n != 0 {
		t.Errorf("for a replica of the version before, %d devices show what they were told before", n)
	}
	// A phone that registers anew has forgotten its badge.
	attach(t, s, user.ID, device("phone"), at(time.Hour))
	again := target(t, s, user.ID).Devices
	if again[0].BadgeSent != nil || text(again[1].BadgeSent) != "9" {
		t.Errorf("after it registered again the badges are %s and %s", text(again[0].BadgeSent), text(again[1].BadgeSent))
	}
	// So has the app behind another token.
	if err := s.ChangeToken(t.Context(), tablet, "another token", at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := target(t, s, user.ID).Devices[1]; got.BadgeSent != nil {
		t.Errorf("after its token changed the badge is %s", text(got.BadgeSent))
	}
}

// record remembers what was told when.
func record(t *testing.T, s *store.Store, told store.Told, when time.Duration) {
	t.Helper()
	told.At = at(when)
	if _, err := s.Finish(t.Context(), store.Ending{Told: &told}); err != nil {
		t.Error(err)
	}
}

// What is told to many users while the database is busy is recorded by one statement, and still each gets what is theirs; of
// one user's, the last counts.
func TestWhatManyWereToldIsRememberedForEach(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	const users, times = 40, 3
	var ids, refs []int64
	for i := range users {
		user, _ := subscribed(t, s, fmt.Sprint("user ", i))
		ids, refs = append(ids, user.ID), append(refs, target(t, s, user.ID).Devices[0].Ref)
	}
	release := locked(t, schema, "user_state")
	var telling sync.WaitGroup
	for i := range users {
		telling.Go(func() {
			for n := range times {
				told := store.Told{UserID: ids[i], Unread: new(100*n + i), Badged: []int64{refs[i]}, Delivered: true}
				if i%2 == 0 {
					told.Badged = nil
				}
				var both sync.WaitGroup // two replays of the same at once, as after a claim that was taken over
				for range 2 {
					both.Go(func() {
						record(t, s, told, time.Duration(n)*time.Minute)
					})
				}
				both.Wait()
			}
		})
	}
	waiting(t, schema, 1)
	release()
	telling.Wait()
	for i := range users {
		want := fmt.Sprint(100*(times-1) + i)
		badge := want
		if i%2 == 0 {
			badge = "-"
		}
		if got := target(t, s, ids[i]); text(got.Unread) != want || text(got.Devices[0].BadgeSent) != badge {
			t.Errorf("user %d: got unread %s and badge %s, want %s and %s", i, text(got.Unread), text(got.Devices[0].BadgeSent), want, badge)
		}
	}
}

func text(number *int) string {
	if number == nil {
		return "-"
	}
	return fmt.Sprint(*number)
}

func TestHowFarAUserHasBeenToldOnlyRises(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	user, _ := subscribed(t, schema.Store, "alice")
	for i, step := range []struct {
		newest, want time.Duration
		// seen is how many mails of that second have been.
		seen int
	}{
		{2 * time.Hour, 2 * time.Hour, 1}, {time.Hour, 2 * time.Hour, 1}, {0, 2 * time.Hour, 1}, {2 * time.Hour, 2 * time.Hour, 2}, {3 * time.Hour, 3 * time.Hour, 1},
	} {
		told := store.Told{UserID: user.ID}
		if step.newest > 0 {
			told.Newest = store.Gap{Since: at(step.newest), Seen: []store.ItemHash{store.HashItem(fmt.Sprint(i))}}
		}
		record(t, schema.Store, told, 0)
		standing, err := schema.Store.Standing(t.Context(), user.Hash, "phone")
		if err != nil {
			t.Fatal(err)
		}
		if want := at(step.want).Truncate(time.Microsecond); !standing.Newest.Since.Equal(want) || len(standing.Newest.Seen) != step.seen {
			t.Errorf("after a mail of %v the newest is %v, want %v and %d mails", step.newest, standing.Newest, want, step.seen)
		}
	}
}
