package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// alone starts a server whose commits survive its end.
func alone(t *testing.T) *testenv.PostgresServer {
	t.Helper()
	server, err := testenv.StartPostgres(t.Context(), testenv.WithCommit())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// inPair starts a server with a synchronous standby.
func inPair(t *testing.T) *testenv.PostgresPair {
	t.Helper()
	pair, err := testenv.StartPostgresPair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Stop(); err != nil {
			t.Error(err)
		}
	})
	return pair
}

// disturbance is what happens to the database. It calls felt, if the database is away for a time, while it is.
type disturbance func(ctx context.Context, x *runtimetest.Tenant, felt func()) error

func TestAnOutageOfTheDatabaseLosesNothing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) (*testenv.PostgresServer, disturbance){
		"Postgres is restarted": func(t *testing.T) (*testenv.PostgresServer, disturbance) {
			server := alone(t)
			return server, func(ctx context.Context, _ *runtimetest.Tenant, felt func()) error { return server.Restart(ctx, felt) }
		},
		"the connections are cut": func(t *testing.T) (*testenv.PostgresServer, disturbance) {
			return testenv.Postgres(t), cutConnections
		},
		"the primary is lost and its standby promoted": func(t *testing.T) (*testenv.PostgresServer, disturbance) {
			pair := inPair(t)
			return pair.PostgresServer, func(ctx context.Context, _ *runtimetest.Tenant, felt func()) error {
				return errors.Join(pair.FailOver(ctx, felt), pair.Return(ctx))
			}
		},
		"the primary becomes read only and its standby is promoted": func(t *testing.T) (*testenv.PostgresServer, disturbance) {
			pair := inPair(t)
			return pair.PostgresServer, func(ctx context.Context, _ *runtimetest.Tenant, felt func()) error {
				return pair.SwitchOver(ctx, felt)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, disturb := start(t)
			x := runtimetest.New(t, runtimetest.Options{Postgres: server, Exchange: retrySoon, Configure: shortLease})
			throughOutage(t, x, disturb)
		})
	}
}

// cutConnections ends all connections of the runtime several times.
func cutConnections(ctx context.Context, x *runtimetest.Tenant, _ func()) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range 20 {
		const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1`
		if _, err := x.Schema.Looking.Exec(ctx, end, x.Schema.Role); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const (
	// outageUsers have a phone each, the first one two.
	outageUsers = 4
	// outageMails come for each of them meanwhile: so few that they are told one by one, however late.
	outageMails = 3
	// outagePause is the time between two of them.
	outagePause = 150 * time.Millisecond
)

// throughOutage disturbs the database while mails come and phones come and go.
func throughOutage(t *testing.T, x *runtimetest.Tenant, disturb disturbance) {
	replicas := []string{x.Start(t).Address, x.Start(t).Address}
	var requests atomic.Int64
	x.Front.Route(func(*http.Request) string { return replicas[requests.Add(1)%2] })
	l := newLedger(x)
	var users []string
	l.phone(alice, push.Android)
	for i := range outageUsers {
		users = append(users, []string{alice, bob, carol, "dave@example.com"}[i])
		l.phone(users[i], push.IOS)
	}
	for _, phone := range l.phones {
		mustEnter(t, phone)
	}
	settle := func() {
		t.Helper()
		runtimetest.Eventually(t, func() string {
			l.pulse()
			return l.unsettled(t)
		})
	}
	for _, user := range users {
		l.mail(t, user)
	}
	settle()

	ctx, before := runtimetest.Context(t), len(x.Exchange.Callbacks())
	over := make(chan error, 1)
	go func() { over <- disturb(ctx, x, func() { feel(ctx, x) }) }()
	calls := &phoneCalls{x: x, answers: map[string]int{}}
	ticker := time.NewTicker(outagePause)
	defer ticker.Stop()
	for n, ended := 0, false; n < outageMails*outageUsers || !ended; n++ {
		if n < outageMails*outageUsers {
			l.mail(t, users[n%outageUsers])
		}
		calls.make(t, n)
		select {
		case err := <-over:
			if err != nil {
				t.Fatal(err)
			}
			over, ended = nil, true
		case <-ticker.C:
		}
	}
	x.Schema.Looking.Reset() // it may lead to the server that was the primary
	for _, phone := range calls.phones {
		mustEnter(t, phone)
		l.phones = append(l.phones, phone)
		l.mail(t, phone.Address)
	}
	for _, user := range users {
		l.mail(t, user)
	}
	settle()
	wantSubscribed(t, x, l.phones)
	failed := wantRetriesOnly(t, x.Exchange.Callbacks()[before:])
	t.Logf("%s; %d posts were answered 503, phones %v", l.close(t), failed, calls.answers)
}

// mustEnter brings a phone in, whatever becomes of its first tries.
func mustEnter(t *testing.T, phone *boxertest.Phone) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		answer, err := phone.PublicKey(t.Context())
		if err == nil && answer.Status == http.StatusOK {
			answer, err = phone.Register(t.Context())
		}
		if err != nil || answer.Status != http.StatusOK {
			return fmt.Sprintf("a phone is answered %d/%d %s: %v", answer.Status, answer.Code, answer.Message, err)
		}
		return ""
	})
}

// feel waits until Exchange has felt the outage.
func feel(ctx context.Context, x *runtimetest.Tenant) {
	felt := len(x.Exchange.Callbacks())
	_, _ = x.Exchange.WaitCallback(ctx, func(c ewstest.Callback) bool { return c.Number > felt && c.Status == http.StatusServiceUnavailable })
}

// wantRetriesOnly wants each post to have been answered OK or so that Exchange tries again, and counts the latter. Only
// users who have left or whose phone has registered once more are answered Unsubscribe.
func wantRetriesOnly(t *testing.T, posts []ewstest.Callback) (failed int) {
	t.Helper()
	for _, c := range posts {
		switch {
		case c.Reply == "OK":
		case c.Status == http.StatusServiceUnavailable:
			failed++
		case c.Reply == "Unsubscribe" && (strings.HasPrefix(c.Mailbox, leaver) || strings.HasPrefix(c.Mailbox, comer)):
		default:
			t.Errorf("a post to %s was answered %d %q: %v", c.Mailbox, c.Status, c.Reply, c.Err)
		}
	}
	return failed
}

const (
	leaver  = "leaver"
	comer   = "comer"
	leavers = 3
)

// wantSubscribed wants a living subscription of each phone's user at Exchange.
func wantSubscribed(t *testing.T, x *runtimetest.Tenant, phones []*boxertest.Phone) {
	t.Helper()
	living := map[string]bool{}
	for _, s := range x.Exchange.Subscriptions() {
		living[s.Mailbox] = living[s.Mailbox] || s.Ended == ""
	}
	for _, phone := range phones {
		if !living[phone.Address] {
			t.Errorf("%s has no living subscription", phone.Address)
		}
	}
}

// phoneCalls are what phones do meanwhile.
type phoneCalls struct {
	x *runtimetest.Tenant
	// phones are those that came.
	phones  []*boxertest.Phone
	answers map[string]int
}

// make makes the n-th calls: a new phone comes, every now and then one leaves again.
func (d *phoneCalls) make(t *testing.T, n int) {
	t.Helper()
	name := comer
	if n%leavers == 0 {
		name = leaver
	}
	phone := d.x.Phone(fmt.Sprintf("%s%d@example.com", name, n), push.IOS)
	steps := []func(context.Context) (boxertest.Answer, error){phone.PublicKey, phone.Register, phone.Status}
	if name == leaver {
		steps = append(steps, phone.Unregister)
	}
	for _, call := range steps {
		answer, err := call(t.Context())
		if err != nil {
			if err.Error() == "call PublicKey first" {
				break
			}
			t.Fatal(err)
		}
		ok := answer.Status == http.StatusOK || answer.Status == http.StatusServiceUnavailable && answer.Code == 32 ||
			answer.Status == http.StatusInternalServerError && slices.Contains([]int{4, 8, 15}, answer.Code)
		if !ok {
			t.Errorf("a phone is answered %d/%d %q", answer.Status, answer.Code, answer.Message)
		}
		d.answers[fmt.Sprintf("%d/%d", answer.Status, answer.Code)]++
	}
	if name == comer && len(d.phones) < outageUsers {
		d.phones = append(d.phones, phone)
	}
}
