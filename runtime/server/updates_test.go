package server_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestADeviceThatChangesItsTokenIsNotifiedThere(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	token := strings.Repeat("ab", 32)
	x.APNs.AddDevice(token, runtimetest.Topic)
	answer, err := phone.UpdateToken(t.Context(), token)
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), token, 1); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{strings.Repeat("cd", 32), strings.Repeat("ef", 32)} {
		answer, err = phone.UpdateToken(t.Context(), next)
		wantAnswer(t, answer, err, http.StatusOK, 3, "")
	}
	answer, err = phone.UpdateToken(t.Context(), token)
	wantAnswer(t, answer, err, http.StatusTooManyRequests, 32, "too often")
	if answer.RetryAfter == "" {
		t.Error("the answer has no Retry-After")
	}
	clock.Advance(24 * time.Hour)
	answer, err = phone.UpdateToken(t.Context(), token)
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM activity WHERE kind = 'device token changed'`); n != 4 {
		t.Errorf("the timeline tells of %d changes, want 4", n)
	}
}

func TestSettingsCountWithoutANewSubscription(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	answer, err := phone.UpdateSettings(t.Context(), map[string]any{"notificationPolicy": 2, "sound": "gong.caf", "badge": false, "locale": "fr"})
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	answer, err = phone.UpdateSyncKey(t.Context(), "the next sync key")
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	deliver(t, x, lunch)
	got, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	aps := got[0].APS
	if aps.Alert == nil || *aps.Alert != (apnstest.Alert{Title: lunch.FromName}) || aps.Sound != "gong.caf" || aps.Badge != nil {
		t.Errorf("the phone got %+v", aps)
	}
	if n := len(x.Exchange.Subscriptions()); n != 1 {
		t.Errorf("Exchange has made %d subscriptions", n)
	}
	if got := storetest.Value[string](t, x.Schema, `SELECT sync_key || ' ' || locale FROM devices`); got != "the next sync key fr" {
		t.Errorf("on record are %q", got)
	}
}

func TestUpdatesOfWhatIsNotThereOrMalformed(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	known, stranger := x.Phone(alice, push.IOS), x.Phone("bob@example.com", push.IOS)
	runtimetest.MustRegister(t, known, 7)
	second := x.Phone(alice, push.IOS) // a device of a known user that never registered
	for name, test := range map[string]struct {
		phone        *boxertest.Phone
		call         string
		further      map[string]any
		status, code int
		message      string
	}{
		"token of an unknown user":          {stranger, "updatedevicetoken", map[string]any{"deviceToken": "ab"}, 404, 5, "not registered"},
		"token of an unknown device":        {second, "updatedevicetoken", map[string]any{"deviceToken": "ab"}, 404, 5, "not registered"},
		"no token":                          {known, "updatedevicetoken", nil, 400, 32, "deviceToken"},
		"a token of the other platform":     {known, "updatedevicetoken", map[string]any{"deviceToken": "not:hexadecimal"}, 400, 32, "deviceToken"},
		"a token that is too long":          {known, "updatedevicetoken", map[string]any{"deviceToken": strings.Repeat("ab", 2049)}, 400, 32, "deviceToken"},
		"no device":                         {known, "updatedevicetoken", map[string]any{"deviceToken": "ab", "deviceId": ""}, 400, 32, "deviceId"},
		"no user":                           {known, "updatedevicetoken", map[string]any{"userId": ""}, 400, 32, "userId"},
		"sync key of an unknown user":       {stranger, "updatesynckey", map[string]any{"syncKey": "x"}, 404, 9, "not"},
		"a sync key that is too long":       {known, "updatesynckey", map[string]any{"syncKey": strings.Repeat("x", 1025)}, 400, 32, "syncKey"},
		"settings of an unknown user":       {stranger, "updatesettings", nil, 404, 5, "not registered"},
		"settings of an unknown device":     {second, "updatesettings", nil, 404, 5, "not registered"},
		"a policy that is none":             {known, "updatesettings", map[string]any{"notificationPolicy": 5}, 400, 32, "notificationPolicy"},
		"a sound with a line end":           {known, "updatesettings", map[string]any{"sound": "a\nb"}, 400, 32, "sound"},
		"credentials of an unknown user":    {stranger, "updatecredentials", map[string]any{"sequence": 1, "credentials": "AAAA"}, 404, 9, "rsa-split"},
		"credentials of an unknown device":  {second, "updatecredentials", map[string]any{"sequence": 1, "credentials": "AAAA"}, 404, 9, "rsa-split"},
		"credentials where none can follow": {known, "updatecredentials", map[string]any{"sequence": 1, "credentials": "AAAA"}, 404, 9, "rsa-split"},
		"no credentials":                    {known, "updatecredentials", map[string]any{"sequence": 1}, 400, 32, "credentials"},
		"no sequence":                       {known, "updatecredentials", map[string]any{"credentials": "AAAA"}, 400, 32, "sequence"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := map[string]any{"userId": test.phone.UserID(), "deviceId": test.phone.DeviceID}
			maps.Copy(body, test.further)
			answer, err := test.phone.Call(t.Context(), test.call, body)
			wantAnswer(t, answer, err, test.status, test.code, test.message)
		})
	}
}

func TestADeviceThatUsesItsSecretIsSafeFromColleagues(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	secret, _ := runtimetest.MustRegister(t, phone, 7).Fields["deviceSecret"].(string)
	if secret == "" {
		t.Fatal("the registration brought no deviceSecret")
	}
	colleague := *phone // knows everything but the secret
	answer, err := colleague.UpdateSettings(t.Context(), map[string]any{"locale": "de"})
	wantAnswer(t, answer, err, http.StatusOK, 3, "") // a device that does not know of secrets goes on as it was

	phone.Secret = secret
	answer, err = phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 17, "")
	for name, call := range map[string]func() (boxertest.Answer, error){
		"status":            func() (boxertest.Answer, error) { return colleague.Status(t.Context()) },
		"updatesettings":    func() (boxertest.Answer, error) { return colleague.UpdateSettings(t.Context(), nil) },
		"updatedevicetoken": func() (boxertest.Answer, error) { return colleague.UpdateToken(t.Context(), "ab") },
		"updatecredentials": func() (boxertest.Answer, error) {
			return colleague.Call(t.Context(), "updatecredentials", map[string]any{"userId": phone.UserID(), "deviceId": phone.DeviceID, "sequence": 9, "credentials": "AAAA"})
		},
	} {
		answer, err := call()
		if err != nil || answer.Status != http.StatusUnauthorized || answer.Code != 23 || !strings.Contains(answer.Message, "deviceSecret") {
			t.Errorf("%s was answered %d/%d %q: %v", name, answer.Status, answer.Code, answer.Message, err)
		}
	}
	unregister(t, &colleague, 26)
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Errorf("the phone is not notified any more: %v", err)
	}
	if kept := runtimetest.MustRegister(t, phone, 7).Fields["deviceSecret"]; kept != secret {
		t.Error("a registration with the secret brings another one")
	}
	phone.Secret = "" // a new phone under the old id, or the app installed anew
	next, _ := runtimetest.MustRegister(t, phone, 7).Fields["deviceSecret"].(string)
	if next == "" || next == secret {
		t.Error("a registration without the secret does not bring another one")
	}
	phone.Secret = secret
	answer, err = phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusUnauthorized, 23, "deviceSecret")
	phone.Secret = next
	unregister(t, phone, 24)
}

func TestASecretThatCannotBeCheckedOpensNothing(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	phone.Secret, _ = runtimetest.MustRegister(t, phone, 7).Fields["deviceSecret"].(string)
	answer, err := phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 17, "")
	// The database fails the check, and nothing else.
	if _, err := x.Schema.Looking.Exec(t.Context(), `ALTER TABLE devices RENAME COLUMN secret_used TO away`); err != nil {
		t.Fatal(err)
	}
	colleague := *phone
	colleague.Secret = ""
	answer, err = colleague.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusInternalServerError, 4, "database")
	answer, err = colleague.Unregister(t.Context())
	wantAnswer(t, answer, err, http.StatusInternalServerError, 4, "database")
	if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM devices`); n != 1 {
		t.Errorf("%d devices are registered", n)
	}
}

func TestAKeyPairIsReplacedAfterRepeatedFailuresAndTheOldOneGoesOnOpening(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := func() any {
		t.Helper()
		answer, err := x.Phone(alice, push.IOS).PublicKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return answer.Fields["keyId"]
	}
	first := key()
	fail := func() {
		t.Helper()
		runtimetest.Eventually(t, func() string {
			if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM key_pool`) == 0 {
				return "there is no pair to replace one with"
			}
			return ""
		})
		phone.Extra = map[string]any{"credentials": strings.Repeat("A", 342) + "=="}
		for range 5 {
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusBadRequest, 34, "")
		}
		phone.Extra = nil
		clock.Advance(time.Minute)
	}
	fail()
	second := key()
	if second == first {
		t.Fatal("the key pair is the same after five failures")
	}
	fail()
	if key() != second {
		t.Error("the key pair was replaced twice on one day")
	}
	// The phone still holds the first key, says so, and is let in.
	if answer, err := phone.Register(t.Context()); err != nil || answer.Code != 7 {
		t.Errorf("with the key before the current one: %d/%d %s, %v", answer.Status, answer.Code, answer.Message, err)
	}
	phone.Extra = map[string]any{"keyId": ""}
	if answer, err := phone.Register(t.Context()); err != nil || answer.Code != 7 {
		t.Errorf("without saying which key: %d/%d %s, %v", answer.Status, answer.Code, answer.Message, err)
	}
	phone.Extra = nil
	clock.Advance(24 * time.Hour)
	fail()
	answer, err := phone.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusBadRequest, 34, "key")
	runtimetest.MustRegister(t, phone, 7) // with the current key, fetched anew
}

func TestANewerTokenNeedsNoNewSubscription(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{
		Clock:     clock,
		Exchange:  ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}, Clock: clock},
		Configure: allow(config.AuthOAuth),
	})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	withToken(x, phone)
	phone.Encryption, phone.TokenExpires = boxertest.RSASplit, clock.Now().Add(time.Hour)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x) // no work is under way whose time would be up when the clock is set

	clock.Advance(30 * time.Minute)
	first := phone.Token
	phone.Token, phone.TokenExpires = x.Exchange.IssueToken(alice, time.Hour), clock.Now().Add(time.Hour)
	answer, err := phone.UpdateCredentials(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	clock.Advance(45 * time.Minute) // the first token has expired
	deliver(t, x, lunch)
	if titles := shown(t, x, phone, 1); titles[0] != lunch.FromName {
		t.Errorf("the phone shows %q", titles)
	}
	if n := len(x.Exchange.Subscriptions()); n != 1 {
		t.Errorf("Exchange has made %d subscriptions", n)
	}
	runtimetest.Eventually(t, func() string {
		if storetest.Value[int](t, x.Schema, `SELECT sequence FROM subscriptions`) != 2 {
			return "the newer credential has not taken the place of the older one"
		}
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM activity WHERE kind = 'credential replaced'`) != 1 {
			return "the timeline does not tell of it once"
		}
		return ""
	})

	// What does not open is forgotten, and the one before goes on.
	body := map[string]any{"userId": phone.UserID(), "deviceId": phone.DeviceID, "sequence": 1 << 40, "credentials": strings.Repeat("AAAA", 20)}
	answer, err = phone.Call(t.Context(), "updatecredentials", body)
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
	deliver(t, x, ewstest.Mail{FromName: "Carol", Subject: "Second"})
	runtimetest.Eventually(t, func() string {
		if shown := alertsOf(x, phone); len(shown) < 2 || shown[len(shown)-1] != "Carol" {
			return "the second mail is not shown by the credential that works"
		}
		if storetest.Value[int](t, x.Schema, `SELECT count(*) FROM subscriptions WHERE update_blob IS NOT NULL`) != 0 {
			return "the credential that does not open still waits"
		}
		return ""
	})
	body["sequence"] = 2
	answer, err = phone.Call(t.Context(), "updatecredentials", body)
	wantAnswer(t, answer, err, http.StatusBadRequest, 32, "sequence")
	phone.Token = first
	answer, err = phone.UpdateCredentials(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 3, "")
}
