package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
)

// crashesAtOnce is how many scenes run at a time: they mostly wait for a lease to end or Exchange to try again.
const crashesAtOnce = 10

// TestAProcessThatDiesAtAnyStepLosesNothing is not parallel, so that it has the machine to itself: it runs scenes in
// parallel by itself, more than the flag says, since they wait rather than work.
func TestAProcessThatDiesAtAnyStepLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills some fifty processes")
	}
	var mu sync.Mutex
	var sum books
	slots := make(chan struct{}, crashesAtOnce)
	var scenes sync.WaitGroup
	for i, at := range step.All() {
		for _, replicas := range []int{1, 2} {
			scenes.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(fmt.Sprintf("%s, %d replicas", at, replicas), func(t *testing.T) {
					b := crashAt(t, at, replicas, 1+i%2)
					mu.Lock()
					defer mu.Unlock()
					sum.add(b)
				})
			})
		}
	}
	scenes.Wait()
	t.Logf("%d steps, %d crashes, %s", len(step.All()), sum.crashes, sum)
}

const (
	bob   = "bob@example.com"
	carol = "carol@example.com"
)

// crash is a scene in which a replica dies at a step, and another one takes its place.
type crash struct {
	*ledger
	doomed *runtimetest.Process
	// serving are the addresses of the replicas that requests go to in turn.
	serving  []string
	mu       sync.Mutex
	requests int
	crashes  int
	// refusing says that Exchange tells that carol's password has expired.
	refusing atomic.Bool
	nudges   int
}

// maxRounds bounds how often the same happens until the step has been reached. Which of two replicas reaches it is chance, and
// some die only when they reach it the second time.
const maxRounds = 40

// crashAt lets mails come and phones register until a replica has died at the step, and checks what has become of it all.
func crashAt(t *testing.T, at step.Step, replicas, arrival int) books {
	x := runtimetest.New(t, runtimetest.Options{Exchange: retrySoon, Configure: shortLease})
	c := &crash{ledger: newLedger(x), doomed: x.SpawnCrashing(t, at, arrival)}
	c.serving = []string{c.doomed.Address}
	for len(c.serving) < replicas {
		c.serving = append(c.serving, x.Spawn(t).Address)
	}
	x.Front.Route(c.next)
	x.Exchange.OnRequest(func(operation, user string) ewstest.Fault {
		if user == carol && c.refusing.Load() && operation != "Subscribe" {
			return ewstest.Fault{Code: "ErrorPasswordExpired"}
		}
		return ewstest.Fault{}
	})
	phones := []*boxertest.Phone{c.phone(alice, push.IOS), c.phone(alice, push.Android), c.phone(bob, push.IOS)}
	forgetful := x.Phone(carol, push.IOS) // is told of her mails too, but not what is in them
	for _, phone := range phones {
		c.register(t, phone)
	}
	for round := 0; c.crashes == 0; round++ {
		if round == maxRounds {
			t.Fatalf("in %d rounds the step was not reached", round)
		}
		c.round(t, phones, forgetful)
	}
	c.round(t, phones, forgetful) // those who took over go on
	for i, phone := range phones {
		answer, err := phone.Status(t.Context())
		if err != nil || answer.Code != 17 {
			t.Errorf("in the end the status of phone %d is %d/%d: %v", i+1, answer.Status, answer.Code, err)
		}
	}
	b := c.close(t)
	b.crashes = c.crashes
	return b
}

// next is the replica that a request goes to.
func (c *crash) next(*http.Request) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	return c.serving[c.requests%len(c.serving)]
}

// replace puts another replica in the place of the one that has died, if it was the only one.
func (c *crash) replace(t *testing.T) {
	t.Helper()
	select {
	case <-c.doomed.Done():
	default:
		return
	}
	if c.crashes > 0 {
		return
	}
	c.crashes = 1
	rest := slices.DeleteFunc(slices.Clone(c.serving), func(address string) bool { return address == c.doomed.Address })
	if len(rest) == 0 {
		rest = []string{c.Spawn(t).Address}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = rest
}

// registerPause is how long a phone waits before it tries again.
const registerPause = 100 * time.Millisecond

// register brings a phone in as Boxer does: it tries until it is told that it is in.
func (c *crash) register(t *testing.T, phone *boxertest.Phone) {
	t.Helper()
	var tried time.Time
	runtimetest.Eventually(t, func() string {
		c.replace(t)
		if time.Since(tried) < registerPause {
			return "a phone is not in"
		}
		tried = time.Now()
		answer, err := phone.PublicKey(t.Context())
		if err == nil && answer.Status == http.StatusOK {
			answer, err = phone.Register(t.Context())
		}
		if err != nil || answer.Status != http.StatusOK {
			return fmt.Sprintf("a phone is answered %d/%d %s: %v", answer.Status, answer.Code, answer.Message, err)
		}
		return ""
	})
}

// round lets everything happen once: mails, one of them read, a subscription made anew, a credential refused.
func (c *crash) round(t *testing.T, phones []*boxertest.Phone, forgetful *boxertest.Phone) {
	t.Helper()
	c.refusing.Store(false)
	c.register(t, forgetful)
	c.nudges = silentPushes(c.Tenant, forgetful)
	read := len(c.mails[alice]) - 1 // has been shown
	c.mail(t, alice)
	if read >= 0 {
		if err := c.Exchange.MarkRead(c.mails[alice][read]); err != nil {
			t.Fatal(err)
		}
	}
	c.mail(t, bob) // the subscription that tells of it may be outdated by then
	phones[2].Extra = map[string]any{"forceSubscription": true}
	c.register(t, phones[2])
	c.refusing.Store(true)
	if _, err := c.Exchange.Deliver(carol, ewstest.Mail{FromName: "Dave"}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		c.replace(t)
		c.pulse()
		c.Exchange.Heartbeat(carol)
		if text := c.unsettled(t); text != "" {
			return text
		}
		if silentPushes(c.Tenant, forgetful) == c.nudges {
			return "the phone whose credential is refused was not asked to register"
		}
		return ""
	})
	c.register(t, phones[0]) // one of the two is added to the subscription that is there
	c.register(t, phones[1])
}
