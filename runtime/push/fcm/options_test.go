package fcm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// changed returns the service account with fields replaced.
func changed(t *testing.T, fields map[string]any) string {
	t.Helper()
	var content map[string]any
	if err := json.Unmarshal(account(), &content); err != nil {
		t.Fatal(err)
	}
	maps.Copy(content, fields)
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAServiceAccountThatIsNotPlainIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		says string
	}{
		"empty":                      {" ", "empty"},
		"not JSON":                   {"-----BEGIN PRIVATE KEY-----", "JSON"},
		"very large":                 {changed(t, map[string]any{"x": strings.Repeat("x", 70_000)}), "64 KiB"},
		"a user's credential":        {changed(t, map[string]any{"type": "authorized_user"}), "authorized_user"},
		"one that runs a program":    {changed(t, map[string]any{"type": "external_account"}), "external_account"},
		"another token endpoint":     {changed(t, map[string]any{"token_uri": "https://evil.example/token"}), "token_uri"},
		"a look-alike":               {changed(t, map[string]any{"token_uri": "https://oauth2.googleapis.com.evil.example/token"}), "token_uri"},
		"another universe":           {changed(t, map[string]any{"universe_domain": "evil.example"}), "universe_domain"},
		"no e-mail":                  {changed(t, map[string]any{"client_email": ""}), "client_email"},
		"no project":                 {changed(t, map[string]any{"project_id": ""}), "project_id"},
		"no key":                     {changed(t, map[string]any{"private_key": ""}), "private_key"},
		"a key that is garbage":      {changed(t, map[string]any{"private_key": "-----BEGIN PRIVATE KEY-----\nZXZpbA==\n-----END PRIVATE KEY-----\n"}), "private_key"},
		"a field of the wrong type":  {changed(t, map[string]any{"private_key": 5}), "JSON"},
		"a type that is very long":   {changed(t, map[string]any{"type": strings.Repeat("x", 1000)}), "only"},
		"two documents in one file":  {string(account()) + "{}", "JSON"},
		"a key of another algorithm": {changed(t, map[string]any{"private_key": "-----BEGIN EC PRIVATE KEY-----\nZXZpbA==\n-----END EC PRIVATE KEY-----\n"}), "private_key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(new(bytes.Buffer))
			o.ServiceAccount = secret.FromString(test.file)
			_, err := fcm.New(o)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "google") {
				t.Errorf("err = %v, want the provider's name and %q", err, test.says)
			}
			if err != nil && (strings.Contains(err.Error(), "evil") || len(err.Error()) > 300) {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*config.FCM)
		says   string
	}{
		"no project":                 {func(c *config.FCM) { c.ProjectID = "" }, "projectID"},
		"a project with a path":      {func(c *config.FCM) { c.ProjectID = "../../evil" }, "projectID"},
		"plain http":                 {func(c *config.FCM) { c.URL = "http://127.0.0.1:1" }, "https"},
		"a path":                     {func(c *config.FCM) { c.URL = "https://127.0.0.1/v1" }, "path"},
		"a password":                 {func(c *config.FCM) { c.URL = "https://user:hunter2@127.0.0.1" }, "without user"},
		"a token endpoint over http": {func(c *config.FCM) { c.TokenURL = "http://127.0.0.1/token" }, "tokenURL"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(new(bytes.Buffer))
			test.change(&o.Config)
			if _, err := fcm.New(o); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("err = %v, want %q in it and no password", err, test.says)
			}
		})
	}
}

func TestConnectionsAreMadeByTheGivenDialerToGooglesServers(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied by the guard")
	asked := make(chan string, 10)
	o := options(new(bytes.Buffer))
	o.Timeout = time.Second
	o.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		asked <- address
		return nil, denied
	}
	provider, err := fcm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = provider.Close() }()
	d := push.Device{Platform: push.Android, Token: "fcm:1", AppID: appID}
	if err := provider.Push(t.Context(), d, pushtest.Mail()); !errors.Is(err, denied) {
		t.Errorf("err = %v, want the dialer's", err)
	}
	if got := <-asked; got != "oauth2.googleapis.com:443" {
		t.Errorf("dialed %s first, want Google's token endpoint", got)
	}
}

func TestAnAccountOfAnotherProjectIsToldToTheAdministrator(t *testing.T) {
	t.Parallel()
	log := new(bytes.Buffer)
	o := options(log)
	o.Config.ProjectID = "another-project"
	provider, err := fcm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = provider.Close() }()
	if !strings.Contains(log.String(), "another project") {
		t.Errorf("log = %q, want a warning", log)
	}
}

func FuzzServiceAccount(f *testing.F) {
	f.Add(account())
	f.Add([]byte(`{"type":"service_account","project_id":"p","client_email":"a@b","private_key":"x"}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		o := options(new(bytes.Buffer))
		o.ServiceAccount = secret.New(file)
		if provider, err := fcm.New(o); err == nil {
			_ = provider.Close()
		}
	})
}
