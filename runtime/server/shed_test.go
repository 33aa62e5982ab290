package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
)

// crowd is more users than one worker and its queue have room for.
const crowd = 20

// hanging sets up a replica with one worker and a crowd of users, at an Exchange that answers no GetItem until the returned
// function is called.
func hanging(t *testing.T, o ewstest.Options) (x *runtimetest.Tenant, phones []*boxertest.Phone, release func()) {
	t.Helper()
	x = runtimetest.New(t, runtimetest.Options{Exchange: o, Configure: func(c *config.Config) { c.Callback.Workers = 1 }})
	x.Start(t)
	for i := range crowd {
		phone := x.Phone(fmt.Sprintf("user-%d@example.com", i), push.IOS)
		runtimetest.MustRegister(t, phone, 7)
		phones = append(phones, phone)
	}
	settled(t, x)
	hold := make(chan struct{})
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "GetItem" {
			return ewstest.Fault{}
		}
		return ewstest.Fault{Wait: hold}
	})
	return x, phones, func() { close(hold) }
}

// What there is no room for is left to Exchange, which comes again in 30 seconds: taken, it would wait for the user's next
// heartbeat.
func TestMailThatThereIsNoRoomForIsToldAsSoonAsThereIs(t *testing.T) {
	t.Parallel()
	const hurry = 60 // half a minute is half a second
	x, phones, release := hanging(t, ewstest.Options{Calm: true, Compression: hurry})
	for i := range crowd {
		if _, err := x.Exchange.Deliver(phones[i].Address, ewstest.Mail{FromName: "Bob", Subject: "To everyone"}); err != nil {
			t.Fatal(err)
		}
	}
	shed, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Status == http.StatusServiceUnavailable })
	if err != nil {
		t.Fatal(err)
	}
	release()
	for _, phone := range phones {
		if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
			t.Errorf("a phone was not told: %v", err)
		}
	}
	settled(t, x)
	for i, phone := range phones {
		if got := alertsOf(x, phone); len(got) != 1 {
			t.Errorf("phone %d shows %q", i, got)
		}
	}
	taken, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool {
		return c.SubscriptionID == shed.SubscriptionID && c.Attempt > 1 && c.Reply == "OK"
	})
	if err != nil || taken.Mailbox != shed.Mailbox {
		t.Errorf("what was left to Exchange was taken of %q, want of %q: %v", taken.Mailbox, shed.Mailbox, err)
	}
}

// A post that has been left to Exchange for long is taken all the same, and so is a heartbeat: a subscription whose posts are
// never taken would end.
func TestOnlyWhatIsRecentIsLeftToExchange(t *testing.T) {
	t.Parallel()
	x, phones, release := hanging(t, ewstest.Options{Calm: true})
	t.Cleanup(release)
	for _, phone := range phones[:crowd-1] {
		if _, err := x.Exchange.Deliver(phone.Address, ewstest.Mail{FromName: "Bob", Subject: "To everyone"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Status == http.StatusServiceUnavailable }); err != nil {
		t.Fatal(err)
	}
	last := phones[crowd-1].Address
	var s ewstest.Subscription
	for _, candidate := range x.Exchange.Subscriptions() {
		if candidate.Mailbox == last {
			s = candidate
		}
	}
	mail := func(age time.Duration) string {
		return strings.ReplaceAll(mailThatIsGone, "2026-11-21T12:00:00Z", time.Now().Add(-age).UTC().Format(time.RFC3339))
	}
	// What is left to Exchange costs no look at the database, or there would be no time for what is taken.
	locked, err := x.Schema.Looking.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locked.Exec(t.Context(), `LOCK TABLE subscriptions IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if got := x.Exchange.Post(t.Context(), s.URL, post(s.ID, mail(0))); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a mail of this minute is answered %d while the database hangs", got.Status)
	}
	if took := time.Since(began); took > 3*time.Second { // a statement is given up after five
		t.Errorf("what is left to Exchange was answered after %s, with the database hanging", took)
	}
	if err := locked.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, event string
		want        int
	}{
		{"a mail of this minute", mail(0), http.StatusServiceUnavailable},
		{"a mail of the minute before", mail(time.Minute), http.StatusServiceUnavailable},
		{"a change that is no mail", strings.ReplaceAll(strings.ReplaceAll(mail(0), "NewMailEvent", "ModifiedEvent"), "CreatedEvent", "ModifiedEvent"),
			http.StatusServiceUnavailable},
		{"a mail that comes again after three minutes", mail(3 * time.Minute), http.StatusOK},
		{"a mail of tomorrow, by a clock that is wrong", mail(-24 * time.Hour), http.StatusOK},
		{"a heartbeat", stillThere, http.StatusOK},
	} {
		if got := x.Exchange.Post(t.Context(), s.URL, post(s.ID, c.event)); got.Status != c.want {
			t.Errorf("%s is answered %d, want %d", c.name, got.Status, c.want)
		}
	}
}

// A queue that is short and moves slowly is as bad as a long one.
func TestNobodyQueuesForLong(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{
		Clock: clock, Exchange: ewstest.Options{Calm: true, Compression: 60}, Configure: func(c *config.Config) { c.Callback.Workers = 1 },
	})
	x.Start(t)
	var phones []*boxertest.Phone
	for i := range 5 {
		phones = append(phones, x.Phone(fmt.Sprintf("user-%d@example.com", i), push.IOS))
		runtimetest.MustRegister(t, phones[i], 7)
	}
	settled(t, x)
	asked := make(chan chan struct{}, crowd)
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "GetItem" {
			return ewstest.Fault{}
		}
		hold := make(chan struct{})
		asked <- hold
		return ewstest.Fault{Wait: hold}
	})
	deliver := func(phone *boxertest.Phone) ewstest.Callback {
		t.Helper()
		if _, err := x.Exchange.Deliver(phone.Address, ewstest.Mail{FromName: "Bob", Subject: "To everyone"}); err != nil {
			t.Fatal(err)
		}
		answered, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool {
			return c.Mailbox == phone.Address && len(c.ItemIDs) > 0
		})
		if err != nil {
			t.Fatal(err)
		}
		return answered
	}
	for _, phone := range phones[:3] {
		if answered := deliver(phone); answered.Reply != "OK" {
			t.Errorf("a mail that nobody waits long with is answered %d", answered.Status)
		}
	}
	first := <-asked
	clock.Advance(5 * time.Second)
	close(first)
	second := <-asked // it has waited for five seconds
	if answered := deliver(phones[3]); answered.Status != http.StatusServiceUnavailable {
		t.Errorf("a mail that would wait long is answered %d", answered.Status)
	}
	x.Exchange.OnRequest(nil)
	close(second)
	settled(t, x)
	if answered := deliver(phones[4]); answered.Reply != "OK" {
		t.Errorf("a mail is answered %d when nobody waits any more", answered.Status)
	}
}

// Those that are being taken do not get on here. A heartbeat brings no work, and waits for nobody.
func TestPostsAboutEventsWaitForThoseBefore(t *testing.T) {
	t.Parallel()
	const atOnce = 128
	stopped := make(chan struct{})
	t.Cleanup(func() { close(stopped) })
	clock := clocktesting.NewFakeClock(time.Now())
	var holding atomic.Bool
	arrived, released := make(chan struct{}, 2*atOnce), make(chan struct{})
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Calm: true}, Steps: func(s step.Step) {
		if s == step.JournalDue && holding.Load() {
			arrived <- struct{}{}
			<-released
		}
	}})
	x.Start(t)
	t.Cleanup(func() { go runClock(clock, stopped) }) // a replica that stops waits for its clock
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	settled(t, x)
	s := x.Exchange.Subscriptions()[0]
	ctx := runtimetest.Context(t)
	tell := func(event string) ewstest.Callback { return x.Exchange.Post(ctx, s.URL, post(s.ID, event)) }
	mail := func(n int) string { return strings.ReplaceAll(mailThatIsGone, "AAMkGone", fmt.Sprint("AAMkGone", n)) }

	holding.Store(true)
	answers := make(chan ewstest.Callback, atOnce)
	for n := range atOnce {
		go func() { answers <- tell(mail(n)) }()
	}
	for range atOnce {
		<-arrived
	}
	if c := tell(stillThere); c.Reply != "OK" {
		t.Errorf("a heartbeat is answered %d %q: %v", c.Status, c.Reply, c.Err)
	}
	another := make(chan ewstest.Callback, 1)
	go func() { another <- tell(mail(atOnce)) }()
	runtimetest.Eventually(t, func() string {
		clock.Step(time.Second) // so long that Exchange had better come again
		select {
		case c := <-another:
			if c.Status != http.StatusServiceUnavailable {
				t.Errorf("one post more is answered %d %q: %v", c.Status, c.Reply, c.Err)
			}
			return ""
		default:
			return "one post more has no answer"
		}
	})
	close(released)
	for range atOnce {
		if c := <-answers; c.Reply != "OK" {
			t.Errorf("a post that was being taken is answered %d %q: %v", c.Status, c.Reply, c.Err)
		}
	}
}
