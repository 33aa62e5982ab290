package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestAMailboxThatIsToBeLeftAloneIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]ewstest.Fault{
		"by ErrorServerBusy": {Code: "ErrorServerBusy", BackOff: 4 * time.Minute},
		"by Retry-After":     {Status: http.StatusServiceUnavailable, RetryAfter: 4 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &runtimetest.Clock{}
			x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
			x.Start(t)
			busy, other := x.Phone(alice, push.IOS), x.Phone("bob@example.com", push.IOS)
			runtimetest.MustRegister(t, busy, 7)
			runtimetest.MustRegister(t, other, 7)
			settled(t, x)
			x.Exchange.OnRequest(func(_, user string) ewstest.Fault {
				if user == alice {
					return fault
				}
				return ewstest.Fault{}
			})
			asked := func() int {
				count := 0
				for _, request := range x.Exchange.Requests() {
					if request.User == alice {
						count++
					}
				}
				return count
			}
			before := asked()
			for range 3 {
				deliver(t, x, lunch)
				atRest(t, x)
				x.Exchange.Heartbeat(alice)
				atRest(t, x)
				clock.Advance(time.Minute)
			}
			if _, err := x.Exchange.Deliver(other.Address, lunch); err != nil {
				t.Fatal(err)
			}
			shown(t, x, other, 1) // nobody else waits
			if n := asked() - before; n != 1 {
				t.Errorf("the mailbox was asked %d times within the time that it was to be left alone", n)
			}
			if n := len(alertsOf(x, busy)); n != 0 {
				t.Errorf("%d alerts were shown", n)
			}
			x.Exchange.OnRequest(nil)
			clock.Advance(2 * time.Minute)
			heartbeatUntil(t, x, func() bool { return len(alertsOf(x, busy)) >= 3 })
			for _, title := range shown(t, x, busy, 3) {
				if title != lunch.FromName {
					t.Errorf("shown is %q", title)
				}
			}
		})
	}
}
