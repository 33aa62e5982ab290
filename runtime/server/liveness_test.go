package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestAPhoneWhoseSubscriptionIsLostIsAskedToRegisterMoreAndMoreSeldom(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}}) // no heartbeats by itself
	x.Start(t)
	lost, living := x.Phone(alice, push.IOS), x.Phone("bob@example.com", push.IOS)
	runtimetest.MustRegister(t, lost, 7)
	runtimetest.MustRegister(t, living, 7)
	settled(t, x)
	nudged := func(n int) {
		t.Helper()
		runtimetest.Eventually(t, func() string {
			if got := silentPushes(x, lost); got != n {
				return fmt.Sprintf("%d silent pushes came, want %d", got, n)
			}
			return ""
		})
	}
	pass := func(d time.Duration) {
		t.Helper()
		const step = 10 * time.Minute // more often than the living one's heartbeat is missed
		for ; d > 0; d -= step {
			clock.Advance(min(d, step))
			x.Exchange.Heartbeat(living.Address)
			runtimetest.Eventually(t, func() string {
				const heard = `SELECT count(*) FROM user_state WHERE last_callback > $1`
				if storetest.Value[int](t, x.Schema, heard, clock.Now().Add(-time.Minute)) == 0 {
					return "the heartbeat has not been recorded"
				}
				return ""
			})
			settled(t, x)
		}
	}
	pass(29 * time.Minute)
	if got := silentPushes(x, lost); got != 0 {
		t.Errorf("%d silent pushes came within half an hour", got)
	}
	pass(2 * time.Minute)
	nudged(1)
	pass(22 * time.Minute) // half an hour less a fifth has not passed
	nudged(1)
	pass(15 * time.Minute) // half an hour and a fifth have; it was after 32 minutes or after 37
	nudged(2)
	pass(41 * time.Minute) // now it is twice as long: less a fifth has not passed
	nudged(2)
	pass(32 * time.Minute)
	nudged(3)
	if got := silentPushes(x, living); got != 0 {
		t.Errorf("the phone whose subscription lives got %d silent pushes", got)
	}
	runtimetest.MustRegister(t, lost, 7)
	x.Exchange.Heartbeat(alice)
	settled(t, x)
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM user_state WHERE nudges > 0`); n != 0 {
		t.Error("after it has registered it is still counted as asked")
	}
}

func TestAMailIsToldAtOnceHoweverLongWhatItJoinsHasWaited(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}}) // no heartbeats by itself
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	begun, release := held(x)
	deliver(t, x, lunch)
	<-begun // the user is being worked on
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	clock.Advance(31 * time.Minute)
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_users_nudged_total 1") {
			return "the phone is not asked to register"
		}
		return ""
	})
	clock.Advance(2 * time.Minute) // no time is left for the question and for the badges of the first mail
	deliver(t, x, ewstest.Mail{FromName: "Carol", Subject: "Second"})
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	release()
	shown(t, x, phone, 2)
	settled(t, x)
}

// watched waits until a replica has looked at the subscriptions at a time or later.
func watched(t *testing.T, replica *runtimetest.Replica, since time.Time) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		for line := range strings.Lines(get(t, "http://"+replica.Metrics+"/metrics")) {
			value, found := strings.CutPrefix(line, "ens_subscriptions_watched_timestamp_seconds ")
			if !found {
				continue
			}
			last, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			if int64(last) >= since.Unix() {
				return ""
			}
		}
		return "the subscriptions were not looked at"
	})
}

func TestAfterAStartOfOurOwnSubscriptionsGetTheTimeToSayThatTheyLive(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
	first := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	settled(t, x)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	clock.Advance(24 * time.Hour) // we were away
	second := x.Start(t)
	watched(t, second, clock.Now()) // the half hour begins with the first look
	clock.Advance(29 * time.Minute)
	watched(t, second, clock.Now())
	if !strings.Contains(get(t, "http://"+second.Metrics+"/metrics"), "ens_users_nudged_total 0") {
		t.Error("a phone was asked to register although its subscription had no time to show that it lives")
	}
	clock.Advance(2 * time.Minute)
	runtimetest.Eventually(t, func() string {
		if silentPushes(x, phone) == 0 {
			return "the phone is not asked to register"
		}
		return ""
	})
}

func TestAnExchangeThatCannotReachUsIsNoticedWithinMinutes(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 60}}) // its retries take half a second
	replica := x.Start(t)
	x.Front.Route(func(r *http.Request) string {
		if strings.Contains(r.URL.Path, "pushnotificationlistener") {
			return "127.0.0.1:1" // nothing is there
		}
		return replica.Address
	})
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	status := func() string { return get(t, "http://"+replica.Admin+"/status") }
	if text := status(); !strings.Contains(text, `"unheard":""`) {
		t.Errorf("before the minute is over the status is %s", text)
	}
	clock.Advance(61 * time.Second)
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(status(), "callbackURL") {
			return "the status does not say what to check"
		}
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_subscriptions_unheard 1") {
			return "the metric does not count it"
		}
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM activity WHERE kind = 'no callback'`) != 1 {
			return "the timeline does not tell"
		}
		return ""
	})
	clock.Advance(time.Minute)
	x.Front.Use(replica.Address)
	x.Exchange.Heartbeat(alice)
	heard(t, x, "OK")
	clock.Advance(time.Minute)
	runtimetest.Eventually(t, func() string {
		if text := status(); !strings.Contains(text, `"unheard":""`) {
			return "the status is still " + text
		}
		return ""
	})
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM activity WHERE kind = 'no callback'`); n != 1 {
		t.Errorf("the timeline tells it %d times", n)
	}
}
