package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestWhatAnAuditorHasToKnowIsMarkedAndNamesNoAddress(t *testing.T) {
	t.Parallel()
	const mallory = "mallory@example.com"
	newToken := func(n string) string { return strings.Repeat(n, 32) }
	for name, test := range map[string]struct {
		act func(*testing.T, *runtimetest.Tenant, *boxertest.Phone)
		// line is the message, device says that it names the device, not the user.
		line   string
		device bool
	}{
		"somebody's credential for the mailbox of another": {
			act: func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				x.Exchange.AddMailbox(ewstest.Mailbox{Address: mallory, Password: runtimetest.Password})
				forged := *phone
				forged.Username, forged.Extra = mallory, map[string]any{"forceSubscription": true}
				answer, err := forged.Register(t.Context())
				wantAnswer(t, answer, err, http.StatusConflict, 14, "")
			},
			line: "A credential was presented for a mailbox that is not its own",
		},
		"another push token": {
			act: func(t *testing.T, _ *runtimetest.Tenant, phone *boxertest.Phone) {
				answer, err := phone.UpdateToken(t.Context(), newToken("ab"))
				wantAnswer(t, answer, err, http.StatusOK, 3, "")
			},
			line: "A device's token was changed", device: true,
		},
		"another push token too often": {
			act: func(t *testing.T, _ *runtimetest.Tenant, phone *boxertest.Phone) {
				for _, n := range []string{"ab", "bc", "cd"} {
					answer, err := phone.UpdateToken(t.Context(), newToken(n))
					wantAnswer(t, answer, err, http.StatusOK, 3, "")
				}
				answer, err := phone.UpdateToken(t.Context(), newToken("de"))
				wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "")
			},
			line: "A device's token was to be changed too often", device: true,
		},
		"payloads that do not open, until the key is replaced": {
			act: func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				runtimetest.Eventually(t, func() string {
					if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM key_pool`) == 0 {
						return "there is no pair to replace one with"
					}
					return ""
				})
				garbage := *phone
				garbage.Extra = map[string]any{"credentials": strings.Repeat("A", 342) + "=="}
				for range 5 { // failures until the key is replaced
					answer, err := garbage.Register(t.Context())
					wantAnswer(t, answer, err, http.StatusBadRequest, 34, "")
				}
			},
			line: "A user's key pair was replaced after repeated failures to decrypt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs, handler := logged()
			x := runtimetest.New(t, runtimetest.Options{Log: handler})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			test.act(t, x, phone)
			found := lines(t, logs, test.line)
			if len(found) != 1 {
				t.Fatalf("%d lines %q have been logged", len(found), test.line)
			}
			line := found[0]
			if id, _ := line["activityId"].(string); line["audit"] != true || id == "" {
				t.Errorf("the line is not marked, or not to be traced: %v", line)
			}
			if _, device := line["device"].(float64); device != test.device || !device && line["userId"] != phone.UserID() {
				t.Errorf("the line does not say whom it is about: %v", line)
			}
			for _, private := range []string{alice, mallory, phone.Password, phone.DeviceToken, newToken("ab"), x.APIToken} {
				if strings.Contains(logs.String(), private) {
					t.Error("the log holds an address, a password or a token")
				}
			}
		})
	}
}
