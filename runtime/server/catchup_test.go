package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// forgotten waits until the journal has forgotten what it has told, long after.
func forgotten(t *testing.T, x *runtimetest.Tenant) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE kind = 1`) > 0 {
			return "the journal remembers what it told"
		}
		return ""
	})
}

func TestMailThatCameWhileThereWasNoSubscriptionIsToldAfterTheNextRegistration(t *testing.T) {
	t.Parallel()
	from := func(names ...string) (mails []ewstest.Mail) {
		for _, name := range names {
			mails = append(mails, ewstest.Mail{FromName: name})
		}
		return mails
	}
	for name, test := range map[string]struct {
		missed []ewstest.Mail
		// read are those among them that were read meanwhile, elsewhere.
		read []int
		// away is how long ago the last of them came.
		away time.Duration
		want []string
	}{
		"nothing came":                             {},
		"a mail is told as itself":                 {missed: from("Bob"), want: []string{"Bob"}},
		"several are told as a number":             {missed: from("Bob", "Carol", "Dan", "Eve"), want: []string{"4 new messages"}},
		"what was read elsewhere is not told":      {missed: from("Bob", "Carol"), read: []int{0}, want: []string{"Carol"}},
		"what is older than a day is no news":      {missed: from("Bob"), away: 25 * time.Hour},
		"a receipt is not told":                    {missed: []ewstest.Mail{{FromName: "Server", Class: "REPORT.IPM.Note.IPNRN"}}},
		"that a mail could not be sent is told":    {missed: []ewstest.Mail{{FromName: "Server", Class: "REPORT.IPM.Note.NDR"}}, want: []string{"Server"}},
		"an invitation is told by who it is from":  {missed: []ewstest.Mail{{FromName: "Boss", Element: "MeetingRequest"}}, want: []string{"Boss"}},
		"a cancellation is told by who it is from": {missed: []ewstest.Mail{{FromName: "Boss", Element: "MeetingCancellation"}}, want: []string{"Boss"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			deliver(t, x, ewstest.Mail{FromName: "Before everything"})
			clock.Advance(time.Minute)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			deliver(t, x, ewstest.Mail{FromName: "Before the gap"})
			shown(t, x, phone, 1)
			settled(t, x)

			x.Exchange.EndSubscriptions(alice, "") // as a restart of Exchange does: nobody is told
			clock.Advance(2 * time.Hour)
			forgotten(t, x)
			for i, mail := range test.missed {
				clock.Advance(time.Minute)
				item := deliver(t, x, mail)
				if slices.Contains(test.read, i) {
					if err := x.Exchange.MarkRead(item); err != nil {
						t.Fatal(err)
					}
				}
			}
			atRest(t, x)
			clock.Advance(test.away)
			runtimetest.MustRegister(t, phone, 7)
			settled(t, x)
			if got := alertsOf(x, phone)[1:]; !slices.Equal(got, test.want) {
				t.Errorf("after the gap %q were shown, want %q", got, test.want)
			}
			if want := x.Exchange.Unread(alice); x.APNs.Screen(phone.DeviceToken).Badge != want && len(test.want) > 0 {
				t.Errorf("the badge is %d, want %d", x.APNs.Screen(phone.DeviceToken).Badge, want)
			}
			// Registered once more, it is not told again.
			phone.Extra = map[string]any{"forceSubscription": true}
			runtimetest.MustRegister(t, phone, 7)
			settled(t, x)
			if got := alertsOf(x, phone)[1:]; !slices.Equal(got, test.want) {
				t.Errorf("after one more registration %q were shown, want %q", got, test.want)
			}
		})
	}
}

func TestMailIsFoundThatASubscriptionWasToldOfWhichWasNeverHeardOf(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
	replica := x.Start(t)
	x.Front.Route(func(r *http.Request) string {
		if strings.Contains(r.URL.Path, "pushnotificationlistener") {
			return "127.0.0.1:1" // Exchange does not get through
		}
		return replica.Address
	})
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	clock.Advance(time.Minute)
	deliver(t, x, lunch)
	x.Exchange.EndSubscriptions(alice, "")
	x.Front.Use(replica.Address)
	runtimetest.MustRegister(t, phone, 7)
	shown(t, x, phone, 1)
	settled(t, x)
	if got := alertsOf(x, phone); !slices.Equal(got, []string{lunch.FromName}) {
		t.Errorf("shown are %q, want the mail once", got)
	}
}

func TestWhatCameAfterAGapAndIsPostedTooIsToldOnce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	// A mail that comes between Subscribe and the look at the Inbox is posted and found.
	hold, reached := make(chan struct{}), make(chan struct{}, 16)
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "FindItem" {
			return ewstest.Fault{}
		}
		reached <- struct{}{}
		return ewstest.Fault{Wait: hold}
	})
	phone.Extra = map[string]any{"forceSubscription": true}
	runtimetest.MustRegister(t, phone, 7)
	<-reached
	item := deliver(t, x, lunch)
	answered(t, x, item)
	close(hold)
	shown(t, x, phone, 1)
	settled(t, x)
	if got := alertsOf(x, phone); !slices.Equal(got, []string{lunch.FromName}) {
		t.Errorf("shown are %q, want the mail once", got)
	}
}

func TestAGapThatCannotBeLookedAtYetIsLookedAtLater(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	x.Exchange.EndSubscriptions(alice, "")
	clock.Advance(time.Hour)
	deliver(t, x, lunch)
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "FindItem" {
			return ewstest.Fault{}
		}
		return ewstest.Fault{Code: "ErrorServerBusy", BackOff: 5 * time.Minute}
	})
	runtimetest.MustRegister(t, phone, 7)
	atRest(t, x)
	x.Exchange.OnRequest(nil)
	clock.Advance(6 * time.Minute)
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, phone)) > 0 })
	settled(t, x)
	if got := alertsOf(x, phone); !slices.Equal(got, []string{lunch.FromName}) {
		t.Errorf("shown are %q, want the mail once", got)
	}
}
