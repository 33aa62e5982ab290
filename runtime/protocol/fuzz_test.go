package protocol_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"

	"crypto/sha256"
)

const token = "the-token-of-the-fuzzed-tenant"

// handlerWithoutDatabase serves a tenant whose database is nowhere: every call must be judged before it is asked, or
// say that it does not answer.
func handlerWithoutDatabase(t testing.TB) *protocol.Handler {
	t.Helper()
	keys, err := config.ParseKeys(config.NewKeyFiles())
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config{
		Tenant:        config.Tenant{ID: "ens_fuzz", Name: "fuzz"},
		Endpoints:     []config.Endpoint{{Name: "mail", URL: "https://mail.example.com/EWS/Exchange.asmx"}},
		PushProviders: []config.PushProvider{{Name: "google", FCM: &config.FCM{ProjectID: "fuzz-project"}}},
		Limits:        config.Limits{RequestsPerSecond: 1 << 20, UserRequestsPerMinute: 1 << 20},
	}.Effective()
	loaded := &config.Loaded{
		Config: c, Keys: keys, Tokens: config.APITokens{{SHA256: sha256.Sum256([]byte(token))}},
		PushCredentials: map[string]secret.Value{config.PushCredential("google", config.FCMServiceAccountFile): secret.New(fcmtest.NewServiceAccountJSON("fuzz-project"))},
	}
	log := slog.New(slog.DiscardHandler)
	x, err := tenant.New(loaded, tenant.Options{Clock: clock.RealClock{}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	nowhere, err := store.Open(t.Context(), secret.FromString("postgres://nobody:nothing@127.0.0.1:1/nowhere"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nowhere.Close)
	registry := prometheus.NewRegistry()
	pool := keypool.New(keypool.Options{Store: nowhere, Clock: clock.RealClock{}, Logger: log, Registry: registry})
	return protocol.NewHandler(protocol.Options{
		Tenant: func() *tenant.Tenant { return x }, Store: nowhere, Pool: pool, Clock: clock.RealClock{}, Logger: log, Registry: registry,
		Registration: &registration.Service{Store: nowhere, Clock: clock.RealClock{}, Logger: log},
	})
}

// FuzzCalls sends any body to any call: the answer is always an envelope of the contract, and never repeats the body.
func FuzzCalls(f *testing.F) {
	const user = `"userId":"1743604ea20cda831dc7aea285e7fdc011ca233caf0fa7d5d926916622dd182d"`
	for _, call := range []string{
		"getpublickey", "registerdevicev2", "unregister", "status", "updatedevicetoken", "updatesynckey", "updatesettings", "updatecredentials",
	} {
		for _, body := range []string{
			``, `{}`, `[]`, `null`, `"x"`, `{` + user + `}`, `{` + user + `,"deviceId":"D"}`, `{"userId":1}`, `{"userId":"\u0000"}`,
			`{` + user + `,"deviceId":"D","deviceToken":"t","platform":"Android","credentials":"AAAA","authType":0,"badge":true}`,
			`{` + user + `,"deviceId":"D","deviceToken":"zz","platform":"iOS","credentials":"AAAA","authType":-1,"notificationPolicy":7}`,
			`{` + user + `,"deviceId":"D","deviceToken":"t","platform":"Android","credentials":"AAAA","ewsUrl":"https://[::1/"}`,
			`{` + user + `,"deviceId":"D","deviceToken":"t","platform":"Android","credentials":"AAAA","encryption":"rsa-split","wrappedKey":"AAAA","sequence":9}`,
			`{` + user + `,"deviceId":"D","deviceToken":"t","syncKey":"k","sequence":-1,"credentials":"AAAA","deviceSecret":"s","sound":null}`,
			strings.Repeat("[", 20_000),
		} {
			f.Add(call, []byte(body))
		}
	}
	handler := handlerWithoutDatabase(f)
	f.Fuzz(func(t *testing.T, call string, body []byte) {
		const marker = "MARKER-of-the-body"
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.ReplaceAll(string(body), "D", marker)))
		request.Header.Set("ApiToken", token)
		recorder := httptest.NewRecorder()
		handler.ServeCall(recorder, request, call)
		var envelope protocol.Envelope
		if err := json.Unmarshal(recorder.Body.Bytes(), &envelope); err != nil {
			t.Fatalf("the answer is not an envelope: %v\n%s", err, recorder.Body)
		}
		if envelope.ResponseCode.String() == "" {
			t.Errorf("the response code %d is not of the contract", envelope.ResponseCode)
		}
		success := recorder.Code == http.StatusOK
		if success == (envelope.ErrorMessage != nil) {
			t.Errorf("status %d with errorMessage %v", recorder.Code, envelope.ErrorMessage)
		}
		if envelope.ErrorMessage != nil && strings.Contains(*envelope.ErrorMessage, marker) {
			t.Errorf("the errorMessage repeats the body: %s", *envelope.ErrorMessage)
		}
	})
}
