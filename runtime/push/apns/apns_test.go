package apns_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const topic = "com.example.mail"

// world is a provider with the Apple it talks to.
type world struct {
	*apns.Provider
	apple *apnstest.Server
	log   *logBuffer
}

// start starts Apple and a provider. Change may be nil.
func start(t *testing.T, apple apnstest.Options, change func(*apns.Options)) world {
	t.Helper()
	apple.Logf = quiet(t)
	server := apnstest.Start(apple)
	t.Cleanup(server.Close)
	return connect(t, server, server.NewKey(), change)
}

// quiet logs only while the test runs.
func quiet(t *testing.T) func(string, ...any) {
	return func(format string, args ...any) {
		if t.Context().Err() == nil {
			t.Logf(format, args...)
		}
	}
}

// connect makes a provider for a server that is there.
func connect(t *testing.T, server *apnstest.Server, key apnstest.Key, change func(*apns.Options)) world {
	t.Helper()
	log := new(logBuffer)
	o := apns.Options{
		Config: config.APNs{TeamID: key.TeamID, KeyID: key.KeyID, Topics: []string{topic}, URL: server.URL()},
		Key:    secret.New(bytes.Clone(key.P8)),
		Settings: push.Settings{
			Name: "apple", RootCAs: server.RootCAs(),
			Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
	}
	if change != nil {
		change(&o)
	}
	provider, err := apns.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	return world{Provider: provider, apple: server, log: log}
}

// phone registers a new phone.
func (w world) phone() push.Device {
	token := make([]byte, 32)
	_, _ = rand.Read(token)
	d := push.Device{Ref: 7, Platform: push.IOS, Token: hex.EncodeToString(token), AppID: topic}
	w.apple.AddDevice(d.Token, topic)
	return d
}

// push pushes and fails the test if that fails.
func (w world) push(t *testing.T, d push.Device, n push.Notification) {
	t.Helper()
	if err := w.Push(t.Context(), d, n); err != nil {
		t.Fatalf("Push: %v", err)
	}
}

// last returns the newest notification on a phone.
func (w world) last(t *testing.T, d push.Device) apnstest.Notification {
	t.Helper()
	all := w.apple.Notifications(d.Token)
	if len(all) == 0 {
		t.Fatal("nothing has arrived")
	}
	return all[len(all)-1]
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, apnstest.Options, func(*apns.Options)) world{
		"token": start, "certificate": startWithCertificate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pushtest.Run(t, func(t *testing.T, o pushtest.Options) pushtest.Fixture {
				return fixture(t, start(t, apnstest.Options{}, func(a *apns.Options) {
					o.Apply(&a.Settings)
					a.Config.URL = o.Route(a.Config.URL)
				}))
			})
		})
	}
}

func fixture(t *testing.T, w world) pushtest.Fixture {
	return pushtest.Fixture{
		Provider:   w.Provider,
		NewDevice:  w.phone,
		Unregister: func(d push.Device) { w.apple.Unregister(d.Token, time.Now()) },
		Wait: func(ctx context.Context, d push.Device, n int) ([]pushtest.Received, error) {
			all, err := w.apple.Wait(ctx, d.Token, n)
			received := make([]pushtest.Received, len(all))
			for i, one := range all {
				received[i] = asReceived(t, one)
			}
			return received, err
		},
		Fail: func(n, status int, retryAfter time.Duration) {
			w.apple.FailNext(n, apnstest.Fault{Status: status, Reason: "ServiceUnavailable", RetryAfter: retryAfter})
		},
		Hang: func() {
			w.apple.OnRequest(func(apnstest.Request) *apnstest.Fault { return &apnstest.Fault{Hang: true} })
		},
		Slow: func(d time.Duration) {
			w.apple.OnRequest(func(apnstest.Request) *apnstest.Fault { time.Sleep(d); return nil })
		},
		MostAtOnce: func() int { return w.apple.Stats().MostStreams },
	}
}

func asReceived(t *testing.T, n apnstest.Notification) pushtest.Received {
	t.Helper()
	var document struct {
		ENS push.Reference `json:"ens"`
	}
	if err := json.Unmarshal(n.Payload, &document); err != nil {
		t.Fatalf("payload: %v", err)
	}
	received := pushtest.Received{Unread: n.APS.Badge, Reference: document.ENS, Size: len(n.Payload)}
	if n.APS.Alert != nil {
		received.Title, received.Subtitle, received.Body = n.APS.Alert.Title, n.APS.Alert.Subtitle, n.APS.Alert.Body
	}
	return received
}
