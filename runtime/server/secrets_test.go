package server_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestNothingSecretIsLoggedOrStored(t *testing.T) {
	t.Parallel()
	for _, format := range []config.LogFormat{config.LogJSON, config.LogENS2} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			leaveNoSecret(t, format)
		})
	}
}

func leaveNoSecret(t *testing.T, format config.LogFormat) {
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: func(c *config.Config) {
		c.Logging = config.Logging{Format: format, Level: config.LogDebug}
	}})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	phone.WithEmail = true
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	wrong := *phone
	wrong.Password, wrong.Extra = "another-secret-password", map[string]any{"forceSubscription": true}
	if answer, err := wrong.Register(t.Context()); err != nil || answer.Code != 14 {
		t.Fatalf("answered %d: %v", answer.Code, err)
	}
	for _, token := range []string{strings.ToLower(x.APIToken), "short-wrong-token"} {
		mistaken := *phone
		mistaken.APIToken = token
		if answer, err := mistaken.Unregister(t.Context()); err != nil || answer.Status != http.StatusUnauthorized {
			t.Fatalf("answered %d: %v", answer.Status, err)
		}
	}
	forged := strings.Replace(x.Exchange.Subscriptions()[0].URL, "m=1.", "m=1.A", 1)
	x.Exchange.Post(t.Context(), forged, []byte("garbage"))
	dump := dumpDatabase(t, x)
	unregister(t, phone, 24)
	x.Exchange.Heartbeat(alice)
	heard(t, x, "Unsubscribe")

	filler := x.Exchange.Subscriptions()[0].URL
	filler = filler[strings.Index(filler, "&f=")+3 : strings.Index(filler, "&m=")]
	for name, secret := range map[string]string{
		"the password": phone.Password, "the wrong password": wrong.Password, "the e-mail address": alice,
		"the subject": lunch.Subject, "the sender": lunch.FromName, "the preview": lunch.Preview,
		"the webhook's f": filler, "the API token": x.APIToken, "the webhook's query": "&f=",
		"a wrong API token": strings.ToLower(x.APIToken), "more than five characters of it": strings.ToLower(x.APIToken)[:6],
		"a short wrong API token's beginning": "short-", "a short wrong API token's end": "-token",
	} {
		forms := []string{secret}
		if len(secret) > 3 { // six hex digits stand in what is random sooner or later
			forms = append(forms, hex.EncodeToString([]byte(secret)))
		}
		for _, form := range forms {
			if strings.Contains(logs.String(), form) {
				t.Errorf("%s stands in the logs", name)
			}
			if strings.Contains(dump, form) {
				t.Errorf("%s stands in the database", name)
			}
		}
	}
	if strings.Contains(logs.String(), phone.DeviceToken) {
		t.Error("the device token stands in the logs")
	}
	wrongToken := strings.ToLower(x.APIToken)
	if !strings.Contains(logs.String(), wrongToken[:5]+"*********"+wrongToken[len(wrongToken)-5:]) {
		t.Error("the wrong token's ends are not in the logs")
	}
	if !strings.Contains(logs.String(), "Request processed") || !strings.Contains(dump, phone.DeviceID) {
		t.Error("the logs or the dump are empty: the test shows nothing")
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// dumpDatabase is every row of every table as text.
func dumpDatabase(t *testing.T, x *runtimetest.Tenant) string {
	t.Helper()
	dump, err := testenv.DumpSchemas(context.WithoutCancel(t.Context()), x.Schema.Looking)
	if err != nil {
		t.Fatal(err)
	}
	return dump
}
