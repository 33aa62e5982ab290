package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// shown waits until the phone has been shown so many alerts and returns their titles.
func shown(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone, alerts int) []string {
	t.Helper()
	var titles []string
	runtimetest.Eventually(t, func() string {
		if titles = alertsOf(x, phone); len(titles) < alerts {
			return fmt.Sprintf("%d of %d alerts have been shown", len(titles), alerts)
		}
		return ""
	})
	return titles
}

// settled waits until the journal owes nobody anything.
func settled(t *testing.T, x *runtimetest.Tenant) {
	t.Helper()
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE done_at IS NULL`); n > 0 {
			return fmt.Sprintf("%d rows of the journal are owed", n)
		}
		return ""
	})
}

// atRest waits until Exchange has nothing to post and nobody is at work on what is owed: setting the clock forward would
// end the time that the work has.
func atRest(t *testing.T, x *runtimetest.Tenant) {
	t.Helper()
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE done_at IS NULL AND lease_owner IS NOT NULL`) > 0 {
			return "somebody is at work"
		}
		return ""
	})
}

// heartbeatUntil has Exchange send heartbeats, each of which takes up what is owed, until something is so.
func heartbeatUntil(t *testing.T, x *runtimetest.Tenant, done func() bool) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		if done() {
			return ""
		}
		x.Exchange.Heartbeat(alice)
		return "heartbeats have led to nothing"
	})
}

// silentPushes counts the pushes that ask a phone to register again.
func silentPushes(x *runtimetest.Tenant, phone *boxertest.Phone) int {
	count := 0
	for _, n := range x.APNs.Notifications(phone.DeviceToken) {
		if n.APS.ContentAvailable == 1 && n.APS.Alert == nil {
			count++
		}
	}
	return count
}

const generic = "New message"

func TestACredentialThatExchangeRefusesIsLeftAlone(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	waitFresh(t, phone)
	x.Exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: "another one, since this morning"})

	// The first mail meets a 401, and is told without a word of what is in it. The next ones do not ask at all.
	for mail := range 3 {
		deliver(t, x, lunch)
		settled(t, x)
		if titles := shown(t, x, phone, mail+1); slices.ContainsFunc(titles, func(title string) bool { return title != generic }) {
			t.Fatalf("shown are %q", titles)
		}
	}
	if n := x.Exchange.AuthFailures(alice); n != 1 {
		t.Errorf("the wrong password was tried %d times in five minutes, want once", n)
	}
	if answer, err := phone.Status(t.Context()); err != nil || answer.Code != 17 {
		t.Errorf("after one 401 the status is %d: %v", answer.Code, err)
	}

	clock.Advance(5 * time.Minute)
	for range 3 {
		deliver(t, x, lunch)
		settled(t, x)
	}
	if n := x.Exchange.AuthFailures(alice); n != 2 {
		t.Errorf("the wrong password was tried %d times, want twice", n)
	}
	if titles := shown(t, x, phone, 4); len(titles) != 4 {
		t.Errorf("%d alerts were shown, want one in five minutes once the credential is refused", len(titles))
	}
	answer, err := phone.Status(t.Context())
	if err != nil || answer.Code != 29 || answer.Fields["needsRegister"] != true || answer.Fields["subscribed"] != false {
		t.Errorf("the status is %v: %v", answer.Fields, err)
	}
	runtimetest.Eventually(t, func() string {
		if silentPushes(x, phone) == 0 {
			return "the phone is not asked to register again"
		}
		return ""
	})

	clock.Advance(5 * time.Minute)
	deliver(t, x, lunch)
	settled(t, x)
	if n := x.Exchange.AuthFailures(alice); n != 2 {
		t.Errorf("a refused credential was tried again, %d times", n)
	}
	if titles := shown(t, x, phone, 5); len(titles) != 5 {
		t.Errorf("%d alerts were shown", len(titles))
	}

	// Another device is not added to it, and the phone with the right password ends it.
	other := x.Phone(alice, push.IOS)
	other.Password = "another one, since this morning"
	runtimetest.MustRegister(t, other, 7)
	deliver(t, x, lunch)
	if titles := shown(t, x, other, 1); titles[0] != lunch.FromName {
		t.Errorf("shown are %q", titles)
	}
	answer, err = phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 17, "")
}

func TestACredentialThatWorksAgainIsForgiven(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	for range 3 { // each time a 401, and then it works
		x.Exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Status: http.StatusUnauthorized} })
		deliver(t, x, lunch)
		settled(t, x)
		x.Exchange.OnRequest(nil)
		clock.Advance(6 * time.Minute)
		deliver(t, x, lunch)
		settled(t, x)
	}
	answer, err := phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 17, "")
	if n := silentPushes(x, phone); n != 0 {
		t.Errorf("%d silent pushes ask for a registration", n)
	}
}

func TestAnOutageOfTheDirectoryMarksNobody(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]time.Duration{"of a minute": time.Minute, "of an hour": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x := runtimetest.New(t, runtimetest.Options{Clock: clock})
			x.Start(t)
			var phones []*boxertest.Phone
			for n := range 12 {
				phone := x.Phone(fmt.Sprintf("user%d@example.com", n), push.IOS)
				runtimetest.MustRegister(t, phone, 7)
				phones = append(phones, phone)
			}
			mailForAll := func() {
				t.Helper()
				for _, phone := range phones {
					if _, err := x.Exchange.Deliver(phone.Address, lunch); err != nil {
						t.Fatal(err)
					}
				}
				settled(t, x)
			}
			mailForAll()
			x.Exchange.Outage(true)
			const rounds = 6
			for range rounds {
				mailForAll()
				clock.Advance(length / rounds)
			}
			x.Exchange.Outage(false)
			clock.Advance(5 * time.Minute)
			mailForAll()
			for _, phone := range phones {
				if answer, err := phone.Status(t.Context()); err != nil || answer.Code != 17 && answer.Fields["needsRegister"] == true && length < 30*time.Minute {
					t.Errorf("%s stands at %d: %v", phone.Address, answer.Code, err)
				}
				if n := silentPushes(x, phone); n != 0 {
					t.Errorf("%s was asked to register %d times", phone.Address, n)
				}
				if titles := alertsOf(x, phone); titles[len(titles)-1] != lunch.FromName {
					t.Errorf("after the outage %s is shown %q", phone.Address, titles)
				}
			}
			if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM subscriptions WHERE refused_at IS NOT NULL OR unauthorized_at IS NOT NULL`); n != 0 {
				t.Errorf("%d subscriptions are marked", n)
			}
		})
	}
}

func TestATokenThatEndsIsNotUsedAndAsksForANewerOne(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// known says that the device has told when its token ends.
		known bool
		end   func(*runtimetest.Tenant, *runtimetest.Clock)
		// asked is how often Exchange is asked with the token that has ended.
		asked int
	}{
		"at the time that the device told":   {true, func(_ *runtimetest.Tenant, c *runtimetest.Clock) { c.Advance(61 * time.Minute) }, 0},
		"at a time that only Exchange knows": {false, func(_ *runtimetest.Tenant, c *runtimetest.Clock) { c.Advance(61 * time.Minute) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x := runtimetest.New(t, runtimetest.Options{
				Clock: clock, Exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}}, Configure: allow(config.AuthOAuth),
			})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			withToken(x, phone)
			phone.Encryption = boxertest.RSASplit
			if test.known {
				phone.TokenExpires = clock.Now().Add(time.Hour)
			}
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			settled(t, x)
			before := len(x.Exchange.Requests())
			test.end(x, clock)
			deliver(t, x, lunch)
			if titles := shown(t, x, phone, 1); titles[0] != generic {
				t.Errorf("shown are %q", titles)
			}
			settled(t, x)
			deliver(t, x, lunch)
			settled(t, x)
			if n := len(x.Exchange.Requests()) - before; n != test.asked {
				t.Errorf("Exchange was asked %d times with a token that has ended, want %d", n, test.asked)
			}
			answer, err := phone.Status(t.Context())
			if err != nil || answer.Code != 29 {
				t.Errorf("the status is %d: %v", answer.Code, err)
			}
			if silentPushes(x, phone) == 0 {
				t.Error("the phone is not asked for a newer one")
			}

			phone.Token, phone.TokenExpires = x.Exchange.IssueToken(alice, time.Hour), time.Time{}
			answer, err = phone.UpdateCredentials(t.Context())
			wantAnswer(t, answer, err, http.StatusOK, 3, "")
			deliver(t, x, lunch)
			runtimetest.Eventually(t, func() string {
				if titles := alertsOf(x, phone); titles[len(titles)-1] != lunch.FromName {
					return fmt.Sprintf("shown are %q", titles)
				}
				return ""
			})
			x.Exchange.Heartbeat(alice)
			waitFresh(t, phone)
		})
	}
}

func TestTokensThatEndTogetherAreNotTakenForAnOutage(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"at a time that the devices told": true, "at a time that only Exchange knows": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x := runtimetest.New(t, runtimetest.Options{
				Clock: clock, Exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}}, Configure: allow(config.AuthOAuth),
			})
			x.Start(t)
			var phones []*boxertest.Phone
			for n := range 6 {
				phone := x.Phone(fmt.Sprintf("user%d@example.com", n), push.IOS)
				withToken(x, phone)
				if known {
					phone.TokenExpires = clock.Now().Add(time.Hour)
				}
				runtimetest.MustRegister(t, phone, 7)
				phones = append(phones, phone)
			}
			settled(t, x)
			clock.Advance(61 * time.Minute)
			for _, phone := range phones {
				if _, err := x.Exchange.Deliver(phone.Address, lunch); err != nil {
					t.Fatal(err)
				}
			}
			settled(t, x)
			for _, phone := range phones {
				if answer, err := phone.Status(t.Context()); err != nil || answer.Code != 29 {
					t.Errorf("%s stands at %d: %v", phone.Address, answer.Code, err)
				}
				runtimetest.Eventually(t, func() string {
					if silentPushes(x, phone) == 0 {
						return phone.Address + " is not asked for a newer token"
					}
					return ""
				})
			}
		})
	}
}

func TestAPasswordThatExchangeCallsExpiredIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	before := len(x.Exchange.Requests())
	x.Exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Code: "ErrorPasswordExpired"} })
	for range 3 {
		deliver(t, x, lunch)
		settled(t, x)
	}
	if n := len(x.Exchange.Requests()) - before; n != 1 {
		t.Errorf("Exchange was asked %d times, want once", n)
	}
	if answer, err := phone.Status(t.Context()); err != nil || answer.Code != 29 {
		t.Errorf("the status is %d: %v", answer.Code, err)
	}
	if titles := alertsOf(x, phone); !slices.Equal(titles, []string{generic}) {
		t.Errorf("shown are %q", titles)
	}
}
