package cns_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/cns"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	appID    = "com.example.mail"
	password = "s3cret"
)

// world is a provider with the service it talks to.
type world struct {
	*cns.Provider
	vmware   *cnstest.Server
	platform push.Platform
}

// start starts the service and a provider. Change may be nil.
func start(t *testing.T, vmware cnstest.Options, change func(*cns.Options, *cnstest.Server)) world {
	t.Helper()
	vmware.Logf = func(format string, args ...any) {
		if t.Context().Err() == nil {
			t.Logf(format, args...)
		}
	}
	server := cnstest.Start(vmware)
	t.Cleanup(server.Close)
	o := cns.Options{
		Config: config.CNS{
			Platform: config.CNSPlatformIOS, Environment: config.PushProduction, AppIDs: []string{appID}, URL: server.URL(),
			PublicKeySHA256: []string{server.PublicKeySHA256()},
		},
		Settings: push.Settings{Name: "vmware", RootCAs: server.RootCAs()}, Signing: file(server.Authority()),
	}
	if change != nil {
		change(&o, server)
	}
	provider, err := cns.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	return world{Provider: provider, vmware: server, platform: push.Platform(o.Config.Platform)}
}

// file is a certificate of the authority that is good for a day.
func file(authority *cnstest.Authority) pfx.File {
	return pfx.File{
		Content:  secret.New(authority.PFX("AW Cloud Notification - aTest", password, time.Now().Add(24*time.Hour))),
		Password: secret.FromString(password + "\n"),
	}
}

// forAndroid has a provider serve Android phones.
func forAndroid(o *cns.Options, _ *cnstest.Server) {
	o.Config.Platform, o.Config.Environment = config.CNSPlatformAndroid, ""
}

// phone registers a new phone.
func (w world) phone() push.Device {
	token := make([]byte, 32)
	_, _ = rand.Read(token)
	d := push.Device{Ref: 8, Platform: w.platform, Token: hex.EncodeToString(token), AppID: appID}
	w.vmware.AddDevice(d.Token)
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
	for name, platform := range map[string]func(*cns.Options, *cnstest.Server){
		"iPhone": func(*cns.Options, *cnstest.Server) {}, "Android": forAndroid,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pushtest.Run(t, func(t *testing.T, o pushtest.Options) pushtest.Fixture {
				return fixture(t, start(t, cnstest.Options{}, func(c *cns.Options, s *cnstest.Server) {
					platform(c, s)
					o.Apply(&c.Settings)
					c.Config.URL = o.Route(c.Config.URL)
				}))
			})
		})
	}
}

func fixture(t *testing.T, w world) pushtest.Fixture {
	return pushtest.Fixture{
		Provider:   w.Provider,
		NewDevice:  w.phone,
		Unregister: func(d push.Device) { w.vmware.Unregister(d.Token) },
		Wait: func(ctx context.Context, d push.Device, n int) ([]pushtest.Received, error) {
			all, err := w.vmware.Wait(ctx, d.Token, n)
			received := make([]pushtest.Received, len(all))
			for i, one := range all {
				received[i] = asReceived(t, one)
			}
			return received, err
		},
		Fail: func(n, status int, retryAfter time.Duration) {
			w.vmware.FailNext(n, cnstest.Fault{Status: status, RetryAfter: retryAfter})
		},
		Hang: func() {
			w.vmware.OnRequest(func(cnstest.Request) *cnstest.Fault { return &cnstest.Fault{Hang: true} })
		},
		Slow: func(d time.Duration) {
			w.vmware.OnRequest(func(cnstest.Request) *cnstest.Fault { time.Sleep(d); return nil })
		},
		MostAtOnce: func() int { return w.vmware.Stats().MostUnderWay },
	}
}

func asReceived(t *testing.T, n cnstest.Notification) pushtest.Received {
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

func TestTheServiceIsToldWhatAppleWouldBeTold(t *testing.T) {
	t.Parallel()
	w := start(t, cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.Config.Environment = config.PushSandbox })
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.push(t, d, push.Notification{Kind: push.Badge, Unread: new(0)})
	got := w.vmware.Notifications(d.Token)
	mail, badge := got[0].Apple, got[1].Apple
	if mail.PushType != "alert" || mail.Priority != 10 || mail.CollapseID != "mail-1" || mail.Expiration <= time.Now().Unix() {
		t.Errorf("mail is %+v", mail)
	}
	if badge.PushType != "alert" || badge.Priority != 5 || badge.Expiration != 0 {
		t.Errorf("the badge is %+v", badge)
	}
	if got[0].AppID != appID || got[0].Environment != "sandbox" {
		t.Errorf("app and environment are %s, %s", got[0].AppID, got[0].Environment)
	}
}

func TestADeviceOfTheOtherPlatformIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	w := start(t, cnstest.Options{}, forAndroid)
	d := w.phone()
	d.Platform = push.IOS
	if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured {
		t.Errorf("err = %v, want a misconfiguration", err)
	}
}
