package server_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// One user at a time may ask Exchange, and alice's push fails in one way or the other. bob is at the same Exchange, and at another
// push service.
func TestAFailingPushServiceKeepsNobodyFromExchange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault apnstest.Fault
		// passes is how much time may go by until bob is told: what alice's work does takes seconds.
		passes time.Duration
	}{
		"that hangs":                {apnstest.Fault{Hang: true}, 2 * time.Second},
		"that is to be asked again": {apnstest.Fault{Status: http.StatusInternalServerError, Reason: "InternalServerError"}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopped := make(chan struct{})
			t.Cleanup(func() { close(stopped) })
			clock := clocktesting.NewFakeClock(time.Now())
			x := runtimetest.New(t, runtimetest.Options{
				Clock:     clock,
				Configure: func(c *config.Config) { c.Callback.Workers = 1 },
			})
			x.Start(t)
			t.Cleanup(func() { // a replica that stops waits for its clock
				x.APNs.OnRequest(nil)
				go runClock(clock, stopped)
			})
			iphone, android := x.Phone(alice, push.IOS), x.Phone(bob, push.Android)
			runtimetest.MustRegister(t, iphone, 7)
			runtimetest.MustRegister(t, android, 7)
			settled(t, x)
			failing := make(chan struct{})
			tell := sync.OnceFunc(func() { close(failing) })
			x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault {
				tell()
				return &test.fault
			})
			deliver(t, x, lunch)
			<-failing
			if _, err := x.Exchange.Deliver(bob, lunch); err != nil {
				t.Fatal(err)
			}
			began := clock.Now()
			runtimetest.Eventually(t, func() string {
				if len(toldAndroid(x, android)) == 1 {
					return ""
				}
				clock.Step(time.Millisecond)
				return "bob is not told"
			})
			if took := clock.Since(began); took > test.passes {
				t.Errorf("bob was told after %s, when alice's push had ended", took)
			}
		})
	}
}
