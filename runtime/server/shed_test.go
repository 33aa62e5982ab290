package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
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

// A post that has been left to Exchange for long is taken all the same, and so is one that says nothing of a new mail: a
// subscription whose posts are never taken would end.
func TestOnlyRecentMailIsLeftToExchange(t *testing.T) {
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
	for _, c := range []struct {
		name, event string
		want        int
	}{
		{"a mail of this minute", mail(0), http.StatusServiceUnavailable},
		{"a mail of the minute before", mail(time.Minute), http.StatusServiceUnavailable},
		{"a mail that comes again after three minutes", mail(3 * time.Minute), http.StatusOK},
		{"a mail of tomorrow, by a clock that is wrong", mail(-24 * time.Hour), http.StatusOK},
		{"a heartbeat", `<t:StatusEvent><t:Watermark>AQ==</t:Watermark></t:StatusEvent>`, http.StatusOK},
	} {
		if got := x.Exchange.Post(t.Context(), s.URL, post(s.ID, c.event)); got.Status != c.want {
			t.Errorf("%s is answered %d, want %d", c.name, got.Status, c.want)
		}
	}
}
