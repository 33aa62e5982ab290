package sns_test

import (
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
)

// arrived fails unless the phone was sent n notifications.
func (w world) arrived(t *testing.T, d push.Device, n int) {
	t.Helper()
	if got := len(w.amazon.Notifications(d.Token)); got != n {
		t.Errorf("%d notifications arrived, want %d", got, n)
	}
}

// again returns a provider that starts anew, with the same Amazon.
func (w world) again(t *testing.T) world {
	t.Helper()
	other := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) {
		key := w.amazon.AccessKey()
		o.Config.URL, o.RootCAs = w.amazon.URL(), w.amazon.RootCAs()
		setKey(o, key)
	})
	other.amazon = w.amazon
	return other
}

func TestAnEndpointIsMadeOnceForATokenAndFoundAgainAfterAStart(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.APNs, snstest.Options{}, nil)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.push(t, d, pushtest.Mail())
	before := w.amazon.Stats()
	if before.Created != 1 || before.Requests != 3 {
		t.Errorf("stats = %+v, want one endpoint and three requests", before)
	}
	w.again(t).push(t, d, pushtest.Mail())
	if after := w.amazon.Stats(); after.Created != 1 {
		t.Errorf("%d endpoints after a start, want the same one", after.Created)
	}
	w.arrived(t, d, 3)
}

func TestATokenThatDiesIsReportedWithTheTimeItWasLastAlive(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(time.Now())
	w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) { o.Clock = clock })
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.amazon.Unregister(d.Token)
	clock.SetTime(clock.Now().Add(time.Hour))
	w.push(t, d, pushtest.Mail()) // Amazon cannot know yet
	lastAlive := clock.Now()
	clock.SetTime(lastAlive.Add(time.Hour))
	refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), d, pushtest.Mail()))
	if !ok || refusal.Outcome != push.DeadToken || !refusal.DeadSince.Equal(lastAlive) {
		t.Errorf("err = %+v, want a token that is dead since %s", refusal, lastAlive)
	}
	w.arrived(t, d, 1)
}

func TestADeadEndpointIsEnabledAgainWhenItsDeviceRegisters(t *testing.T) {
	t.Parallel()
	// Seeds that draw both answers to a token whose endpoint is disabled.
	for seed := range uint64(6) {
		w := start(t, snstest.APNs, snstest.Options{Seed: seed + 1}, nil)
		d := w.phone()
		w.amazon.Unregister(d.Token)
		w.push(t, d, pushtest.Mail())
		if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.DeadToken {
			t.Fatalf("err = %v, want a dead token", err)
		}
		// However often it is asked, and though Amazon would accept it: a push that came with the one before would else bring a
		// dead endpoint back, and the next one after the device's registration would find it dead since.
		if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.DeadToken {
			t.Fatalf("err = %v, want a token that is still dead", err)
		}
		w.amazon.Register(d.Token)
		d.Registered = time.Now()
		w.push(t, d, pushtest.Mail())
		w.push(t, d, pushtest.Mail())
		w.arrived(t, d, 2)
		if stats := w.amazon.Stats(); !w.amazon.Enabled(d.Token) || stats.Created != 1 || stats.Enabled != 1 {
			t.Errorf("the endpoint is not enabled, or another was made, or it was enabled more than once: %+v", stats)
		}
	}
}

func TestAnEndpointThatWasDeletedIsMadeAnew(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		w := start(t, snstest.APNs, snstest.Options{Seed: seed + 1}, nil)
		d := w.phone()
		w.push(t, d, pushtest.Mail())
		w.amazon.DeleteEndpoint(d.Token)
		w.push(t, d, pushtest.Mail())
		w.arrived(t, d, 2)
	}
}

func TestAnEndpointThatHasOtherAttributesIsUsed(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.APNs, snstest.Options{}, nil)
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.amazon.SetUserData(d.Token, "of the accounting department")
	w.again(t).push(t, d, pushtest.Mail())
	w.arrived(t, d, 2)
	if w.amazon.Stats().Created != 1 {
		t.Errorf("another endpoint was made")
	}
}

func TestAnApplicationWhoseCredentialHasRunOutIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.FCM, snstest.Options{}, nil)
	known, unknown := w.phone(), w.phone()
	w.push(t, known, pushtest.Mail())
	w.amazon.DisableApplication(w.arn)
	for name, d := range map[string]push.Device{"a known phone": known, "a new phone": unknown} {
		refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), d, pushtest.Mail()))
		if !ok || refusal.Outcome != push.Misconfigured || !refusal.Lasting || refusal.Reason != "PlatformApplicationDisabled" {
			t.Errorf("%s: err = %v, want a misconfiguration", name, refusal)
		}
	}
}

func TestAnEndpointOfAnotherApplicationIsNotUsed(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) { o.Timeout = 2 * time.Second })
	w.amazon.OnRequest(func(snstest.Request) *snstest.Fault {
		return &snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: Token Reason: Endpoint " +
			"arn:aws:sns:eu-central-1:999999999999:endpoint/APNS/evil/1 already exists with the same Token, but different attributes."}
	})
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
}
