package server_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// gate holds up whoever comes to a step next, once it is shut.
type gate struct {
	at            step.Step
	shut          atomic.Bool
	reached, open chan struct{}
}

func newGate(at step.Step) *gate {
	return &gate{at: at, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) pass(s step.Step) {
	if s == g.at && g.shut.CompareAndSwap(true, false) {
		close(g.reached)
		<-g.open
	}
}

func TestACountThatALaterPostHasMadeOldIsNotTold(t *testing.T) {
	t.Parallel()
	work := newGate(step.WorkBegun)
	x := runtimetest.New(t, runtimetest.Options{Steps: work.pass, Exchange: ewstest.Options{Calm: true}})
	phone := x.Phone(alice, push.IOS)
	first, second := x.Start(t), x.Launch(t)
	runtimetest.WaitReady(t, second.Metrics)
	runtimetest.MustRegister(t, phone, 7)
	tellsTheLaterCount(t, x, phone, work, first, second)
}

// tellsTheLaterCount has the first replica, at the gate, take a mail, the second one a later mail and tell it, and then the first
// one go on: the registered phone must show the count of both.
func tellsTheLaterCount(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone, work *gate, first, second *runtimetest.Replica) {
	t.Helper()
	heard(t, x, "OK")
	settled(t, x)
	x.Front.Use(first.Address)
	work.shut.Store(true)
	answered(t, x, deliver(t, x, lunch)) // with the count 1
	<-work.reached
	x.Front.Use(second.Address)
	deliver(t, x, lunch) // with the count 2
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE kind = 1 AND done_at IS NOT NULL`); n != 1 {
			return fmt.Sprintf("%d mails are told", n)
		}
		return ""
	})
	close(work.open)
	settled(t, x)
	if badge := x.APNs.Screen(phone.DeviceToken).Badge; badge != 2 {
		t.Errorf("the phone shows %d, want 2", badge)
	}
}

// ticking is a clock that never tells the same time twice.
type ticking struct {
	*clocktesting.FakeClock
	ticks atomic.Int64
}

var _ clock.WithTickerAndDelayedExecution = (*ticking)(nil)

func (c *ticking) Now() time.Time {
	return c.FakeClock.Now().Add(time.Duration(c.ticks.Add(1)) * time.Microsecond)
}

func (c *ticking) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func TestASignOfLifeThatIsRecordedWithWhatWasToldIsNotRecordedTwice(t *testing.T) {
	t.Parallel()
	var marks atomic.Int64
	clock := &ticking{FakeClock: clocktesting.NewFakeClock(time.Now())}
	x := runtimetest.New(t, runtimetest.Options{
		Clock: clock,
		Steps: func(s step.Step) {
			if s == step.MarkedAlive {
				marks.Add(1)
			}
		},
	})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	runtimetest.Eventually(t, func() string {
		clock.Step(time.Second) // signs are collected for less
		if marks.Load() != 1 {
			return "the first post is not on record"
		}
		return ""
	})
	answered(t, x, deliver(t, x, lunch))
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	settled(t, x)
	stopped := make(chan struct{})
	defer close(stopped)
	go runClock(clock.FakeClock, stopped)
	if err := replica.Stop(); err != nil { // which records what is not on record yet
		t.Fatal(err)
	}
	if n := marks.Load(); n != 1 {
		t.Errorf("signs were recorded %d times by themselves, want once", n)
	}
}

// A mail that is told brings the count with it. One that nobody is told of has changed it all the same.
func TestAMailThatIsGoneBeforeItIsFetchedChangesTheCount(t *testing.T) {
	t.Parallel()
	x, token, say := speaking(t, runtimetest.Options{})
	say(mailThatIsGone, folderHasOneUnread)
	if got := badgesOf(x, token); !slices.Equal(got, []int{1}) {
		t.Errorf("the phone was told %v, want 1", got)
	}
	// The same mail again: whoever is at it, or has been, may know another count.
	say(mailThatIsGone, strings.Replace(folderHasOneUnread, "<t:UnreadCount>1<", "<t:UnreadCount>3<", 1))
	if got := badgesOf(x, token); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("the phone was told %v, want 1 and 3", got)
	}
}

func TestAMailAndItsCountAreOneRowOfTheJournal(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	answered(t, x, deliver(t, x, lunch))
	settled(t, x)
	if screen := x.APNs.Screen(phone.DeviceToken); screen.Badge != 1 {
		t.Errorf("the phone shows %d, want 1", screen.Badge)
	}
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM pending WHERE kind IN (1, 2)`); n != 1 {
		t.Errorf("the mail took %d rows of the journal, want 1", n)
	}
}
