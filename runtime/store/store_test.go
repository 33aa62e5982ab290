package store_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// start is when every test begins, in the precision of PostgreSQL.
var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// at is so long after the test's beginning.
func at(d time.Duration) time.Time { return start.Add(d) }

const maxDevices = 20

var mailbox = []byte("SHA-256 of the Inbox's folder id")

func hash(name string) [sha256.Size]byte { return credential.HashAddress(name + "@example.com") }

// pair stands for a key pair: the store does not look into it.
func pair(name string) credential.KeyPair {
	return credential.KeyPair{ID: name, Public: []byte("public " + name), Private: []byte("sealed " + name)}
}

func newUser(t testing.TB, s *store.Store, name string) store.User {
	t.Helper()
	user, err := s.CreateUserWith(t.Context(), hash(name), pair(name), start)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func device(id string) store.Device {
	return store.Device{
		ID: id, Platform: push.IOS, Token: "token of " + id, Provider: "apns", AppID: "com.example.boxer",
		PushEnvironment: "production", Policy: 2, Sound: "ding", Badge: true, Locale: "de", DeviceLogID: "log " + id,
		SyncKey: "sync", AppVersion: "1", OSVersion: "18",
	}
}

// begin records an attempt to subscribe with the credential of device d.
func begin(t testing.TB, s *store.Store, userID int64, d string) store.Attempt {
	t.Helper()
	generation, err := s.NextGeneration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	attempt := store.Attempt{
		UserID: userID, Generation: generation, FillerHash: sha256.Sum256(fmt.Append(nil, generation)), Key: []byte("sealed key"),
		DeviceID: d, Endpoint: "exchange", AuthType: credential.Basic,
	}
	if err := s.Begin(t.Context(), attempt, start); err != nil {
		t.Fatal(err)
	}
	return attempt
}

func promotion(a store.Attempt) store.Promotion {
	return store.Promotion{
		UserID: a.UserID, Generation: a.Generation, SubscriptionID: fmt.Sprintf("subscription %d", a.Generation),
		MailboxID: mailbox, Device: device(a.DeviceID), MaxDevices: maxDevices,
	}
}

func promote(t testing.TB, s *store.Store, a store.Attempt) (ref int64, promoted bool) {
	t.Helper()
	ref, promoted, err := s.Promote(t.Context(), promotion(a), start)
	if err != nil {
		t.Fatal(err)
	}
	return ref, promoted
}

// subscribed is a user with an active subscription and one device.
func subscribed(t testing.TB, s *store.Store, name string) (store.User, store.Attempt) {
	t.Helper()
	user := newUser(t, s, name)
	attempt := begin(t, s, user.ID, "phone")
	if _, promoted := promote(t, s, attempt); !promoted {
		t.Fatal("the only attempt was not promoted")
	}
	return user, attempt
}

// states are the states of a user's generations, oldest first.
func states(t testing.TB, schema *storetest.Schema, userID int64) string {
	t.Helper()
	return storetest.Value[string](t, schema,
		`SELECT coalesce(string_agg(state, ' ' ORDER BY generation), '') FROM subscriptions WHERE user_id = $1`, userID)
}

// waiting waits until so many of the runtime's statements wait for a lock.
func waiting(t testing.TB, schema *storetest.Schema, statements int) {
	t.Helper()
	const query = `SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'`
	for began := time.Now(); storetest.Value[int](t, schema, query, schema.Role) < statements; {
		if time.Since(began) > 10*time.Second { // the store's own statements give up after 5
			t.Fatalf("no %d statements wait for a lock", statements)
		}
	}
}

// locked holds a table against everybody until the returned function is called.
func locked(t testing.TB, schema *storetest.Schema, table string) (release func()) {
	t.Helper()
	return lockedBy(t, schema, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
}

// lockedBy keeps the locks that a statement takes.
func lockedBy(t testing.TB, schema *storetest.Schema, statement string) (release func()) {
	t.Helper()
	tx, err := schema.Looking.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	if _, err := tx.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// rows counts the rows of all tables that hold something of users.
func rows(t testing.TB, schema *storetest.Schema) string {
	t.Helper()
	var counts []string
	for _, table := range []string{"users", "devices", "subscriptions", "user_state", "pending", "activity"} {
		if n := storetest.Value[int](t, schema, "SELECT count(*) FROM "+table); n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", table, n))
		}
	}
	return strings.Join(counts, ", ")
}
