package apns_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// options are valid ones.
func options(key apnstest.Key) apns.Options {
	return apns.Options{
		Config:   config.APNs{TeamID: key.TeamID, KeyID: key.KeyID, Topics: []string{topic}},
		Settings: push.Settings{Name: "apple", Logger: slog.New(slog.DiscardHandler)}, Key: secret.New(bytes.Clone(key.P8)),
	}
}

func TestAKeyThatIsNotApplesIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	good := apnstest.NewKey()
	wrongCurve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(wrongCurve)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	tests := map[string]struct{ file, says string }{
		"empty":                {" \n", "empty"},
		"not PEM":              {"MIGTAgEAMBMGByqGSM49AgEGCCqG", "BEGIN PRIVATE KEY"},
		"a certificate":        {block("CERTIFICATE", der), "PKCS#8"},
		"garbage in a PEM":     {block("PRIVATE KEY", []byte("garbage")), "PKCS#8"},
		"another curve":        {block("PRIVATE KEY", der), "P-256"},
		"two keys":             {string(good.P8) + string(good.P8), "more than one"},
		"a very large file":    {string(good.P8) + strings.Repeat(" ", 9000), "8 KiB"},
		"SEC 1, not converted": {block("EC PRIVATE KEY", der), "PKCS#8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(good)
			o.Key = secret.FromString(test.file)
			_, err := apns.New(o)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "apple") {
				t.Errorf("err = %v, want the provider's name and %q", err, test.says)
			}
			if err != nil && strings.Contains(err.Error(), "garbage") {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*config.APNs)
		says   string
	}{
		"no team":             {func(c *config.APNs) { c.TeamID = "" }, "teamID"},
		"a key id with quote": {func(c *config.APNs) { c.KeyID = `A"B` }, "keyID"},
		"no topic":            {func(c *config.APNs) { c.Topics = nil }, "topics"},
		"an empty topic":      {func(c *config.APNs) { c.Topics = []string{""} }, "topics"},
		"another environment": {func(c *config.APNs) { c.Environment = "staging" }, "staging"},
		"plain http":          {func(c *config.APNs) { c.URL = "http://127.0.0.1:1" }, "https"},
		"a path":              {func(c *config.APNs) { c.URL = "https://127.0.0.1/3/device" }, "nothing else"},
		"a password":          {func(c *config.APNs) { c.URL = "https://user:secret@127.0.0.1" }, "nothing else"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(apnstest.NewKey())
			test.change(&o.Config)
			if _, err := apns.New(o); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("err = %v, want %q in it and no secret", err, test.says)
			}
		})
	}
}

func TestConnectionsAreMadeByTheGivenDialerToApplesServers(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied by the guard")
	for environment, address := range map[config.PushEnvironment]string{
		"":                    "api.push.apple.com:443",
		config.PushProduction: "api.push.apple.com:443",
		config.PushSandbox:    "api.sandbox.push.apple.com:443",
	} {
		t.Run("environment "+string(environment), func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 10)
			o := options(apnstest.NewKey())
			o.Config.Environment = environment
			o.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
				asked <- address
				return nil, denied
			}
			provider, err := apns.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = provider.Close() }()
			d := push.Device{Platform: push.IOS, Token: strings.Repeat("ab", 32), AppID: topic}
			if err := provider.Push(t.Context(), d, pushtest.Mail()); !errors.Is(err, denied) {
				t.Errorf("err = %v, want the dialer's", err)
			}
			if got := <-asked; got != address {
				t.Errorf("dialed %s, want %s", got, address)
			}
		})
	}
}

func FuzzKey(f *testing.F) {
	f.Add(apnstest.NewKey().P8)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		o := options(apnstest.NewKey())
		o.Key = secret.New(file)
		if provider, err := apns.New(o); err == nil {
			_ = provider.Close()
		}
	})
}
