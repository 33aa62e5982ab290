package fcm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const appID = "com.example.mail"

// account is one service account for all tests, because making its key takes long.
var account = sync.OnceValue(func() []byte { return fcmtest.NewServiceAccountJSON(fcmtest.DefaultProject) })

// world is a provider with the Google it talks to.
type world struct {
	*fcm.Provider
	google *fcmtest.Server
	log    *bytes.Buffer
}

// start starts Google and a provider. Change may be nil.
func start(t *testing.T, google fcmtest.Options, change func(*fcm.Options)) world {
	t.Helper()
	google.Logf = func(format string, args ...any) {
		if t.Context().Err() == nil {
			t.Logf(format, args...)
		}
	}
	server := fcmtest.Start(google)
	t.Cleanup(server.Close)
	if err := server.TrustServiceAccount(account()); err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	o := options(log)
	o.Config.URL, o.Config.TokenURL, o.RootCAs = server.URL(), server.TokenURL(), server.RootCAs()
	if change != nil {
		change(&o)
	}
	provider, err := fcm.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	return world{Provider: provider, google: server, log: log}
}

// options are valid ones for Google itself.
func options(log *bytes.Buffer) fcm.Options {
	return fcm.Options{
		Config: config.FCM{ProjectID: fcmtest.DefaultProject, AppIDs: []string{appID}},
		Settings: push.Settings{
			Name: "google", Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		ServiceAccount: secret.New(bytes.Clone(account())),
	}
}

// phone registers a new phone.
func (w world) phone() push.Device {
	token := make([]byte, 70)
	_, _ = rand.Read(token)
	d := push.Device{Ref: 8, Platform: push.Android, Token: "fcm:" + hex.EncodeToString(token), AppID: appID}
	w.google.AddDevice(d.Token)
	return d
}

// push pushes and fails the test if that fails.
func (w world) push(t *testing.T, d push.Device, n push.Notification) {
	t.Helper()
	if err := w.Push(t.Context(), d, n); err != nil {
		t.Fatalf("Push: %v", err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	pushtest.Run(t, func(t *testing.T, o pushtest.Options) pushtest.Fixture {
		w := start(t, fcmtest.Options{}, func(f *fcm.Options) {
			o.Apply(&f.Settings)
			f.Config.URL, f.Config.TokenURL = o.Route(f.Config.URL), o.Route(f.Config.TokenURL)
		})
		return pushtest.Fixture{
			Provider:   w.Provider,
			NewDevice:  w.phone,
			Unregister: func(d push.Device) { w.google.Unregister(d.Token) },
			Wait: func(ctx context.Context, d push.Device, n int) ([]pushtest.Received, error) {
				all, err := w.google.Wait(ctx, d.Token, n)
				received := make([]pushtest.Received, len(all))
				for i, one := range all {
					received[i] = asReceived(t, one)
				}
				return received, err
			},
			Fail: func(n, status int, retryAfter time.Duration) {
				w.google.FailNext(n, fcmtest.Fault{Status: status, Canonical: "UNAVAILABLE", Code: "UNAVAILABLE", RetryAfter: retryAfter})
			},
			Hang: func() {
				w.google.OnRequest(func(fcmtest.Request) *fcmtest.Fault { return &fcmtest.Fault{Hang: true} })
			},
			Slow: func(d time.Duration) {
				w.google.OnRequest(func(fcmtest.Request) *fcmtest.Fault { time.Sleep(d); return nil })
			},
			MostAtOnce: func() int { return w.google.Stats().MostUnderWay },
		}
	})
}

func asReceived(t *testing.T, m fcmtest.Message) pushtest.Received {
	t.Helper()
	received := pushtest.Received{Title: m.Data["title"], Subtitle: m.Data["subtitle"], Body: m.Data["body"]}
	for key, value := range m.Data {
		received.Size += len(key) + len(value)
	}
	if text, known := m.Data["unread"]; known {
		count, err := strconv.Atoi(text)
		if err != nil {
			t.Errorf("unread = %q", text)
		}
		received.Unread = &count
	}
	if err := json.Unmarshal([]byte(m.Data["ens"]), &received.Reference); err != nil {
		t.Errorf("ens = %q: %v", m.Data["ens"], err)
	}
	return received
}

func TestWhatTheAppGets(t *testing.T) {
	t.Parallel()
	mail := push.Notification{
		Kind: push.NewMail, Title: "Ada", Subtitle: "Cards", Body: "See <attached>", Unread: new(3), Sound: "default",
		MessageID: "AAMk=", UserID: "1743", CollapseID: "mail-1",
	}
	hidden := mail
	hidden.Title, hidden.Subtitle, hidden.Body = "", "", ""
	const day = 24 * time.Hour
	tests := map[string]struct {
		n    push.Notification
		want fcmtest.Message
	}{
		"mail": {mail, fcmtest.Message{Priority: "HIGH", TTL: day, Data: map[string]string{
			"title": "Ada", "subtitle": "Cards", "body": "See <attached>", "unread": "3",
			"ens": `{"messageId":"AAMk=","userId":"1743","event":"newMail"}`,
		}}},
		"mail under policy 4": {hidden, fcmtest.Message{Priority: "NORMAL", TTL: day, Data: map[string]string{
			"unread": "3", "ens": `{"messageId":"AAMk=","userId":"1743","event":"newMail"}`,
		}}},
		"badge": {
			push.Notification{Kind: push.Badge, Unread: new(0), UserID: "1743"},
			fcmtest.Message{Priority: "NORMAL", TTL: day, CollapseKey: "ens-badge", Data: map[string]string{
				"unread": "0", "ens": `{"userId":"1743","event":"badge"}`,
			}},
		},
		"resubscribe": {
			push.Notification{Kind: push.Resubscribe, Unread: new(9), UserID: "1743"},
			fcmtest.Message{Priority: "NORMAL", TTL: day, CollapseKey: "ens-resubscribe", Data: map[string]string{
				"ens": `{"event":"resubscribe"}`,
			}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, fcmtest.Options{}, nil)
			d := w.phone()
			w.push(t, d, test.n)
			all := w.google.Messages(d.Token)
			if len(all) != 1 {
				t.Fatalf("%d messages, want 1", len(all))
			}
			got := all[0]
			got.Name = ""
			gotJSON, _ := json.Marshal(got)
			wantJSON, _ := json.Marshal(test.want)
			if !bytes.Equal(gotJSON, wantJSON) {
				t.Errorf("message\n got %s\nwant %s", gotJSON, wantJSON)
			}
		})
	}
}

func TestADeviceThatNamesNoAppIsServed(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{}, func(o *fcm.Options) { o.Config.AppIDs = nil })
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	d.AppID = ""
	w.push(t, d, pushtest.Mail())
}

func TestAFlakyServiceLosesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{Flaky: true, Seed: 5}, nil)
	d := w.phone()
	const pushes = 60
	var work sync.WaitGroup
	for range pushes {
		work.Go(func() {
			if err := w.Push(t.Context(), d, pushtest.Mail()); err != nil {
				t.Errorf("Push: %v", err)
			}
		})
	}
	work.Wait()
	if stats := w.google.Stats(); stats.Accepted != pushes || stats.Requests <= pushes {
		t.Errorf("stats = %+v, want %d accepted and some refused before", stats, pushes)
	}
}
