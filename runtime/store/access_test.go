package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestADeviceThatHasSentItsSecretMustSendItFromThenOn(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	right, wrong := sha256.Sum256([]byte("right")), sha256.Sum256([]byte("wrong"))
	phone := device("phone")
	phone.SecretHash = right
	ref := attach(t, s, user.ID, phone, start)
	for _, step := range []struct {
		name   string
		secret []byte
		want   error
	}{
		{"none is needed yet", nil, nil},
		{"a wrong one is refused at once", wrong[:], store.ErrSecret},
		{"none is still not needed", nil, nil},
		{"the right one is taken", right[:], nil},
		{"none is refused from now on", nil, store.ErrSecret},
		{"a wrong one is too", wrong[:], store.ErrSecret},
		{"the right one is taken again", right[:], nil},
	} {
		got, err := s.Identify(t.Context(), hash("alice"), "phone", step.secret)
		if !errors.Is(err, step.want) {
			t.Errorf("%s: got error %v, want %v", step.name, err, step.want)
		}
		if err == nil && (got.Ref != ref || got.UserID != user.ID) {
			t.Errorf("%s: got %+v", step.name, got)
		}
	}
	if _, err := s.Identify(t.Context(), hash("alice"), "tablet", right[:]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown device: %v", err)
	}
	attach(t, s, user.ID, phone, start) // registered again, without the secret
	if _, err := s.Identify(t.Context(), hash("alice"), "phone", nil); err != nil {
		t.Errorf("after a registration that proved the credential: %v", err)
	}
}

func TestATokenIsChangedThreeTimesADay(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	ref := target(t, s, user.ID).Devices[0].Ref
	if err := s.RetireDevice(t.Context(), ref, "token of phone", time.Time{}, start); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		token string
		at    time.Duration
		want  error
	}{
		{"a", time.Hour, nil}, {"a", time.Hour, nil}, {"b", 2 * time.Hour, nil}, {"b", 2 * time.Hour, nil}, {"c", 3 * time.Hour, nil},
		{"d", 24 * time.Hour, store.ErrTooManyChanges}, {"c", 24 * time.Hour, nil}, {"d", 25 * time.Hour, nil}, {"e", 25 * time.Hour, nil},
	} {
		if err := s.ChangeToken(t.Context(), ref, step.token, at(step.at)); !errors.Is(err, step.want) {
			t.Errorf("to %s after %s: got error %v, want %v", step.token, step.at, err, step.want)
		}
	}
	devices := target(t, s, user.ID).Devices
	if len(devices) != 1 || devices[0].Token != "e" {
		t.Errorf("the living devices are %+v", devices)
	}
	if err := s.ChangeToken(t.Context(), ref+1, "x", start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of an unknown device: %v", err)
	}
}

func TestSettingsThatAreNotNamedStay(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, _ := subscribed(t, s, "alice")
	ref := target(t, s, user.ID).Devices[0].Ref
	if err := s.ChangeSettings(t.Context(), ref, store.Settings{Policy: new(4), Badge: new(false)}); err != nil {
		t.Fatal(err)
	}
	if d := target(t, s, user.ID).Devices[0]; d.Policy != 4 || d.Badge || d.Sound != "ding" || d.Locale != "de" {
		t.Errorf("got %+v", d)
	}
	if err := s.ChangeSettings(t.Context(), ref, store.Settings{Sound: new("gong"), Locale: new("fr")}); err != nil {
		t.Fatal(err)
	}
	if d := target(t, s, user.ID).Devices[0]; d.Policy != 4 || d.Sound != "gong" || d.Locale != "fr" {
		t.Errorf("got %+v", d)
	}
	if err := s.ChangeSettings(t.Context(), ref+1, store.Settings{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of an unknown device: %v", err)
	}
	if err := s.ChangeSyncKey(t.Context(), hash("alice"), "next"); err != nil {
		t.Fatal(err)
	}
	if got := storetest.Value[string](t, schema, `SELECT sync_key FROM devices`); got != "next" {
		t.Errorf("the sync key is %q", got)
	}
	if err := s.ChangeSyncKey(t.Context(), hash("nobody"), "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of an unknown user: %v", err)
	}
}

// updatable is a user whose subscription was made by rsa-split.
func updatable(t *testing.T, s *store.Store, sequence int64) (store.User, store.Attempt) {
	t.Helper()
	user := newUser(t, s, "alice")
	generation, err := s.NextGeneration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	attempt := store.Attempt{
		UserID: user.ID, Generation: generation, Key: []byte("sealed key"), Blob: []byte("blob 1"), DeviceID: "phone", Endpoint: "exchange",
		AuthType: credential.OAuth, Updatable: true, Sequence: sequence, WebhookKey: 3,
	}
	if err := s.Begin(t.Context(), attempt, start); err != nil {
		t.Fatal(err)
	}
	promote(t, s, attempt)
	return user, attempt
}

func lookup(t *testing.T, s *store.Store, a store.Attempt) store.Subscription {
	t.Helper()
	found, err := s.Subscription(t.Context(), a.UserID, a.Generation, start)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestANewerCredentialWaitsBesideTheOneThatWorks(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := updatable(t, s, 5)
	for _, step := range []struct {
		name     string
		device   string
		sequence int64
		blob     string
		want     error
	}{
		{"an older one is refused", "phone", 4, "old", store.ErrSequence},
		{"the same sequence is refused", "phone", 5, "same", store.ErrSequence},
		{"another device's is refused", "tablet", 6, "other", store.ErrNotFound},
		{"a newer one is taken", "phone", 6, "newer", nil},
		{"sent again it is no fault", "phone", 6, "newer", nil},
		{"another one of that sequence is", "phone", 6, "another", store.ErrSequence},
		{"a still newer one takes its place", "phone", 8, "newest", nil},
	} {
		if err := s.OfferCredential(t.Context(), user.ID, step.device, step.sequence, step.blob); !errors.Is(err, step.want) {
			t.Errorf("%s: got error %v, want %v", step.name, err, step.want)
		}
	}
	if got := lookup(t, s, attempt); string(got.Blob) != "blob 1" || got.Sequence != 5 || got.Update != "newest" || got.UpdateSequence != 8 {
		t.Errorf("waiting: %q/%d beside %q/%d", got.Update, got.UpdateSequence, got.Blob, got.Sequence)
	}
	if accepted, err := s.AcceptCredential(t.Context(), user.ID, attempt.Generation, 6, []byte("stale")); err != nil || accepted {
		t.Fatal(accepted, err)
	}
	if got := lookup(t, s, attempt); string(got.Blob) != "blob 1" || got.Update != "newest" {
		t.Error("a credential that was replaced meanwhile was accepted")
	}
	if accepted, err := s.AcceptCredential(t.Context(), user.ID, attempt.Generation, 8, []byte("blob 8")); err != nil || !accepted {
		t.Fatal(accepted, err)
	}
	if got := lookup(t, s, attempt); string(got.Blob) != "blob 8" || got.Sequence != 8 || got.Update != "" {
		t.Errorf("accepted: %q/%d, waiting %q", got.Blob, got.Sequence, got.Update)
	}
	if err := s.OfferCredential(t.Context(), user.ID, "phone", 99, "garbage"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RejectCredential(t.Context(), user.ID, attempt.Generation, 99); err != nil {
		t.Fatal(err)
	}
	if err := s.OfferCredential(t.Context(), user.ID, "phone", 9, "good"); err != nil {
		t.Errorf("garbage has used up the sequences before it: %v", err)
	}
}

func TestACredentialIsRefusedAfterTwo401sFiveMinutesApart(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := updatable(t, s, 5)
	used := store.Used{UserID: user.ID, Generation: attempt.Generation, Sequence: 5}
	note := func(used store.Used, certain bool, after time.Duration, want bool) {
		t.Helper()
		if refused, err := s.NoteUnauthorized(t.Context(), used, certain, at(after)); err != nil || refused != want {
			t.Errorf("after %s: refused %t, %v, want %t", after, refused, err, want)
		}
	}
	note(used, false, 0, false)
	note(used, false, store.RefusalGap-time.Second, false)
	if err := s.NoteAuthorized(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	note(used, false, store.RefusalGap, false) // the first since it worked
	note(store.Used{UserID: user.ID, Generation: attempt.Generation, Sequence: 4}, true, 2*store.RefusalGap, false)
	if owed(t, s, attempt, 0) {
		t.Error("something is owed before the credential is refused")
	}
	note(used, false, 2*store.RefusalGap, true)
	if claims := takeOwed(t, s, user.ID, ours, 0); len(claims) != 1 || claims[0].Kind != store.Resubscribe {
		t.Errorf("with the refusal %+v is owed, want that the devices are asked to register", claims)
	}
	note(used, false, 3*store.RefusalGap, false) // it is already
	if got := lookup(t, s, attempt); !got.RefusedAt.Equal(at(2*store.RefusalGap)) || !got.UnauthorizedAt.Equal(at(store.RefusalGap)) {
		t.Errorf("unauthorized at %s, refused at %s", got.UnauthorizedAt, got.RefusedAt)
	}
	if standing, err := s.Standing(t.Context(), hash("alice"), "phone"); err != nil || !standing.Refused {
		t.Errorf("the user stands %+v, %v", standing, err)
	}
	if err := s.OfferCredential(t.Context(), user.ID, "phone", 6, "newer"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AcceptCredential(t.Context(), user.ID, attempt.Generation, 6, []byte("blob")); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, s, attempt); !got.RefusedAt.IsZero() || !got.UnauthorizedAt.IsZero() {
		t.Error("a newer credential is refused because the older one was")
	}
	used.Sequence = 6
	note(used, true, time.Hour, true)
}

func TestACredentialThatIsLeftAloneIsNotRefusedForIt(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, attempt := updatable(t, s, 5)
	used := store.Used{UserID: user.ID, Generation: attempt.Generation, Sequence: 5}
	leave := func(used store.Used, after time.Duration) {
		t.Helper()
		if err := s.LeaveAlone(t.Context(), used, at(after)); err != nil {
			t.Fatal(err)
		}
	}
	leave(used, 0)
	leave(used, 2*store.RefusalGap) // the fault lasts
	leave(store.Used{UserID: user.ID, Generation: attempt.Generation, Sequence: 4}, 3*store.RefusalGap)
	if got := lookup(t, s, attempt); !got.RefusedAt.IsZero() || !got.UnauthorizedAt.Equal(at(2*store.RefusalGap)) {
		t.Errorf("unauthorized at %s, refused at %s", got.UnauthorizedAt, got.RefusedAt)
	}
	if refused, err := s.NoteUnauthorized(t.Context(), used, false, at(3*store.RefusalGap-time.Second)); err != nil || refused {
		t.Errorf("right after the fault: refused %t, %v", refused, err)
	}
	if refused, err := s.NoteUnauthorized(t.Context(), used, false, at(3*store.RefusalGap)); err != nil || !refused {
		t.Errorf("still after the gap: refused %t, %v", refused, err)
	}
}

func TestOneGenericNotificationInFiveMinutes(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user, _ := subscribed(t, s, "alice")
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Minute, false}, {5*time.Minute - time.Second, false}, {5 * time.Minute, true}, {6 * time.Minute, false}} {
		if may, err := s.TakeGeneric(t.Context(), user.ID, at(step.after)); err != nil || may != step.want {
			t.Errorf("after %s: %t, %v", step.after, may, err)
		}
	}
}

func TestAnOrphanedSubscriptionIsOneThatLivesByATokenOfADeviceThatIsGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		authType credential.AuthType
		removed  string
		orphaned bool
	}{
		"a token's device":     {credential.OAuth, "phone", true},
		"a password's device":  {credential.Basic, "phone", false},
		"another device":       {credential.OAuth, "tablet", false},
		"a password beside it": {credential.BasicCBA, "phone", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := storetest.New(t)
			s := schema.Store
			user, attempt := updatable(t, s, 1)
			schema.Exec(t, `UPDATE subscriptions SET auth_type = $1`, test.authType)
			attach(t, s, user.ID, device("tablet"), start)
			attach(t, s, user.ID, device("watch"), start)
			removed, err := s.RemoveDevice(t.Context(), user.Hash, test.removed, "", "")
			if err != nil || removed.Removal != store.RemovedDevice || (removed.Orphaned == attempt.Generation) != test.orphaned {
				t.Errorf("got %+v, %v", removed, err)
			}
			standing, err := s.Standing(t.Context(), user.Hash, "watch")
			if err != nil || standing.Orphaned != test.orphaned || !standing.Subscribed {
				t.Errorf("the user stands %+v, %v", standing, err)
			}
		})
	}
}

func TestAKeyPairIsReplacedOnceADayAndTheOldOneKept(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	user := newUser(t, s, "alice")
	if replaced, err := s.ReplaceKey(t.Context(), user.Hash, start); replaced || !errors.Is(err, store.ErrPoolEmpty) {
		t.Errorf("from an empty pool: %t, %v", replaced, err)
	}
	for _, name := range []string{"b", "c", "d"} {
		if err := s.AddKey(t.Context(), pair(name), start); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		after             time.Duration
		replaced          bool
		current, previous string
	}{
		{0, true, "b", "alice"}, {23 * time.Hour, false, "b", "alice"}, {24 * time.Hour, true, "c", "b"},
	} {
		replaced, err := s.ReplaceKey(t.Context(), user.Hash, at(step.after))
		if err != nil || replaced != step.replaced {
			t.Errorf("after %s: %t, %v", step.after, replaced, err)
		}
		got, err := s.UserByHash(t.Context(), user.Hash)
		if err != nil || got.Keys.ID != step.current || got.Previous.ID != step.previous ||
			string(got.Keys.Private) != "sealed "+step.current || string(got.Previous.Private) != "sealed "+step.previous {
			t.Errorf("after %s: got %+v, %v", step.after, got, err)
		}
	}
	if left, err := s.CountKeys(t.Context()); err != nil || left != 1 {
		t.Errorf("%d pairs are left, %v", left, err)
	}
}

func TestTheTimelineIsBounded(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	alice, bob := newUser(t, s, "alice"), newUser(t, s, "bob")
	for i := range 60 {
		if err := s.Note(t.Context(), alice.ID, store.ActivityRegistered, fmt.Sprint(i), at(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Note(t.Context(), bob.ID, store.ActivityRegistered, "x"+strings.Repeat("é", 2000), start); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(t.Context(), bob.ID+1, store.ActivityRegistered, "of nobody", start); err != nil {
		t.Fatal(err)
	}
	if n, oldest := storetest.Value[int](t, schema, `SELECT count(*) FROM activity WHERE user_id = $1`, alice.ID),
		storetest.Value[int](t, schema, `SELECT min(detail::int) FROM activity WHERE user_id = $1`, alice.ID); n != 50 || oldest != 10 {
		t.Errorf("%d rows are kept from %d on, want the newest 50", n, oldest)
	}
	if n := storetest.Value[int](t, schema, `SELECT max(octet_length(detail)) FROM activity`); n > 500+len("…") {
		t.Errorf("a detail of %d bytes is kept", n)
	}
	if dropped, err := s.DropActivity(t.Context(), at(14*24*time.Hour+20*time.Minute), 1000); err != nil || dropped != 11 {
		t.Errorf("%d rows were dropped, %v, want those of the first 20 minutes that were left", dropped, err)
	}
}

// numbered is what a row looks like that is sealed under that KEK.
func numbered(kek byte, name string) []byte { return append([]byte{0, 0, 0, kek}, name...) }

func TestReplicasAreOnRecordWithTheirKeysUntilTheyLeave(t *testing.T) {
	t.Parallel()
	s := storetest.New(t).Store
	one := store.Instance{ID: [16]byte{1}, KEKs: []int{1, 2}, WebhookKeys: []int{1}, SealingKEK: 1, StartedAt: start}
	two := store.Instance{ID: [16]byte{2}, KEKs: []int{1}, WebhookKeys: []int{1}, StartedAt: start}
	for _, replica := range []store.Instance{one, two} {
		if err := s.Report(t.Context(), replica, start); err != nil {
			t.Fatal(err)
		}
	}
	known := func(after time.Duration) int {
		t.Helper()
		rotation, err := s.Rotation(t.Context(), at(after))
		if err != nil {
			t.Fatal(err)
		}
		return len(rotation.Instances)
	}
	if n := known(0); n != 2 {
		t.Errorf("%d replicas are on record", n)
	}
	if n := known(time.Hour); n != 0 {
		t.Errorf("%d replicas of an hour ago are waited for", n)
	}
	if err := s.Forget(t.Context(), two.ID); err != nil {
		t.Fatal(err)
	}
	rotation, err := s.Rotation(t.Context(), start)
	if err != nil || len(rotation.Instances) != 1 || rotation.Instances[0].SealingKEK != 1 || !slices.Equal(rotation.Instances[0].KEKs, []int{1, 2}) {
		t.Errorf("got %+v, %v", rotation.Instances, err)
	}
}
