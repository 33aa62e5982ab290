package server_test

import (
	"slices"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// unsubscribed waits until Exchange is told that it should end the subscription, and wants no other to be told so.
func unsubscribed(t *testing.T, exchange *ewstest.Server, subscriptionID string) {
	t.Helper()
	_, err := exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Reply == "Unsubscribe" })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range exchange.Callbacks() {
		if c.Reply == "Unsubscribe" && c.SubscriptionID != subscriptionID {
			t.Errorf("subscription %s was told to end", c.SubscriptionID)
		}
	}
}

func TestAPhoneThatIsSwitchedOffAndOnIsToldOnce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	deliver(t, x, lunch)
	settled(t, x)

	unregister(t, phone, 24)
	phone.Extra = map[string]any{"forceSubscription": true}
	runtimetest.MustRegister(t, phone, 7)
	// Exchange has not heard of it yet, and posts for both subscriptions.
	deliver(t, x, ewstest.Mail{FromName: "Carol", Subject: "Second"})
	settled(t, x)
	unsubscribed(t, x.Exchange, x.Exchange.Subscriptions()[0].ID)
	deliver(t, x, ewstest.Mail{FromName: "Dave", Subject: "Third"})
	settled(t, x)
	if got := alertsOf(x, phone); !slices.Equal(got, []string{lunch.FromName, "Carol", "Dave"}) {
		t.Errorf("shown are %q, want each mail once", got)
	}
}

func TestAPhoneMovesToAnotherService(t *testing.T) {
	t.Parallel()
	old := runtimetest.New(t, runtimetest.Options{})
	old.Start(t)
	other := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { // for the same Exchange
		c.Endpoints[0].URL, c.Endpoints[0].Pinning.SHA256 = old.Exchange.URL(), []string{old.Exchange.Fingerprint()}
	}})
	other.Start(t)
	phone := old.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, old, "OK")
	deliver(t, old, lunch)
	settled(t, old)

	// The console has told the phone another address and another token.
	moved := *phone
	moved.BaseURL, moved.APIToken = other.Front.URL+runtimetest.BasePath, other.APIToken
	other.APNs.AddDevice(phone.DeviceToken, runtimetest.Topic)
	runtimetest.MustRegister(t, &moved, 7)
	unregister(t, phone, 24)
	deliver(t, old, ewstest.Mail{FromName: "Carol", Subject: "Second"}) // Exchange posts to both
	settled(t, old)
	unsubscribed(t, old.Exchange, old.Exchange.Subscriptions()[0].ID)
	if got := alertsOf(old, phone); !slices.Equal(got, []string{lunch.FromName}) {
		t.Errorf("the old service has told %q", got)
	}
	runtimetest.Eventually(t, func() string {
		if len(alertsOf(other, &moved)) == 0 {
			return "the other service tells nothing"
		}
		return ""
	})
	deliver(t, old, ewstest.Mail{FromName: "Dave", Subject: "Third"})
	runtimetest.Eventually(t, func() string {
		if !slices.Contains(alertsOf(other, &moved), "Dave") {
			return "the other service tells nothing more"
		}
		return ""
	})
	if got := alertsOf(other, &moved); !slices.Equal(got, []string{"Carol", "Dave"}) {
		t.Errorf("the other service has told %q", got)
	}
}
