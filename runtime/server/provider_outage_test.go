package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

// appleFails and googleFails are what the push services do for minutes.
var (
	appleFails = map[string]apnstest.Fault{
		"it has had enough":                        {Status: http.StatusTooManyRequests, Reason: "TooManyRequests"},
		"it has had enough, and says for how long": {Status: http.StatusTooManyRequests, Reason: "TooManyRequests", RetryAfter: time.Minute},
		"it has had enough for this provider":      {Status: http.StatusTooManyRequests, Reason: "TooManyProviderTokenUpdates"},
		"it fails inside":                          {Status: http.StatusInternalServerError, Reason: "InternalServerError"},
		"it is down":                               {Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"},
		"it is being stopped":                      {Status: http.StatusServiceUnavailable, Reason: "Shutdown"},
		"it says goodbye":                          {GoAway: true},
		"it refuses streams":                       {RefuseStream: true},
		"it hangs":                                 {Hang: true},
		"it drops the connection":                  {Cut: true},
		"its answer is lost":                       {LoseAnswer: true},
		"a page of a proxy":                        {Status: http.StatusBadGateway, Body: "<html>"},
	}
	googleFails = map[string]fcmtest.Fault{
		"it has had enough": {Status: http.StatusTooManyRequests, Canonical: "RESOURCE_EXHAUSTED", Code: "QUOTA_EXCEEDED"},
		"it has had enough, and says for how long": {
			Status: http.StatusTooManyRequests, Canonical: "RESOURCE_EXHAUSTED", Code: "QUOTA_EXCEEDED", RetryAfter: time.Minute,
		},
		"it fails inside": {Status: http.StatusInternalServerError, Canonical: "INTERNAL", Code: "INTERNAL"},
		"it is down":      {Status: http.StatusServiceUnavailable, Canonical: "UNAVAILABLE", Code: "UNAVAILABLE"},
		"it is down, and says for how long": {
			Status: http.StatusServiceUnavailable, Canonical: "UNAVAILABLE", Code: "UNAVAILABLE", RetryAfter: time.Minute,
		},
		"it hangs":                {Hang: true},
		"it drops the connection": {Cut: true},
		"its answer is lost":      {LoseAnswer: true},
		"a page of a proxy":       {Status: http.StatusBadGateway, Body: "<html>"},
	}
)

func TestAMailIsToldOnceHoweverAppleFails(t *testing.T) {
	t.Parallel()
	sideBySide(t, appleFails, func(t *testing.T, fault apnstest.Fault) {
		p := newProviders(t, 0)
		p.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault { return &fault })
		p.through(t, p.android, func() { p.APNs.OnRequest(nil) })
	})
}

func TestAMailIsToldOnceHoweverGoogleFails(t *testing.T) {
	t.Parallel()
	sideBySide(t, googleFails, func(t *testing.T, fault fcmtest.Fault) {
		p := newProviders(t, 1)
		p.FCM.OnRequest(func(fcmtest.Request) *fcmtest.Fault { return &fault })
		p.through(t, p.iphone, func() { p.FCM.OnRequest(nil) })
	})
}

// providers is a user with a phone of each kind.
type providers struct {
	*ledger
	clock           *runtimetest.Clock
	iphone, android *boxertest.Phone
}

// newProviders sets the scene. The provider that is going to fail, by its place in the configuration, is given up on soon.
func newProviders(t *testing.T, failing int) *providers {
	t.Helper()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{
		Clock: clock, Exchange: ewstest.Options{Compression: 0.001}, // no heartbeats by itself
		Configure: func(c *config.Config) {
			c.PushProviders[failing].TimeoutSeconds = 1
		},
	})
	x.Start(t)
	p := &providers{ledger: newLedger(x), clock: clock}
	p.iphone, p.android = p.phone(alice, push.IOS), p.phone(alice, push.Android)
	for _, phone := range p.phones {
		mustEnter(t, phone)
	}
	settled(t, x)
	return p
}

// through lets mails come while a push service fails. The other one's phone is told without delay, the one of the
// service that failed once it has recovered.
func (p *providers) through(t *testing.T, sound *boxertest.Phone, heal func()) {
	t.Helper()
	for range minutes {
		item := p.mail(t, alice)
		runtimetest.Eventually(t, func() string {
			if about, _ := p.sent(sound); about[collapseID(item)] == 0 {
				return "the other service's phone is not told"
			}
			return ""
		})
		rest(t, p.Tenant, p.clock)
		p.clock.Advance(time.Minute)
		p.Exchange.Heartbeat(alice)
	}
	rest(t, p.Tenant, p.clock)
	heal()
	heartbeatMinutely(t, p.Tenant, p.clock, func() bool { return p.unsettled(t) == "" })
	if about, _ := p.sent(sound); len(about) != minutes {
		t.Errorf("the other service's phone was told of %d mails", len(about))
	}
	for id, count := range first(p.sent(sound)) {
		if count != 1 {
			t.Errorf("the other service's phone was told %d times of %s", count, id)
		}
	}
	t.Log(p.close(t))
}

func first[A, B any](a A, _ B) A { return a }
