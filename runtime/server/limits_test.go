package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestLimitsAnswerTooManyRequestsAndWhenToComeAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits config.Limits
		// before are the calls that are still let through.
		before int
		user   func(n int) string
	}{
		"calls of the whole tenant": {
			limits: config.Limits{RequestsPerSecond: 1, UserRequestsPerMinute: 1000}, before: 1,
			user: func(n int) string { return fmt.Sprintf("user%d@example.com", n) },
		},
		"calls of one user": {
			limits: config.Limits{UserRequestsPerMinute: 3}, before: 3,
			user: func(int) string { return alice },
		},
		"new users in a minute": {
			limits: config.Limits{NewUsersPerMinute: 2}, before: 2,
			user: func(n int) string { return fmt.Sprintf("user%d@example.com", n) },
		},
		"users in all": {
			limits: config.Limits{MaxUsers: 2}, before: 2,
			user: func(n int) string { return fmt.Sprintf("user%d@example.com", n) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Limits = test.limits }})
			x.Start(t)
			call := func(n int) (boxertest.Answer, error) {
				phone := x.Phone(test.user(n), push.IOS)
				return phone.PublicKey(t.Context())
			}
			for n := range test.before {
				if answer, err := call(n); err != nil || answer.Code != 3 {
					t.Fatalf("call %d was answered %d/%d: %v", n, answer.Status, answer.Code, err)
				}
			}
			answer, err := call(test.before)
			wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "")
			if answer.RetryAfter == "" {
				t.Error("the answer has no Retry-After")
			}
		})
	}
}

func TestAUserMayHaveOnlySoManyDevices(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Limits.MaxDevicesPerUser = 1 }})
	x.Start(t)
	first := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, first, 7)
	heard(t, x, "OK")
	waitFresh(t, first)
	second := x.Phone(alice, push.IOS)
	if _, err := second.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := second.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "too many devices")
	second.Extra = map[string]any{"forceSubscription": true}
	answer, err = second.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "too many devices")
	if n := len(x.Exchange.Subscriptions()); n != 1 {
		t.Errorf("Exchange has made %d subscriptions, want that of the first device alone", n)
	}
	runtimetest.MustRegister(t, first, 7) // the first one is no further device
}

func TestTheAliasOfRegistrationIsServed(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	answer, err := x.Phone(alice, push.IOS).Call(t.Context(), "RegisterDevice", map[string]any{})
	wantAnswer(t, answer, err, http.StatusBadRequest, 32, "userId")
}

func TestWithSeveralEndpointsTheDeviceHasToSayWhich(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
		other := c.Endpoints[0]
		other.Name, other.URL = "other", "https://other.example.com/EWS/Exchange.asmx"
		c.Endpoints = append(c.Endpoints, other)
	}})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	phone.EWSURL = ""
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := phone.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusConflict, 16, "ewsUrl")
	phone.EWSURL = x.Exchange.URL()
	runtimetest.MustRegister(t, phone, 7)
	other := map[string]any{"userId": phone.UserID(), "deviceId": phone.DeviceID, "ewsUrl": "https://other.example.com/EWS/Exchange.asmx"}
	answer, err = phone.Call(t.Context(), "unregister", other)
	wantAnswer(t, answer, err, http.StatusConflict, 35, "ewsUrl")
}
