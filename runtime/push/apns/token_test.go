package apns_test

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

// windowStart is the beginning of a window of 40 minutes of the wall clock.
var windowStart = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Truncate(40 * time.Minute)

// atTime starts a world whose clock stands at a time after windowStart.
func atTime(t *testing.T, after time.Duration) (world, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(windowStart.Add(after))
	w := start(t, apnstest.Options{Calm: true, Clock: clock}, func(o *apns.Options) { o.Clock = clock })
	return w, clock
}

func TestTheProviderTokenIsReusedAndRotated(t *testing.T) {
	t.Parallel()
	// The provider tokens that Apple has seen when the clock stands at a time after the window's start.
	type step struct {
		at     time.Duration
		tokens int
	}
	tests := map[string][]step{
		"one token serves for a window":                    {{0, 1}, {time.Minute, 1}, {39 * time.Minute, 1}},
		"it changes with the window":                       {{0, 1}, {40 * time.Minute, 2}, {79 * time.Minute, 2}, {80 * time.Minute, 3}},
		"it is not changed within 20 minutes of first use": {{30 * time.Minute, 1}, {41 * time.Minute, 1}, {49 * time.Minute, 1}, {50 * time.Minute, 2}},
		"a long silence does not matter":                   {{0, 1}, {10 * time.Hour, 2}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, clock := atTime(t, steps[0].at)
			d := w.phone()
			for _, s := range steps {
				clock.SetTime(windowStart.Add(s.at))
				w.push(t, d, pushtest.Mail())
				if got := w.apple.Stats().ProviderTokens; got != s.tokens {
					t.Errorf("after %s: %d provider tokens, want %d", s.at, got, s.tokens)
				}
			}
		})
	}
}

func TestReplicasAndRestartsUseTheSameProviderToken(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(windowStart.Add(7 * time.Minute))
	server := apnstest.Start(apnstest.Options{Calm: true, Clock: clock, Logf: quiet(t)})
	t.Cleanup(server.Close)
	key := server.NewKey()
	for range 3 {
		replica := connect(t, server, key, func(o *apns.Options) { o.Clock = clock })
		replica.push(t, replica.phone(), pushtest.Mail())
		clock.Step(time.Minute)
	}
	if stats := server.Stats(); stats.ProviderTokens != 1 || stats.Connections != 3 {
		t.Errorf("stats = %+v, want one provider token over three connections", stats)
	}
}

func TestAReplicaThatStartsSoonAfterTheWindowsChangeUsesTheTokenThatAppleKnows(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// first and second are when two replicas send their first push.
		first, second time.Duration
		tokens        int
	}{
		"the team's token is new: the new replica keeps to it": {39 * time.Minute, 41 * time.Minute, 1},
		"as long as Apple takes it":                            {39 * time.Minute, 57 * time.Minute, 1},
		"the team's token is old enough to be changed":         {20 * time.Minute, 41 * time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := clocktesting.NewFakeClock(windowStart.Add(test.first))
			server := apnstest.Start(apnstest.Options{Calm: true, Clock: clock, Logf: quiet(t)})
			t.Cleanup(server.Close)
			key := server.NewKey()
			replica := func() world { return connect(t, server, key, func(o *apns.Options) { o.Clock = clock }) }
			first := replica()
			first.push(t, first.phone(), pushtest.Mail())
			clock.SetTime(windowStart.Add(test.second))
			second := replica()
			second.push(t, second.phone(), pushtest.Mail())
			if got := server.Stats().ProviderTokens; got != test.tokens {
				t.Errorf("Apple has seen %d provider tokens, want %d", got, test.tokens)
			}
			clock.SetTime(windowStart.Add(test.second + 20*time.Minute))
			for _, w := range []world{first, second} {
				w.push(t, w.phone(), pushtest.Mail())
			}
			if got := server.Stats().ProviderTokens; got != 2 {
				t.Errorf("twenty minutes later Apple has seen %d provider tokens, want 2", got)
			}
		})
	}
}

func TestARefusedProviderTokenIsRenewedOnceIfItIsOldEnough(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		at       time.Duration
		refusals int
		want     push.Outcome
		requests int
	}{
		"an old one is renewed":            {at: 30 * time.Minute, refusals: 1, want: 0, requests: 2},
		"once only":                        {at: 30 * time.Minute, refusals: 2, want: push.Misconfigured, requests: 2},
		"a young one is not to be changed": {at: 10 * time.Minute, refusals: 1, want: push.Misconfigured, requests: 1},
	}
	for name, test := range tests {
		for _, reason := range []string{"ExpiredProviderToken", "InvalidProviderToken"} {
			t.Run(name+" after "+reason, func(t *testing.T) {
				t.Parallel()
				w, _ := atTime(t, test.at)
				d := w.phone()
				w.apple.FailNext(test.refusals, apnstest.Fault{Status: 403, Reason: reason})
				if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != test.want {
					t.Errorf("err = %v, want the outcome %s", err, test.want)
				}
				if got := w.apple.Stats().Requests; got != test.requests {
					t.Errorf("%d requests, want %d", got, test.requests)
				}
			})
		}
	}
}

func TestTooManyProviderTokenUpdatesKeepsTheTokenAndDropsTheConnection(t *testing.T) {
	t.Parallel()
	w, _ := atTime(t, 0)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.apple.FailNext(1, apnstest.Fault{Status: 429, Reason: "TooManyProviderTokenUpdates"})
	w.push(t, d, pushtest.Mail())
	stats := w.apple.Stats()
	if stats.Connections != 2 || stats.ProviderTokens != 1 {
		t.Errorf("stats = %+v, want another connection and the same token", stats)
	}
}

func TestAForeignKeyIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	server := apnstest.Start(apnstest.Options{Calm: true, Logf: quiet(t)})
	t.Cleanup(server.Close)
	server.NewKey()
	// A key of the same ids that the developer account does not know.
	w := connect(t, server, apnstest.NewKey(), nil)
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured {
		t.Errorf("err = %v, want a misconfiguration", err)
	}
}
