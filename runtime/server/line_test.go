package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// registrationsAtOnce is how many registrations at one endpoint are worked on by a replica.
const registrationsAtOnce = 128

// queued starts a tenant whose Exchange answers nothing until released is closed, and has so many phones register, of which
// more than are worked on at once. It returns when the others wait. Their answers come through the channel.
func queued(t *testing.T, clock *runtimetest.Clock, phones int) (x *runtimetest.Tenant, released chan struct{}, answers <-chan boxertest.Answer) {
	t.Helper()
	o := runtimetest.Options{
		Configure: func(c *config.Config) { c.Limits.RequestsPerSecond = 4 * int32(phones) },
		Exchange:  ewstest.Options{Calm: true, Logf: seedOnly(t)},
	}
	if clock != nil {
		o.Clock = clock
	}
	x = runtimetest.New(t, o)
	replica := x.Start(t)
	const stock = `INSERT INTO key_pool (key_id, public_key, private_key, created_at)
SELECT k.key_id, k.public_key, k.private_key, k.created_at FROM (SELECT * FROM key_pool LIMIT 1) k, generate_series(1, $1)`
	runtimetest.Eventually(t, func() string {
		if exposed(t, replica, "ens_key_pool_pairs") == "0" {
			return "no pair is in the pool"
		}
		return ""
	})
	x.Schema.Exec(t, stock, phones)
	released = make(chan struct{})
	var held atomic.Int64
	x.Exchange.OnRequest(func(string, string) ewstest.Fault {
		held.Add(1)
		return ewstest.Fault{Wait: released}
	})
	all := make(chan boxertest.Answer, phones)
	var coming sync.WaitGroup
	for i := range phones {
		phone := x.Phone(fmt.Sprintf("user%d@example.com", i), push.IOS)
		if answer, err := phone.PublicKey(t.Context()); err != nil || answer.Status != http.StatusOK {
			t.Fatalf("getpublickey: %d, %v", answer.Status, err)
		}
		coming.Go(func() {
			answer, err := phone.Register(t.Context())
			if err != nil {
				t.Errorf("registering: %v", err)
			}
			all <- answer
		})
	}
	t.Cleanup(coming.Wait)
	runtimetest.Eventually(t, func() string {
		waiting, want := exposed(t, replica, "ens_boxer_waiting"), strconv.Itoa(phones-registrationsAtOnce)
		if got := held.Load(); waiting != want || got != registrationsAtOnce {
			return fmt.Sprintf("%d registrations are at Exchange and %s wait, want %d and %s", got, waiting, registrationsAtOnce, want)
		}
		return ""
	})
	return x, released, all
}

// However many phones register at once, only so many are worked on: the others wait, and hold up no other call.
func TestRegistrationsWaitForThoseBefore(t *testing.T) {
	t.Parallel()
	const phones = registrationsAtOnce + 20
	x, released, answers := queued(t, nil, phones)
	other := x.Phone("bob@example.com", push.IOS)
	if answer, err := other.Status(t.Context()); err != nil || answer.Status != http.StatusOK {
		t.Errorf("while registrations wait, another call is answered %d: %v", answer.Status, err)
	}
	close(released)
	for range phones {
		if answer := <-answers; answer.Code != 7 {
			t.Errorf("a registration is answered %d/%d %s", answer.Status, answer.Code, answer.Message)
		}
	}
}

// Who has waited for too long is told when to come again, one after the other.
func TestWhoWaitsForTooLongComesAgain(t *testing.T) {
	t.Parallel()
	const late = 75
	clock := &runtimetest.Clock{}
	_, released, answers := queued(t, clock, registrationsAtOnce+late)
	clock.Advance(40 * time.Second)
	told := map[int]int{}
	for range late {
		answer := <-answers
		wantAnswer(t, answer, nil, http.StatusServiceUnavailable, 32, "too many devices have come at once")
		seconds, _ := strconv.Atoi(answer.RetryAfter)
		told[seconds]++
	}
	if told[5] == 0 || told[6] == 0 || told[5]+told[6]+told[7] != late {
		t.Errorf("they are told to come again after so many seconds: %v", told)
	}
	close(released)
	for range registrationsAtOnce {
		if answer := <-answers; answer.Code != 7 {
			t.Errorf("a registration that did not wait is answered %d/%d %s", answer.Status, answer.Code, answer.Message)
		}
	}
}

// Those who are over a limit of the tenant come again one after the other, so that not all but a few are refused again.
func TestWhoIsOverTheLimitComesAgainOneAfterTheOther(t *testing.T) {
	t.Parallel()
	const calls, perSecond = 100, 10
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Limits.RequestsPerSecond = perSecond }})
	x.Start(t)
	told := map[string]int{}
	for i := range calls {
		answer, err := x.Phone(fmt.Sprintf("user%d@example.com", i), push.IOS).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		told[answer.RetryAfter]++
	}
	for seconds, calls := range told {
		if seconds != "" && calls > 2*perSecond {
			t.Errorf("%d calls are told to come again after %s s, of which %d are allowed in a second: %v", calls, seconds, perSecond, told)
		}
	}
	if len(told) < 3 {
		t.Errorf("nobody was over the limit: %v", told)
	}
}
