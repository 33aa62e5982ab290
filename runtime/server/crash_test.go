package server_test

import (
	"net/http"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
)

// shortLease lets a killed replica's work be taken up after five seconds instead of ninety.
func shortLease(c *config.Config) { c.Callback.LeaseSeconds = 5 }

// held makes Exchange hold every fetch of a mail until release is called, and reports that one has begun.
func held(x *runtimetest.Tenant) (begun <-chan struct{}, release func()) {
	hold, reached := make(chan struct{}), make(chan struct{}, 64)
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "GetItem" {
			return ewstest.Fault{}
		}
		reached <- struct{}{}
		return ewstest.Fault{Wait: hold}
	})
	return reached, func() {
		x.Exchange.OnRequest(nil)
		close(hold)
	}
}

// toldOnce lets Exchange send heartbeats until the mail is shown, and some more, and wants one alert for it.
func toldOnce(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		x.Exchange.Heartbeat(alice)
		if len(alertsOf(x, phone)) == 0 {
			return "the mail was not shown"
		}
		return ""
	})
	// The mail after it is fetched by the same heartbeats that would show the first one again.
	deliver(t, x, ewstest.Mail{FromName: "Carol"})
	runtimetest.Eventually(t, func() string {
		x.Exchange.Heartbeat(alice)
		shown := alertsOf(x, phone)
		if shown[len(shown)-1] != "Carol" {
			return "the next mail was not shown"
		}
		if len(shown) != 2 || shown[0] != lunch.FromName {
			t.Fatalf("shown were %q, want each mail once", shown)
		}
		return ""
	})
	var owed int
	runtimetest.Eventually(t, func() string {
		x.Exchange.Heartbeat(alice)
		if err := x.Schema.Looking.QueryRow(t.Context(), `SELECT count(*) FROM pending WHERE done_at IS NULL`).Scan(&owed); err != nil {
			return err.Error()
		}
		if owed > 0 {
			return "the journal still owes something"
		}
		return ""
	})
}

// retrySoon makes Exchange repeat a failed post after one second instead of thirty.
var retrySoon = ewstest.Options{Compression: 30}

func TestAKilledReplicaLosesNothing(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: shortLease, Exchange: retrySoon})
	first := x.Spawn(t)
	x.Front.Use(first.Address)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")

	begun, release := held(x)
	item := deliver(t, x, lunch)
	answered(t, x, item)
	<-begun
	first.Kill() // after the answer to Exchange, before the push
	release()
	if n := len(alertsOf(x, phone)); n != 0 {
		t.Fatalf("%d alerts were shown before the crash; the test shows nothing", n)
	}

	second := x.Spawn(t)
	x.Front.Use(second.Address)
	toldOnce(t, x, phone)
}

// answered waits until Exchange's post about the item has been answered OK.
func answered(t *testing.T, x *runtimetest.Tenant, item string) {
	t.Helper()
	_, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool {
		for _, id := range c.ItemIDs {
			if id == item && c.Reply == "OK" {
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestARetryThatHitsTheOtherReplicaTellsOnce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: shortLease, Exchange: retrySoon})
	first, second := x.Spawn(t), x.Spawn(t)
	x.Front.Use(first.Address)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")

	begun, release := held(x)
	x.Exchange.LoseReplies(1)
	item := deliver(t, x, lunch)
	<-begun // the first replica has journalled and answered, but Exchange did not hear it
	x.Front.Use(second.Address)
	first.Kill()
	release()
	answered(t, x, item) // the retry
	toldOnce(t, x, phone)
}

func TestTwoReplicasThatGetTheSamePostsTellOnce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	first, second := x.Start(t), x.Start(t)
	both := []string{first.Address, second.Address}
	requests := make(chan int, 1)
	requests <- 0
	x.Front.Route(func(*http.Request) string {
		n := <-requests
		requests <- n + 1
		return both[n%2]
	})
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	item := deliver(t, x, lunch)
	answered(t, x, item)
	for _, c := range x.Exchange.Callbacks() {
		for range 4 {
			if again := x.Exchange.Post(runtimetest.Context(t), c.URL, c.Body); again.Reply != "OK" {
				t.Fatalf("a repeated post is answered %d %q", again.Status, again.Reply)
			}
		}
	}
	toldOnce(t, x, phone)
}

func TestTwoPhonesRegisteringAtOnceOnTwoReplicasBothGetTheMail(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	first, second := x.Start(t), x.Start(t)
	phones := []*boxertest.Phone{x.Phone(alice, push.IOS), x.Phone(alice, push.IOS)}
	for i, phone := range phones {
		if _, err := phone.PublicKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		phone.BaseURL = "http://" + []string{first.Address, second.Address}[i] + runtimetest.BasePath
	}
	answers := make(chan boxertest.Answer, len(phones))
	for _, phone := range phones {
		go func() {
			answer, err := phone.Register(t.Context())
			if err != nil {
				t.Error(err)
			}
			answers <- answer
		}()
	}
	for range phones {
		if answer := <-answers; answer.Status != http.StatusOK || (answer.Code != 6 && answer.Code != 7) {
			t.Errorf("a registration was answered %d/%d %q", answer.Status, answer.Code, answer.Message)
		}
	}
	var active int
	if err := x.Schema.Looking.QueryRow(t.Context(), `SELECT count(*) FROM subscriptions WHERE state = 'active'`).Scan(&active); err != nil {
		t.Fatal(err)
	}
	if active != 1 {
		t.Errorf("%d subscriptions are active, want 1", active)
	}
	deliver(t, x, lunch)
	for _, phone := range phones {
		if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
			t.Errorf("a phone got nothing: %v", err)
		}
	}
}

func TestABadgeThatADeadReplicaToldIsPutRight(t *testing.T) {
	t.Parallel()
	for _, platform := range []push.Platform{push.IOS, push.Android} {
		t.Run(string(platform), func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: shortLease, Exchange: retrySoon})
			first := x.Spawn(t)
			x.Front.Use(first.Address)
			l := newLedger(x)
			phone := l.phone(alice, platform)
			settle := func() {
				t.Helper()
				runtimetest.Eventually(t, func() string {
					l.pulse()
					return l.unsettled(t)
				})
			}
			runtimetest.MustRegister(t, phone, 7)
			earlier := l.mail(t, alice)
			settle()
			if err := x.Exchange.MarkRead(earlier); err != nil {
				t.Fatal(err)
			}
			settle() // the badge 0 is on record as told
			second := x.SpawnCrashing(t, step.PushAccepted, 1)
			x.Front.Use(second.Address)
			first.Kill()
			item := l.mail(t, alice)
			<-second.Done()
			if _, badge := l.sent(phone); badge != 1 {
				t.Fatalf("the badge is %d before the crash; the test shows nothing", badge)
			}
			// The mail is read before anybody takes the work up: there is nothing to tell any more but the count.
			if err := x.Exchange.MarkRead(item); err != nil {
				t.Fatal(err)
			}
			x.Front.Use(x.Spawn(t).Address)
			settle()
			if b := l.close(t); b.pushes != 2 {
				t.Errorf("two mails were told %d times", b.pushes)
			}
		})
	}
}
