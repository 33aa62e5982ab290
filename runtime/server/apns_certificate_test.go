package server_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

func TestAMailReachesPhonesOfAppleByCertificateAndByToken(t *testing.T) {
	t.Parallel()
	const certified = "certified"
	production := apnstest.Start(apnstest.Options{Logf: t.Logf})
	t.Cleanup(production.Close)
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) {
		c.PushProviders[0].APNs.Environment = config.PushSandbox
		c.PushProviders = append(c.PushProviders, config.PushProvider{Name: certified, CABundle: true, APNs: &config.APNs{
			Certificate: true, Topics: []string{runtimetest.Topic}, Environment: config.PushProduction, URL: production.URL(),
		}})
	}})
	expiry := time.Now().Add(72 * time.Hour).Truncate(time.Second)
	for name, content := range map[string][]byte{
		config.APNsCertificateFile: production.PFX(apnstest.Certificate{
			Topics: []string{"com.example", runtimetest.Topic}, Production: true, Sandbox: true, NotAfter: expiry,
		}, "s3cret"),
		config.APNsCertificatePasswordFile: []byte("s3cret\n"),
		config.CABundleFile:                production.CertificatePEM(),
	} {
		x.Write(t, filepath.Join(config.PushFolder, certified, name), content)
	}
	replica := x.Start(t)
	ctx := runtimetest.Context(t)
	released, built := x.Phone(alice, push.IOS), x.Phone(alice, push.IOS)
	production.AddDevice(released.DeviceToken, runtimetest.Topic)
	released.Extra = map[string]any{"pushEnvironment": "production"}
	built.Extra = map[string]any{"pushEnvironment": "sandbox"}
	runtimetest.MustRegister(t, released, 7)
	heard(t, x, "OK")
	waitFresh(t, released)
	runtimetest.MustRegister(t, built, 6)

	deliver(t, x, lunch)
	for name, phone := range map[string]struct {
		apple *apnstest.Server
		token string
	}{"certificate": {production, released.DeviceToken}, "token": {x.APNs, built.DeviceToken}} {
		got, err := phone.apple.Wait(ctx, phone.token, 1)
		if err != nil {
			t.Fatalf("by %s: %v", name, err)
		}
		if alert := got[0].APS.Alert; alert == nil || alert.Title != lunch.FromName || alert.Subtitle != lunch.Subject {
			t.Errorf("by %s: shown is %+v", name, alert)
		}
	}
	if n := len(production.Notifications(built.DeviceToken)) + len(x.APNs.Notifications(released.DeviceToken)); n != 0 {
		t.Errorf("%d notifications went to the other environment", n)
	}
	metrics := get(t, "http://"+replica.Metrics+"/metrics")
	want := `ens_push_credential_expiry_timestamp_seconds{provider="certified"} ` + strconv.FormatFloat(float64(expiry.Unix()), 'g', -1, 64)
	if !strings.Contains(metrics, want) || strings.Contains(metrics, `expiry_timestamp_seconds{provider="apple"}`) {
		t.Errorf("the metrics lack %q, or tell the expiry of a key", want)
	}
}
