package server_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// providerOpen waits until a replica says whether a push provider is left alone.
func providerOpen(t *testing.T, replica *runtimetest.Replica, provider string, want float64) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		if got := milestonesOf(t, replica).sum("ens_push_provider_open", `provider="`+provider+`"`); got != want {
			return fmt.Sprintf("ens_push_provider_open of %s is %g, want %g", provider, got, want)
		}
		return ""
	})
}

// toldAndroid are the titles that an Android phone was told; a badge has none.
func toldAndroid(x *runtimetest.Tenant, phone *boxertest.Phone) (titles []string) {
	for _, m := range x.FCM.Messages(phone.DeviceToken) {
		if title := m.Data["title"]; title != "" {
			titles = append(titles, title)
		}
	}
	return titles
}

// waitAndroid waits until an Android phone was told so many mails.
func waitAndroid(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone, mails int) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		if titles := toldAndroid(x, phone); len(titles) < mails {
			return fmt.Sprintf("the Android phone of %s was told %q, want %d mails", phone.Address, titles, mails)
		}
		return ""
	})
}

func TestAnOutageOfAppleIsSatOutAndHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	clock, log := &runtimetest.Clock{}, new(buffer)
	x := runtimetest.New(t, runtimetest.Options{
		Clock: clock, Exchange: ewstest.Options{Compression: 0.001}, Log: slog.NewTextHandler(log, nil),
	})
	replica := x.Start(t)
	iphone, android, other := x.Phone(alice, push.IOS), x.Phone(alice, push.Android), x.Phone(bob, push.IOS)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)
	runtimetest.MustRegister(t, other, 7)
	settled(t, x)
	askedFor := func(user string) (count int) {
		for _, request := range x.Exchange.Requests() {
			if request.User == user {
				count++
			}
		}
		return count
	}

	// Apple is out of order and asks to be left alone; Google is not.
	const asked = 10 * time.Minute
	x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault {
		return &apnstest.Fault{Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable", RetryAfter: asked}
	})
	deliver(t, x, lunch)
	waitAndroid(t, x, android, 1)
	providerOpen(t, replica, "apple", 1)
	providerOpen(t, replica, "google", 0)
	atRest(t, x)

	// What nobody could be told of is not fetched.
	before, pushes := askedFor(bob), x.APNs.Stats().Requests
	if _, err := x.Exchange.Deliver(bob, lunch); err != nil {
		t.Fatal(err)
	}
	deliver(t, x, ewstest.Mail{FromName: "Dan", Subject: "Second"})
	waitAndroid(t, x, android, 2)
	atRest(t, x)
	if got := askedFor(bob) - before; got != 0 {
		t.Errorf("Exchange was asked %d times for a mail that nobody can be told of", got)
	}
	if got := x.APNs.Stats().Requests - pushes; got != 0 {
		t.Errorf("Apple was asked %d times while it is to be left alone", got)
	}

	// Each time that Apple has named, one push is tried; a notification loses none of its tries by that.
	for n := range 2 {
		clock.Advance(asked + asked/5)
		x.Exchange.Heartbeat(alice)
		runtimetest.Eventually(t, func() string {
			if got := x.APNs.Stats().Requests - pushes; got <= n {
				return fmt.Sprintf("Apple was asked %d times after %d pauses", got, n+1)
			}
			return ""
		})
		atRest(t, x)
	}
	if got := x.APNs.Stats().Requests - pushes; got != 2 {
		t.Errorf("Apple was asked %d times after two pauses, want 2", got)
	}
	if got := storetest.Value[int](t, x.Schema, `SELECT max(attempts) FROM pending WHERE done_at IS NULL`); got != 0 {
		t.Errorf("%d tries of a notification are used up", got)
	}

	x.APNs.OnRequest(nil)
	clock.Advance(asked + asked/5)
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, iphone)) >= 2 })
	runtimetest.Eventually(t, func() string {
		if len(alertsOf(x, other)) == 0 {
			x.Exchange.Heartbeat(bob)
			return "the other user has not been told"
		}
		return ""
	})
	settled(t, x)
	providerOpen(t, replica, "apple", 0)
	if titles := strings.Join(alertsOf(x, iphone), ", "); titles != lunch.FromName+", Dan" && titles != "Dan, "+lunch.FromName {
		t.Errorf("the iPhone was shown %q, want each mail once", titles)
	}
	if n := len(alertsOf(x, other)); n != 1 {
		t.Errorf("the other iPhone was shown %d alerts, want 1", n)
	}
	if titles := toldAndroid(x, android); len(titles) != 2 {
		t.Errorf("the Android phone was told %q, want each mail once", titles)
	}
	for _, change := range []string{"The push provider is left alone for now", "The push provider answers again"} {
		if n := strings.Count(log.String(), change); n != 1 {
			t.Errorf("%q is logged %d times, want once", change, n)
		}
	}
}

// With two workers, each of these users would hold one up for a minute.
func TestAHungProviderHoldsUpNeitherTheUsersOtherPhonesNorOtherUsers(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
		c.Callback.Workers = 2
		c.PushProviders[0].TimeoutSeconds = 60
	}})
	x.Start(t)
	iphone, android, healthy := x.Phone(alice, push.IOS), x.Phone(alice, push.Android), x.Phone(bob, push.Android)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)
	runtimetest.MustRegister(t, healthy, 7)
	var hung []string
	for n := range 4 {
		phone := x.Phone(fmt.Sprintf("hung%d@example.com", n), push.IOS)
		runtimetest.MustRegister(t, phone, 7)
		hung = append(hung, phone.Address)
	}
	settled(t, x)

	x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault { return &apnstest.Fault{Hang: true} })
	for _, address := range hung {
		if _, err := x.Exchange.Deliver(address, lunch); err != nil {
			t.Fatal(err)
		}
	}
	const mails = 3
	for n := range mails {
		deliver(t, x, ewstest.Mail{FromName: fmt.Sprint("Mail ", n+1)})
		waitAndroid(t, x, android, n+1)
	}
	if _, err := x.Exchange.Deliver(bob, lunch); err != nil {
		t.Fatal(err)
	}
	waitAndroid(t, x, healthy, 1)

	// A push that was under way all the time is told when it ends, the others with a heartbeat; each once.
	x.APNs.OnRequest(nil)
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, iphone)) >= mails })
	atRest(t, x)
	seen := map[string]int{}
	for _, title := range alertsOf(x, iphone) {
		seen[title]++
	}
	for n := range mails {
		if title := fmt.Sprint("Mail ", n+1); seen[title] != 1 {
			t.Errorf("%s was shown %d times", title, seen[title])
		}
	}
	if titles := toldAndroid(x, android); len(titles) != mails {
		t.Errorf("the Android phone was told %q, want each mail once", titles)
	}
}
