package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// twoExchanges is a tenant whose users are at two endpoints. The first one is Tenant.Exchange.
type twoExchanges struct {
	*runtimetest.Tenant
	other *ewstest.Server
	clock *runtimetest.Clock
}

func newTwoExchanges(t *testing.T, configure func(*config.Config)) *twoExchanges {
	t.Helper()
	x := &twoExchanges{clock: &runtimetest.Clock{}}
	quiet := ewstest.Options{Compression: 0.001, Clock: x.clock} // no heartbeats by itself
	x.other = ewstest.StartT(t, quiet)
	x.Tenant = runtimetest.New(t, runtimetest.Options{Clock: x.clock, Exchange: quiet, Configure: func(c *config.Config) {
		c.Endpoints = append(c.Endpoints, config.Endpoint{
			Name: "other", URL: x.other.URL(), Pinning: config.Pinning{SHA256: []string{x.other.Fingerprint()}},
		})
		configure(c)
	}})
	x.Start(t)
	return x
}

// elsewhere registers a phone of a user at the other endpoint.
func (x *twoExchanges) elsewhere(t *testing.T, address string) *boxertest.Phone {
	t.Helper()
	phone := x.Phone(address, push.IOS)
	x.other.AddMailbox(ewstest.Mailbox{Address: address, Password: runtimetest.Password})
	phone.EWSURL = x.other.URL()
	runtimetest.MustRegister(t, phone, 7)
	return phone
}

// tellsElsewhere lets a mail arrive at the other endpoint and waits until it is shown.
func (x *twoExchanges) tellsElsewhere(t *testing.T, phone *boxertest.Phone) {
	t.Helper()
	before := len(alertsOf(x.Tenant, phone))
	if _, err := x.other.Deliver(phone.Address, lunch); err != nil {
		t.Fatal(err)
	}
	if titles := shown(t, x.Tenant, phone, before+1); titles[before] != lunch.FromName {
		t.Errorf("shown is %q", titles[before])
	}
}

func TestAnExchangeThatHangsHoldsUpNobodyElsewhere(t *testing.T) {
	t.Parallel()
	const workers, hung = 1, 16 // as many users as there are places in its queue; more are left to Exchange
	x := newTwoExchanges(t, func(c *config.Config) { c.Callback.Workers = workers })
	var phones []*boxertest.Phone
	for n := range hung {
		phone := x.Phone(fmt.Sprintf("user%d@example.com", n), push.IOS)
		runtimetest.MustRegister(t, phone, 7)
		phones = append(phones, phone)
	}
	bobs := x.elsewhere(t, bob)
	settled(t, x.Tenant)
	begun, release := held(x.Tenant)
	for _, phone := range phones {
		if _, err := x.Exchange.Deliver(phone.Address, lunch); err != nil {
			t.Fatal(err)
		}
	}
	for range workers {
		<-begun
	}
	if err := x.Exchange.WaitIdle(runtimetest.Context(t)); err != nil {
		t.Fatal(err)
	}
	x.tellsElsewhere(t, bobs)
	release()
	for _, phone := range phones {
		runtimetest.Eventually(t, func() string {
			titles := alertsOf(x.Tenant, phone)
			if len(titles) == 0 {
				x.Exchange.Heartbeat(phone.Address)
				return "a mail is not shown although Exchange answers again"
			}
			return ""
		})
	}
	settled(t, x.Tenant)
	for _, phone := range phones {
		if titles := alertsOf(x.Tenant, phone); !slices.Equal(titles, []string{lunch.FromName}) {
			t.Errorf("shown are %q", titles)
		}
	}
}

// minutes is how long an Exchange stays bad.
const minutes = 2

func TestAMailIsToldOnceHoweverExchangeFails(t *testing.T) {
	t.Parallel()
	never := make(chan struct{}) // until the client gives up
	sideBySide(t, map[string]ewstest.Fault{
		"it is slow":                     {Delay: 500 * time.Microsecond}, // half of the time-out at the fake's pace
		"it hangs":                       {Wait: never},
		"it drops the connection":        {LoseAnswer: true},
		"it drops it in the middle":      {CutAnswer: true},
		"a page instead of SOAP":         {Garbage: true},
		"SOAP that is cut short":         {Body: `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Bo`},
		"another answer than asked for":  {Body: `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a/></s:Body></s:Envelope>`},
		"an answer of more than 4 MiB":   {Body: strings.Repeat(" ", 5<<20)},
		"it is busy":                     {Code: "ErrorServerBusy", BackOff: 3 * time.Minute},
		"it fails inside":                {Code: "ErrorInternalServerTransientError"},
		"it is down, and says how long":  {Status: http.StatusServiceUnavailable, RetryAfter: 3 * time.Minute},
		"it is down":                     {Status: http.StatusBadGateway},
		"it sends us elsewhere":          {Status: http.StatusFound, Location: "https://elsewhere.example.com/EWS/Exchange.asmx"},
		"it forbids":                     {Status: http.StatusForbidden},
		"it knows no EWS":                {Status: http.StatusNotFound},
		"an answer that nobody expected": {Status: http.StatusTeapot},
	}, func(t *testing.T, fault ewstest.Fault) {
		x := newTwoExchanges(t, func(c *config.Config) { c.Endpoints[0].TimeoutSeconds = 1 })
		phone := x.Phone(alice, push.IOS)
		runtimetest.MustRegister(t, phone, 7)
		bobs := x.elsewhere(t, bob)
		settled(t, x.Tenant)
		x.Exchange.OnRequest(func(string, string) ewstest.Fault { return fault })
		deliver(t, x.Tenant, lunch)
		for range minutes {
			x.tellsElsewhere(t, bobs) // without delay
			rest(t, x.Tenant, x.clock)
			x.clock.Advance(time.Minute)
			x.Exchange.Heartbeat(alice)
		}
		rest(t, x.Tenant, x.clock)
		x.Exchange.OnRequest(nil)
		heartbeatMinutely(t, x.Tenant, x.clock, func() bool { return len(alertsOf(x.Tenant, phone)) > 0 })
		settled(t, x.Tenant)
		if titles := alertsOf(x.Tenant, phone); !slices.Equal(titles, []string{lunch.FromName}) {
			t.Errorf("shown are %q", titles)
		}
		if n := len(alertsOf(x.Tenant, bobs)); n != minutes {
			t.Errorf("%d alerts were shown to the other user, want %d", n, minutes)
		}
	})
}

// minutePause is how long a minute takes in heartbeatMinutely.
const minutePause = 100 * time.Millisecond

// heartbeatMinutely lets minutes pass, each with a heartbeat, until something is so. Less than the time that a work has
// passes at once, since a heartbeat's may be under way.
func heartbeatMinutely(t *testing.T, x *runtimetest.Tenant, clock *runtimetest.Clock, done func() bool) {
	t.Helper()
	var last time.Time
	runtimetest.Eventually(t, func() string {
		if done() {
			return ""
		}
		if time.Since(last) >= minutePause {
			clock.Advance(time.Minute)
			x.Exchange.Heartbeat(alice)
			last = time.Now()
		}
		return "heartbeats have led to nothing"
	})
}

const (
	// roundPause is longer than any pause between the rounds of one work, and shorter than the time that the work has.
	roundPause = 10 * time.Second
	// restPause is how long a work is given to come to its next pause.
	restPause = 100 * time.Millisecond
)

// rest waits until nobody is at work, and shortens the pauses of who is.
func rest(t *testing.T, x *runtimetest.Tenant, clock *runtimetest.Clock) {
	t.Helper()
	last := time.Now()
	runtimetest.Eventually(t, func() string {
		var working int
		const count = `SELECT count(*) FROM pending WHERE done_at IS NULL AND lease_owner IS NOT NULL`
		if err := x.Schema.Looking.QueryRow(t.Context(), count).Scan(&working); err != nil {
			t.Fatal(err)
		}
		if working == 0 && x.Exchange.WaitIdle(t.Context()) == nil {
			return ""
		}
		if time.Since(last) >= restPause {
			clock.Advance(roundPause)
			last = time.Now()
		}
		return "somebody is at work"
	})
}
