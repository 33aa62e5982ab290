package sns_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const appID = "com.example.mail"

// world is a provider with the Amazon it talks to.
type world struct {
	*sns.Provider
	amazon   *snstest.Server
	platform push.Platform
	arn      string
}

// start starts Amazon with an application of the platform, and a provider. Change may be nil.
func start(t *testing.T, platform string, amazon snstest.Options, change func(*sns.Options)) world {
	t.Helper()
	amazon.Logf = func(format string, args ...any) {
		if t.Context().Err() == nil {
			t.Logf(format, args...)
		}
	}
	server := snstest.Start(amazon)
	t.Cleanup(server.Close)
	key := server.AccessKey()
	w := world{amazon: server, platform: push.IOS, arn: server.AddApplication(platform, "mail")}
	if platform == snstest.FCM {
		w.platform = push.Android
	}
	o := sns.Options{
		Config:   config.SNS{ApplicationARN: w.arn, AppIDs: []string{appID}, URL: server.URL(), STSURL: server.URL()},
		Settings: push.Settings{Name: "amazon", RootCAs: server.RootCAs()}, AccessKeyID: secret.FromString(key.ID), SecretAccessKey: secret.FromString(key.Secret),
	}
	if change != nil {
		change(&o)
	}
	provider, err := sns.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	w.Provider = provider
	return w
}

// phone is a new phone.
func (w world) phone() push.Device {
	token := make([]byte, 32)
	_, _ = rand.Read(token)
	d := push.Device{Ref: 8, Platform: w.platform, Token: hex.EncodeToString(token), AppID: appID}
	if w.platform == push.Android {
		d.Token = "fcm:" + d.Token
	}
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
	for _, platform := range []string{snstest.APNs, snstest.FCM} {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			pushtest.Run(t, func(t *testing.T, o pushtest.Options) pushtest.Fixture { return fixture(t, platform, o) })
		})
	}
}

func fixture(t *testing.T, platform string, o pushtest.Options) pushtest.Fixture {
	w := start(t, platform, snstest.Options{}, func(s *sns.Options) {
		o.Apply(&s.Settings)
		s.Config.URL = o.Route(s.Config.URL)
	})
	return pushtest.Fixture{
		Provider:  w.Provider,
		NewDevice: w.phone,
		Unregister: func(d push.Device) {
			// Amazon accepts one notification more, which nobody gets, and learns from Apple or Google.
			w.amazon.Unregister(d.Token)
			w.push(t, d, pushtest.Mail())
		},
		Wait: func(ctx context.Context, d push.Device, n int) ([]pushtest.Received, error) {
			all, err := w.amazon.Wait(ctx, d.Token, n)
			received := make([]pushtest.Received, len(all))
			for i, one := range all {
				received[i] = asReceived(t, one)
			}
			return received, err
		},
		Fail: func(n, status int, retryAfter time.Duration) {
			w.amazon.FailNext(n, snstest.Fault{Status: status, Code: "ServiceUnavailable", RetryAfter: retryAfter})
		},
		Hang: func() {
			w.amazon.OnRequest(func(snstest.Request) *snstest.Fault { return &snstest.Fault{Hang: true} })
		},
		Slow: func(d time.Duration) {
			w.amazon.OnRequest(func(snstest.Request) *snstest.Fault { time.Sleep(d); return nil })
		},
		MostAtOnce: func() int { return w.amazon.Stats().MostUnderWay },
	}
}

func asReceived(t *testing.T, n snstest.Notification) pushtest.Received {
	t.Helper()
	if n.Google != nil {
		return fromGoogle(t, *n.Google)
	}
	var content struct {
		ENS push.Reference `json:"ens"`
	}
	if err := json.Unmarshal(n.Apple.Payload, &content); err != nil {
		t.Errorf("payload: %v", err)
	}
	received := pushtest.Received{Unread: n.Apple.APS.Badge, Reference: content.ENS, Size: len(n.Apple.Payload)}
	if alert := n.Apple.APS.Alert; alert != nil {
		received.Title, received.Subtitle, received.Body = alert.Title, alert.Subtitle, alert.Body
	}
	return received
}

func fromGoogle(t *testing.T, m fcmtest.Message) pushtest.Received {
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

func TestAppleIsToldHowToTreatANotification(t *testing.T) {
	t.Parallel()
	const day = int64(24 * 60 * 60)
	tests := map[string]struct {
		n          push.Notification
		pushType   string
		priority   int
		timeToLive int64
	}{
		"mail":        {pushtest.Mail(), "alert", 10, day},
		"badge":       {push.Notification{Kind: push.Badge, Unread: new(0), UserID: "1743", CollapseID: "mail-1"}, "alert", 5, 0},
		"resubscribe": {push.Notification{Kind: push.Resubscribe, CollapseID: "mail-1"}, "background", 5, day},
	}
	for _, platform := range []string{snstest.APNs, snstest.APNsSandbox} {
		for name, test := range tests {
			t.Run(platform+" "+name, func(t *testing.T) {
				t.Parallel()
				w := start(t, platform, snstest.Options{}, nil)
				d := w.phone()
				w.push(t, d, test.n)
				got := w.amazon.Notifications(d.Token)[0].Apple
				want := apnstest.Notification{PushType: test.pushType, Priority: test.priority, Expiration: test.timeToLive, Topic: appID, CollapseID: "mail-1"}
				if got.PushType != want.PushType || got.Priority != want.Priority || got.Expiration != want.Expiration ||
					got.Topic != want.Topic || got.CollapseID != want.CollapseID {
					t.Errorf("got %+v\nwant %+v", got, want)
				}
			})
		}
	}
}

func TestADeviceOfTheOtherPlatformIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	for platform, other := range map[string]push.Platform{snstest.APNs: push.Android, snstest.FCM: push.IOS} {
		w := start(t, platform, snstest.Options{}, nil)
		d := w.phone()
		d.Platform = other
		if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured {
			t.Errorf("%s: err = %v, want a misconfiguration", platform, err)
		}
	}
}
