// Package runtimetest sets up a tenant's runtime with everything around it: a real Postgres, the fake Exchange and push
// services, and the configuration folder that a pod would have mounted.
//
//	tenant := runtimetest.New(t, runtimetest.Options{})
//	replica := tenant.Start(t)
//	phone := tenant.Phone("alice@example.com", push.IOS)
package runtimetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

const (
	// BasePath is the path of the original that everything is served under.
	BasePath = "/MailNotificationService/api/ens"
	// Topic is the iOS app that is served.
	Topic = "com.example.boxer"
	// Package is the Android app that is served.
	Package = "com.example.boxer.android"
	// The names of the configured parts.
	endpointName = "mail"
	apnsName     = "apple"
	fcmName      = "google"
	// Password is every simulated user's.
	Password = "pass-W0rd!-of-the-simulated-user"
)

// Options change the scene. The zero value is a good one.
type Options struct {
	// Configure changes the configuration before it is written.
	Configure func(*config.Config)
	// Postgres is a server of the test's own; nil is the one that the tests of the process share.
	Postgres *testenv.PostgresServer
	// Exchange are the fake's options.
	Exchange ewstest.Options
	// Clock drives in-process replicas and the fakes; nil is the real one.
	Clock clock.WithTickerAndDelayedExecution
	// DialContext and LookupSRV replace how in-process replicas reach out, see server.Options.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	LookupSRV   func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	// Steps is told of each step of in-process replicas; nil tells nobody.
	Steps step.Hook
	// Log gets what in-process replicas log; nil discards it.
	Log slog.Handler
	// LogTo gets it, if Log is nil, in the format and from the level that the configuration says.
	LogTo io.Writer
}

// Tenant is a tenant without a running replica.
type Tenant struct {
	options Options

	Exchange *ewstest.Server
	APNs     *apnstest.Server
	FCM      *fcmtest.Server
	Front    *Front
	Schema   *storetest.Schema
	// Folder is the configuration folder.
	Folder   string
	Config   config.Config
	APIToken string
}

// New sets a tenant up. It is gone when the test ends.
func New(t testing.TB, o Options) *Tenant {
	t.Helper()
	if o.Exchange.Logf == nil {
		o.Exchange.Logf = t.Logf
	}
	var passive clock.PassiveClock
	if o.Clock != nil {
		passive = o.Clock
		if o.Exchange.Clock == nil {
			o.Exchange.Clock = o.Clock
		}
	}
	if o.Postgres == nil {
		o.Postgres = testenv.Postgres(t)
	}
	tenant := &Tenant{
		options: o, Schema: storetest.On(t, o.Postgres.NewDatabase(t), "tenant"), Front: newFront(t), Folder: t.TempDir(), APIToken: rand.Text(),
		Exchange: ewstest.StartT(t, o.Exchange),
		APNs:     apnstest.Start(apnstest.Options{Logf: t.Logf, Clock: passive}),
		FCM:      fcmtest.Start(fcmtest.Options{Logf: t.Logf, Clock: passive}),
	}
	t.Cleanup(tenant.APNs.Close)
	t.Cleanup(tenant.FCM.Close)
	key := tenant.APNs.NewKey()
	tenant.Config = config.Config{
		Tenant: config.Tenant{ID: tenant.Schema.Name, Namespace: "test", Name: "acme"},
		Server: config.Server{
			Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0", Admin: "127.0.0.1:0",
			CallbackURL: tenant.Front.URL + BasePath, DrainDelaySeconds: new(int32(0)),
		},
		Endpoints: []config.Endpoint{{
			Name: endpointName, URL: tenant.Exchange.URL(), Pinning: config.Pinning{SHA256: []string{tenant.Exchange.Fingerprint()}},
		}},
		PushProviders: []config.PushProvider{
			{Name: apnsName, CABundle: true, APNs: &config.APNs{
				TeamID: key.TeamID, KeyID: key.KeyID, Topics: []string{Topic}, Environment: config.PushProduction, URL: tenant.APNs.URL(),
			}},
			{Name: fcmName, CABundle: true, FCM: &config.FCM{
				ProjectID: tenant.FCM.Project(), AppIDs: []string{Package}, URL: tenant.FCM.URL(), TokenURL: tenant.FCM.TokenURL(),
			}},
		},
		KeyPool:       config.KeyPool{Size: 4, RefillBelow: 2},    // a pair costs 40 ms
		Limits:        config.Limits{UserRequestsPerMinute: 6000}, // tests ask until they are told what they wait for
		AllowLoopback: true,
	}
	if o.Configure != nil {
		o.Configure(&tenant.Config)
	}
	sum := sha256.Sum256([]byte(tenant.APIToken))
	tenant.Write(t, config.APITokenHashesFile, []byte(hex.EncodeToString(sum[:])+"\n"))
	tenant.Write(t, config.DatabaseURLFile, tenant.Schema.URL.Reveal())
	for name, content := range config.NewKeyFiles() {
		tenant.Write(t, filepath.Join(config.KeysFolder, name), content)
	}
	tenant.Write(t, filepath.Join(config.PushFolder, apnsName, config.APNsKeyFile), key.P8)
	tenant.Write(t, filepath.Join(config.PushFolder, apnsName, config.CABundleFile), tenant.APNs.CertificatePEM())
	tenant.Write(t, filepath.Join(config.PushFolder, fcmName, config.FCMServiceAccountFile), tenant.FCM.ServiceAccountJSON())
	tenant.Write(t, filepath.Join(config.PushFolder, fcmName, config.CABundleFile), tenant.FCM.CertificatePEM())
	tenant.WriteConfig(t)
	return tenant
}

// Write writes one file of the configuration folder.
func (x *Tenant) Write(t testing.TB, name string, content []byte) {
	t.Helper()
	path := filepath.Join(x.Folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// WriteConfig writes Config.
func (x *Tenant) WriteConfig(t testing.TB) {
	t.Helper()
	content, err := yaml.Marshal(x.Config)
	if err != nil {
		t.Fatal(err)
	}
	x.Write(t, config.FileName, content)
}

// Phone adds a mailbox for the address, if there is none, and a phone of its user that the push service knows.
func (x *Tenant) Phone(address string, platform push.Platform) *boxertest.Phone {
	if x.Exchange.Unread(address) < 0 {
		x.Exchange.AddMailbox(ewstest.Mailbox{Address: address, Password: Password})
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	phone := &boxertest.Phone{
		BaseURL: x.Front.URL + BasePath, APIToken: x.APIToken, Client: &http.Client{Timeout: waitLimit},
		Address: address, Username: address, Password: Password,
		DeviceID: strings.ToUpper(hex.EncodeToString(id[:16])), DeviceToken: hex.EncodeToString(id),
		Platform: string(platform), EWSURL: x.Exchange.URL(),
	}
	if platform == push.IOS {
		x.APNs.AddDevice(phone.DeviceToken, Topic)
		phone.AppID = Topic
	} else {
		phone.AppID = Package
		x.FCM.AddDevice(phone.DeviceToken)
	}
	return phone
}

// MustRegister fetches the key, again until there is one as a phone does, and registers the phone, and fails the test unless it is answered code.
func MustRegister(t testing.TB, phone *boxertest.Phone, code int) boxertest.Answer {
	t.Helper()
	Eventually(t, func() string {
		answer, err := phone.PublicKey(t.Context())
		if err == nil && answer.Status == http.StatusServiceUnavailable { // no pair is at hand, on a machine that is busy
			return "getpublickey is answered 503: " + answer.Message
		}
		if err != nil || answer.Code != 3 {
			t.Fatalf("getpublickey was answered %d/%d %s: %v", answer.Status, answer.Code, answer.Message, err)
		}
		return ""
	})
	answer, err := phone.Register(t.Context())
	if err != nil || answer.Code != code {
		t.Fatalf("registerdevicev2 was answered %d/%d %q, want code %d: %v", answer.Status, answer.Code, answer.Message, code, err)
	}
	return answer
}

// waitLimit bounds every wait: much longer than anything takes, so that reaching it means that it will not come.
const waitLimit = 30 * time.Second

// Context ends when a wait would be in vain.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

// pollInterval is how often Eventually looks.
const pollInterval = 5 * time.Millisecond

// Eventually waits until there is nothing left to complain about. It is for states that send no signal.
func Eventually(t testing.TB, complaint func() string) {
	t.Helper()
	ctx := Context(t)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		text := complaint()
		if text == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %s still: %s", waitLimit, text)
		case <-ticker.C:
		}
	}
}
