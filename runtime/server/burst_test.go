package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestABurstIsToldOneByOneUpToThreeAndThenAsANumber(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mails, single int
		// summary is what the others are told as; those that came within one second are told in any order.
		summary []string
	}{
		"three": {3, 3, nil},
		"four":  {4, 4, nil},
		"five":  {5, 3, []string{"2 neue Nachrichten"}},
		"sixty": {60, 3, []string{"57 neue Nachrichten"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			phone.Extra = map[string]any{"locale": "de-DE"}
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			settled(t, x)
			// While the first mail is being fetched, the others come.
			hold, held := make(chan struct{}), make(chan struct{}, 1)
			x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
				if operation != "GetItem" {
					return ewstest.Fault{}
				}
				select {
				case held <- struct{}{}:
					return ewstest.Fault{Wait: hold}
				default:
					return ewstest.Fault{}
				}
			})
			deliver(t, x, ewstest.Mail{FromName: "The first"})
			<-held
			for n := range test.mails {
				deliver(t, x, ewstest.Mail{FromName: fmt.Sprint("Mail ", n+1), Subject: "of a burst"})
			}
			if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
				t.Fatal(err)
			}
			close(hold)
			settled(t, x)
			got := slices.DeleteFunc(alertsOf(x, phone), func(title string) bool { return title == "The first" })
			others := slices.DeleteFunc(slices.Clone(got), func(title string) bool { return strings.HasPrefix(title, "Mail ") })
			if !slices.Equal(others, test.summary) || len(got)-len(others) != test.single {
				t.Errorf("shown are %q, want %d mails and %q", got, test.single, test.summary)
			}
			if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE kind = 1 AND done_at IS NOT NULL`); n != test.mails+1 {
				t.Errorf("%d mails are on record as told, want %d", n, test.mails+1)
			}
			if badge := x.APNs.Screen(phone.DeviceToken).Badge; badge != test.mails+1 {
				t.Errorf("the badge is %d, want %d", badge, test.mails+1)
			}
		})
	}
}

func TestTextsOfOurOwnAreInTheDevicesLanguage(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	phone.Extra = map[string]any{"locale": "fr_CH", "notificationPolicy": 3}
	runtimetest.MustRegister(t, phone, 7)
	deliver(t, x, lunch)
	if titles := shown(t, x, phone, 1); titles[0] != "Nouveau message" {
		t.Errorf("shown is %q", titles)
	}
}
