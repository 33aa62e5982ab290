package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// gateway is the secret between the simulated SEG and Exchange, by which the former presents users to the latter.
const gateway = "kerberos"

// behindGateway is a tenant whose Exchange is behind a SEG.
func behindGateway(t *testing.T, o runtimetest.Options, nameDevices bool, methods ...config.AuthenticationMethod) (*runtimetest.Tenant, *segtest.Server) {
	t.Helper()
	o.Exchange.TrustedProxy = gateway
	x := runtimetest.New(t, o)
	seg := segtest.StartT(t, segtest.Options{Exchange: x.Exchange, TrustedProxy: gateway, NameDevices: nameDevices})
	endpoint := &x.Config.Endpoints[0]
	endpoint.URL, endpoint.Pinning.SHA256 = seg.URL(), []string{seg.Fingerprint()}
	endpoint.SecureEmailGateway, endpoint.AuthenticationMethods = &config.SecureEmailGateway{}, methods
	x.WriteConfig(t)
	x.Start(t)
	return x, seg
}

// enrolled is a phone that the SEG knows, compliant or not.
func enrolled(x *runtimetest.Tenant, seg *segtest.Server, platform push.Platform, compliant bool) *boxertest.Phone {
	phone := x.Phone(alice, platform)
	phone.EWSURL = seg.URL()
	seg.SetCompliant(phone.DeviceID, compliant)
	return phone
}

func TestOnlyDevicesThatTheGatewayPermitsAreNotified(t *testing.T) {
	t.Parallel()
	for name, nameDevices := range map[string]bool{"asked for each": false, "told for all": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x, seg := behindGateway(t, runtimetest.Options{Clock: clock}, nameDevices, config.AuthBasic)
			good, bad := enrolled(x, seg, push.IOS, true), enrolled(x, seg, push.IOS, true)
			runtimetest.MustRegister(t, good, 7)
			heard(t, x, "OK")
			waitFresh(t, good)
			runtimetest.MustRegister(t, bad, 6)
			seg.SetCompliant(bad.DeviceID, false) // compromised since

			deliver(t, x, lunch)
			if titles := shown(t, x, good, 1); titles[0] != lunch.FromName {
				t.Errorf("the compliant phone shows %q", titles)
			}
			if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
				t.Fatal(err)
			}
			waitsInJournal(t, x)
			if n := len(x.APNs.Notifications(bad.DeviceToken)); n != 0 {
				t.Errorf("the other one got %d notifications", n)
			}
			if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM subscriptions WHERE state = 'active'`); n != 1 {
				t.Errorf("%d subscriptions are active", n)
			}

			seg.SetCompliant(bad.DeviceID, true)
			clock.Advance(2 * time.Minute) // the journal rests between its tries
			heartbeatUntil(t, x, func() bool { return len(alertsOf(x, bad)) > 0 })
			if titles := shown(t, x, bad, 1); titles[0] != lunch.FromName {
				t.Errorf("compliant again, it shows %q", titles)
			}
			settled(t, x)
			if titles := alertsOf(x, good); len(titles) != 1 {
				t.Errorf("the other phone was shown the mail %d times", len(titles))
			}
			for _, call := range seg.Requests() {
				if call.Status == http.StatusOK && len(call.Devices) == 0 {
					t.Error("a call named no device")
				}
			}
		})
	}
}

// waitsInJournal waits until what is owed has been tried, and rests for a later callback.
func waitsInJournal(t *testing.T, x *runtimetest.Tenant) {
	t.Helper()
	atRest(t, x)
	runtimetest.Eventually(t, func() string {
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE done_at IS NULL AND attempts > 0`) == 0 {
			return "nothing rests in the journal"
		}
		return ""
	})
	atRest(t, x)
}

func TestTheGatewaysAnswersToARegistration(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange func(*segtest.Server, *boxertest.Phone)
		message string
	}{
		"its policies are not loaded": {func(s *segtest.Server, _ *boxertest.Phone) { s.SetPolicyLoaded(false) }, "204"},
		"the device is unknown":       {func(s *segtest.Server, p *boxertest.Phone) { s.Forget(p.DeviceID) }, "400"},
		"the device is not compliant": {func(s *segtest.Server, p *boxertest.Phone) { s.SetCompliant(p.DeviceID, false) }, "403"},
		"its EWS proxy is off":        {func(s *segtest.Server, _ *boxertest.Phone) { s.SetProxyEnabled(false) }, "enable.boxer.ens.ews.proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, seg := behindGateway(t, runtimetest.Options{}, false, config.AuthBasic)
			phone := enrolled(x, seg, push.IOS, true)
			test.arrange(seg, phone)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusConflict, 14, test.message)
			requests := seg.Requests()
			transaction := requests[len(requests)-1].Transaction
			if transaction == "" || !strings.Contains(answer.Message, transaction) {
				t.Errorf("the errorMessage %q does not name the SEG's transaction %q", answer.Message, transaction)
			}
			if detail := storetest.Value[string](t, x.Schema, `SELECT detail FROM activity WHERE kind = 'registration refused'`); !strings.Contains(detail, transaction) {
				t.Errorf("the timeline says %q", detail)
			}
		})
	}
}

func TestACompromisedUserIsToldNothingAndTheSubscriptionIsKept(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x, seg := behindGateway(t, runtimetest.Options{Clock: clock}, false, config.AuthBasic)
	phone := enrolled(x, seg, push.IOS, true)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	toldNothing := func() { // but to register again, when its heartbeats have been missing
		t.Helper()
		if n := len(x.APNs.Notifications(phone.DeviceToken)) - silentPushes(x, phone); n != 0 {
			t.Errorf("the phone got %d notifications", n)
		}
	}
	seg.SetCompliant(phone.DeviceID, false)
	item := deliver(t, x, lunch)
	owed := func() int {
		t.Helper()
		return storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE done_at IS NULL`)
	}
	tried := func() int {
		t.Helper()
		return storetest.Value[int](t, x.Schema, `SELECT coalesce(sum(attempts), 0) FROM pending`)
	}
	for owed() > 0 { // as often as the journal tries
		atRest(t, x)
		before := tried()
		clock.Advance(61 * time.Minute)
		heartbeatUntil(t, x, func() bool { return tried() != before || owed() == 0 })
	}
	toldNothing()
	for _, c := range x.Exchange.Callbacks() {
		if c.Reply != "OK" {
			t.Errorf("Exchange was answered %q", c.Reply)
		}
	}
	if err := x.Exchange.MarkRead(item); err != nil { // a badge is no less of a notification
		t.Fatal(err)
	}
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	waitsInJournal(t, x)
	toldNothing()
}

func TestTokensAndCertificatesPassTheGateway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		exchange ewstest.Options
		arrange  func(*testing.T, *runtimetest.Tenant, *boxertest.Phone)
	}{
		"a token": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) { withToken(x, phone) },
		},
		"a certificate, which it presents to Exchange in its own way": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}, ClientCertificates: ewstest.ClientCertificatesAccept},
			withCertificate,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, seg := behindGateway(t, runtimetest.Options{Exchange: test.exchange}, false, config.AuthOAuth, config.AuthClientCertificate)
			phone := enrolled(x, seg, push.IOS, true)
			test.arrange(t, x, phone)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			deliver(t, x, lunch)
			if titles := shown(t, x, phone, 1); !slices.Equal(titles, []string{lunch.FromName}) {
				t.Errorf("shown are %q", titles)
			}
		})
	}
}

func TestACountThatWasFetchedBesideAMailThatWasNotIsToldToNobodyUnpermitted(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x, seg := behindGateway(t, runtimetest.Options{Clock: clock}, false, config.AuthBasic)
	good, bad := enrolled(x, seg, push.IOS, true), enrolled(x, seg, push.IOS, true)
	runtimetest.MustRegister(t, good, 7)
	heard(t, x, "OK")
	waitFresh(t, good)
	runtimetest.MustRegister(t, bad, 6)
	settled(t, x)
	seg.SetCompliant(bad.DeviceID, false) // compromised since

	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation == "GetItem" {
			return ewstest.Fault{Code: "ErrorInternalServerError"}
		}
		return ewstest.Fault{}
	})
	item := deliver(t, x, lunch)
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	waitsInJournal(t, x)
	clock.Advance(61 * time.Minute) // the mail is taken up again, together with the badge
	if err := x.Exchange.MarkRead(item); err != nil {
		t.Fatal(err)
	}
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	waitsInJournal(t, x)
	if n := len(x.APNs.Notifications(bad.DeviceToken)) - silentPushes(x, bad); n != 0 { // it may be asked to register
		t.Errorf("the compromised phone got %d notifications", n)
	}
}

func TestAMailTakesOneCallThroughTheGatewayOrOneForEachPhoneThatItDoesNotName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		phones      int
		nameDevices bool
		calls       int
	}{
		"one phone":                     {1, false, 1},
		"two phones that are not named": {2, false, 2},
		"two phones that are named":     {2, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, seg := behindGateway(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}}, c.nameDevices, config.AuthBasic)
			var phones []*boxertest.Phone
			for range c.phones {
				phone := enrolled(x, seg, push.IOS, true)
				runtimetest.MustRegister(t, phone, map[bool]int{true: 7, false: 6}[len(phones) == 0])
				heard(t, x, "OK")
				waitFresh(t, phone)
				phones = append(phones, phone)
			}
			settled(t, x)
			before := 0
			for mails := 1; mails <= 2; mails++ { // with the first one it is found out whether phones are named
				before = len(seg.Requests())
				deliver(t, x, lunch)
				for _, phone := range phones {
					shown(t, x, phone, mails)
				}
				settled(t, x)
			}
			if calls := seg.Requests()[before:]; len(calls) != c.calls {
				t.Errorf("a mail took %d calls, want %d: %+v", len(calls), c.calls, calls)
			}
			for _, phone := range phones {
				notifications := x.APNs.Notifications(phone.DeviceToken)
				if badge := notifications[len(notifications)-1].APS.Badge; badge == nil || *badge != 2 {
					t.Errorf("the badge is %v, want 2", badge)
				}
			}
		})
	}
}

func TestPhonesThatAreAllCompromisedAreToldWhenOneIsNotAnyMore(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x, seg := behindGateway(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Calm: true}}, false, config.AuthBasic)
	first, second := enrolled(x, seg, push.IOS, true), enrolled(x, seg, push.IOS, true)
	runtimetest.MustRegister(t, first, 7)
	heard(t, x, "OK")
	waitFresh(t, first)
	runtimetest.MustRegister(t, second, 6)
	deliver(t, x, lunch) // since then each is asked for alone
	for _, phone := range []*boxertest.Phone{first, second} {
		shown(t, x, phone, 1)
	}
	settled(t, x)
	for _, phone := range []*boxertest.Phone{first, second} {
		seg.SetCompliant(phone.DeviceID, false)
	}
	deliver(t, x, lunch)
	waitsInJournal(t, x)
	for _, phone := range []*boxertest.Phone{first, second} {
		if n := len(alertsOf(x, phone)); n != 1 {
			t.Errorf("a compromised phone shows %d alerts", n)
		}
	}
	const noted = `SELECT count(*) FROM activity WHERE kind = 'gateway refused'`
	if n := storetest.Value[int](t, x.Schema, noted); n != 1 { // not for each phone
		t.Errorf("the timeline tells of the gateway %d times for one try", n)
	}
	seg.SetCompliant(second.DeviceID, true)
	clock.Advance(2 * time.Minute) // the journal rests between its tries
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, second)) > 1 })
	if n := len(alertsOf(x, first)); n != 1 {
		t.Errorf("the phone that is still compromised shows %d alerts", n)
	}
}

// Through a gateway, too, a count comes with the post and is told to whom the mail is permitted, unless a later post has come.
func TestACountThatALaterPostHasMadeOldIsNotToldThroughTheGateway(t *testing.T) {
	t.Parallel()
	work := newGate(step.WorkBegun)
	x, seg := behindGateway(t, runtimetest.Options{Steps: work.pass, Exchange: ewstest.Options{Calm: true}}, false, config.AuthBasic)
	first, second := x.Launch(t), x.Launch(t)
	runtimetest.WaitReady(t, first.Metrics)
	runtimetest.WaitReady(t, second.Metrics)
	phone := enrolled(x, seg, push.IOS, true)
	runtimetest.MustRegister(t, phone, 7)
	tellsTheLaterCount(t, x, phone, work, first, second)
}
