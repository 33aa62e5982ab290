package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/breaker"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// service is what a test has the provider's service do.
type service func(context.Context) error

func (s service) Push(ctx context.Context, _ push.Device, _ push.Notification) error { return s(ctx) }
func (service) Close() error                                                         { return nil }

// world is a breaker before a service that answers whatever is next.
type world struct {
	*breaker.Breaker
	t     *testing.T
	clock *clocktesting.FakeClock
	log   *bytes.Buffer
	// answer is what the service answers, tried how often it was asked.
	answer error
	tried  int
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: clocktesting.NewFakeClock(time.Now()), log: new(bytes.Buffer)}
	w.Breaker = breaker.New("apple", service(func(context.Context) error {
		w.tried++
		return w.answer
	}), w.clock, slog.New(slog.NewTextHandler(w.log, nil)))
	return w
}

// push pushes n times with the service answering so, and returns how often it was asked.
func (w *world) push(n int, answer error) int {
	w.t.Helper()
	before := w.tried
	w.answer = answer
	for range n {
		tried := w.tried
		err := w.Push(w.t.Context(), push.Device{Token: "the token"}, pushtest.Mail())
		if deferred := push.OutcomeOf(err) == push.Deferred; deferred == (w.tried > tried) {
			w.t.Errorf("err = %v after %d tries", err, w.tried-tried)
		}
		if w.tried > tried && !errors.Is(err, answer) {
			w.t.Errorf("err = %v, want the service's", err)
		}
	}
	return w.tried - before
}

// refuse is an error of the service.
func refuse(outcome push.Outcome, status int) *push.Error {
	return &push.Error{Provider: "apple", Outcome: outcome, Status: status}
}

var (
	outOfOrder = refuse(push.Retry, 503)
	// longest is above every pause of the breaker's own.
	longest = 5 * time.Minute
)

func TestWhatCountsAsAFailureOfTheProvider(t *testing.T) {
	t.Parallel()
	device := refuse(push.Retry, 429)
	device.OneDevice = true
	crowded := refuse(push.Retry, 0)
	crowded.Reason = "TooManyAtOnce"
	tests := map[string]struct {
		answer error
		opens  bool
	}{
		"no answer":                      {refuse(push.Retry, 0), true},
		"out of order":                   {outOfOrder, true},
		"its quota":                      {refuse(push.Retry, 429), true},
		"a request that took too long":   {refuse(push.Retry, 408), true},
		"success":                        {nil, false},
		"too many pushes for one device": {device, false},
		"too many pushes at once, here":  {crowded, false},
		"a dead token":                   {refuse(push.DeadToken, 410), false},
		"a refused message":              {refuse(push.Rejected, 400), false},
		"a refused credential":           {refuse(push.Misconfigured, 403), false},
		"an app that is not served":      {refuse(push.Misconfigured, 0), false},
		"a disabled endpoint":            {refuse(push.Retry, 400), false},
		"another error":                  {errors.New("something"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			const pushes = 20
			want := pushes
			if test.opens {
				want = 5
			}
			if got := w.push(pushes, test.answer); got != want || w.Open() != test.opens {
				t.Errorf("asked %d times, want %d; open: %v", got, want, w.Open())
			}
		})
	}
}

func TestOnlyFailuresInARowCount(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, between := range []error{nil, refuse(push.DeadToken, 410), refuse(push.Rejected, 400)} {
		w.push(4, outOfOrder)
		if w.push(1, between) != 1 || w.Open() {
			t.Fatalf("open although the provider has answered %v in between", between)
		}
	}
}

func TestAfterAPauseOnePushIsLetThroughAndASuccessEndsItAll(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.push(5, outOfOrder)
	if got := w.push(100, nil); got != 0 {
		t.Fatalf("asked %d times while it is left alone", got)
	}
	w.clock.Step(15 * time.Second)
	if w.Open() {
		t.Error("it would still defer after the first pause")
	}
	if got := w.push(10, outOfOrder); got != 1 {
		t.Fatalf("asked %d times after the pause, want once", got)
	}
	w.clock.Step(longest)
	if got := w.push(10, nil); got != 10 || w.Open() {
		t.Errorf("asked %d times, want all after a success", got)
	}
	// As if nothing had been.
	if got := w.push(10, outOfOrder); got != 5 {
		t.Errorf("asked %d times before it opens again, want 5", got)
	}
	w.clock.Step(15 * time.Second)
	if got := w.push(1, outOfOrder); got != 1 {
		t.Error("the pause has not begun anew")
	}
	if lines := strings.Count(w.log.String(), "\n"); lines != 3 {
		t.Errorf("%d lines are logged, want one for each change:\n%s", lines, w.log)
	}
	pushtest.CheckDiscreet(t, w.log.String(), push.Device{Token: "the token"}, pushtest.Mail())
}

func TestThePauseDoublesUpToABound(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.push(5, outOfOrder)
	for _, most := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, longest, longest} {
		w.clock.Step(most/2 - time.Millisecond)
		if w.push(1, outOfOrder) != 0 {
			t.Errorf("asked after less than half of %s", most)
		}
		w.clock.Step(most/2 + time.Millisecond)
		if w.push(2, outOfOrder) != 1 {
			t.Errorf("not asked once after %s", most)
		}
	}
}

func TestWhatAProviderAsksForIsHonouredForAll(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status      int
		asked, want time.Duration
	}{
		"a quota":                       {429, time.Minute, time.Minute},
		"out of order":                  {503, 10 * time.Minute, 10 * time.Minute},
		"an hour at most, whoever asks": {503, 24 * time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			asks := refuse(push.Retry, test.status)
			asks.RetryAfter = test.asked
			if got := w.push(3, asks); got != 1 {
				t.Fatalf("asked %d times, want once", got)
			}
			w.clock.Step(test.want - time.Second)
			if w.push(1, nil) != 0 {
				t.Error("asked before its time")
			}
			w.clock.Step(test.want/10 + 2*time.Second)
			if w.push(3, nil) != 3 {
				t.Error("not asked when its time has come")
			}
		})
	}
}

func TestAProviderThatAnswersNothingIsLeftAloneBeforeItsPushesEnd(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	begun, release := make(chan struct{}), make(chan error)
	b := breaker.New("apple", service(func(context.Context) error {
		begun <- struct{}{}
		return <-release
	}), clock, slog.New(slog.DiscardHandler))
	results := make(chan error)
	try := func() { results <- b.Push(context.Background(), push.Device{}, pushtest.Mail()) }
	go try()
	<-begun
	clock.Step(5 * time.Second)
	go try() // it is not silent for long yet
	<-begun
	if b.Open() {
		t.Error("open too soon")
	}
	clock.Step(time.Second)
	if err := b.Push(t.Context(), push.Device{}, pushtest.Mail()); push.OutcomeOf(err) != push.Deferred || !b.Open() {
		t.Errorf("err = %v, want it deferred", err)
	}
	// Those under way say nothing new when they fail, and end it all when one succeeds.
	release <- refuse(push.Retry, 0)
	if err := <-results; push.OutcomeOf(err) != push.Retry || !b.Open() {
		t.Errorf("err = %v, open: %v", err, b.Open())
	}
	release <- nil
	if err := <-results; err != nil || b.Open() {
		t.Errorf("err = %v, open: %v", err, b.Open())
	}
}

func TestWhileOnePushIsOnTrialTheOthersAreDeferred(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	trial, release := make(chan struct{}), make(chan error)
	hang := false
	b := breaker.New("apple", service(func(context.Context) error {
		if hang {
			close(trial)
			return <-release
		}
		return outOfOrder
	}), clock, slog.New(slog.DiscardHandler))
	for range 5 {
		_ = b.Push(t.Context(), push.Device{}, pushtest.Mail())
	}
	clock.Step(15 * time.Second)
	hang = true
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- b.Push(ctx, push.Device{}, pushtest.Mail()) }()
	<-trial
	clock.Step(time.Hour)
	if err := b.Push(t.Context(), push.Device{}, pushtest.Mail()); push.OutcomeOf(err) != push.Deferred || !b.Open() {
		t.Errorf("err = %v, want it deferred", err)
	}
	// A trial that its caller calls off says nothing, and the next one is let through.
	cancel()
	release <- refuse(push.Retry, 0)
	if err := <-ended; push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want the service's", err)
	}
	hang = false
	if err := b.Push(t.Context(), push.Device{}, pushtest.Mail()); !errors.Is(err, outOfOrder) {
		t.Errorf("err = %v, want the service's", err)
	}
}

func TestItIsKnownHowTheProviderFares(t *testing.T) {
	t.Parallel()
	refused := &push.Error{Provider: "apple", Outcome: push.Misconfigured, Status: 403, Reason: "InvalidProviderToken", Lasting: true}
	wanted := func(w *world, state standing.State, reason string) {
		t.Helper()
		if got := w.Standing(); got.Name != "apple" || got.State != state || got.Reason != reason {
			t.Errorf("it fares %+v, want %s %s", got, state, reason)
		}
	}
	w := start(t)
	w.push(4, outOfOrder)
	w.push(1, refuse(push.Misconfigured, 403)) // of one device, perhaps
	w.push(1, refuse(push.DeadToken, 410))
	wanted(w, standing.Untried, "")
	w.push(1, nil)
	wanted(w, standing.Delivering, "")
	w.push(1, refused)
	wanted(w, standing.Refused, "InvalidProviderToken")
	w.push(5, refuse(push.Retry, 0))
	wanted(w, standing.Failing, "NoAnswer")

	heir := start(t)
	heir.Inherit(w.Breaker)
	wanted(heir, standing.Failing, "NoAnswer")
}
