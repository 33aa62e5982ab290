package fcm_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// atTime starts a world with a clock of its own.
func atTime(t *testing.T) (world, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	w := start(t, fcmtest.Options{Calm: true, Clock: clock}, func(o *fcm.Options) { o.Clock = clock })
	return w, clock
}

func TestAnAccessTokenIsSharedAndReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	w, clock := atTime(t)
	d := w.phone()
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			if err := w.Push(t.Context(), d, pushtest.Mail()); err != nil {
				t.Errorf("Push: %v", err)
			}
		})
	}
	work.Wait()
	clock.Step(57 * time.Minute)
	w.push(t, d, pushtest.Mail())
	if got := w.google.Stats().Logins; got != 1 {
		t.Errorf("%d logins, want 1 for all pushes of an hour", got)
	}
	clock.Step(2 * time.Minute)
	w.push(t, d, pushtest.Mail())
	if got := w.google.Stats().Logins; got != 2 {
		t.Errorf("%d logins, want 2 shortly before the end of the first token", got)
	}
}

func TestAnAccessTokenThatIsRevokedIsReplacedOnce(t *testing.T) {
	t.Parallel()
	w, _ := atTime(t)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.google.RevokeAccess()
	w.push(t, d, pushtest.Mail())
	if got := w.google.Stats().Logins; got != 2 {
		t.Errorf("%d logins, want 2", got)
	}
	w.google.FailNext(2, fcmtest.Fault{Status: 401, Canonical: "UNAUTHENTICATED"})
	if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured {
		t.Errorf("err = %v, want a misconfiguration", err)
	}
}

func TestALoginThatFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault fcmtest.Fault
		want  push.Outcome
		// asked is how often the token endpoint is called for two pushes.
		asked int
	}{
		"the key was deleted":   {fcmtest.Fault{Status: 400, Body: `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`}, push.Misconfigured, 1},
		"Google is sick":        {fcmtest.Fault{Status: 503, Body: "sorry", RetryAfter: time.Minute}, push.Retry, 1},
		"a redirect":            {fcmtest.Fault{Status: 307, Location: "https://evil.example/", Body: " "}, push.Misconfigured, 1},
		"no token in it":        {fcmtest.Fault{Status: 200, Body: `{}`}, push.Retry, 1},
		"too many":              {fcmtest.Fault{Status: 429, Body: `{"error":"rate_limit_exceeded"}`}, push.Retry, 1},
		"the connection breaks": {fcmtest.Fault{Cut: true}, push.Retry, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, clock := atTime(t)
			d := w.phone()
			// More than one, so that a second request would fail as well.
			w.google.FailNextLogins(10, test.fault)
			err := w.Push(t.Context(), d, pushtest.Mail())
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != test.want || refusal.RetryAfter != test.fault.RetryAfter {
				t.Fatalf("err = %#v, want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "eyJ") {
				t.Errorf("the error tells the assertion: %v", err)
			}
			if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != test.want {
				t.Errorf("at once again: err = %v, want the same", err)
			}
			if asked := w.google.Stats().LoginRequests; asked != test.asked {
				t.Errorf("asked for a token %d times, want %d", asked, test.asked)
			}
			w.google.FailNextLogins(0, fcmtest.Fault{})
			clock.Step(3 * time.Second)
			w.push(t, d, pushtest.Mail())
		})
	}
}

func TestAnAccountThatGoogleDoesNotKnowIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{}, func(o *fcm.Options) {
		o.ServiceAccount = secret.New(fcmtest.NewServiceAccountJSON(fcmtest.DefaultProject))
	})
	refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), w.phone(), pushtest.Mail()))
	if !ok || refusal.Outcome != push.Misconfigured || !refusal.Lasting || refusal.Reason != "invalid_grant" {
		t.Errorf("refusal = %+v, want invalid_grant as a misconfiguration", refusal)
	}
}

func TestALoginThatHangsDoesNotHoldAPushBeyondItsContext(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{}, func(o *fcm.Options) { o.Timeout = time.Second })
	w.google.FailNextLogins(1, fcmtest.Fault{Hang: true})
	began := time.Now()
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s, the limit is a second", took)
	}
}
