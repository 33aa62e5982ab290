package sns_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/egress/proxytest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func setKey(o *sns.Options, key snstest.AccessKey) {
	o.AccessKeyID, o.SecretAccessKey = secret.FromString(key.ID), secret.FromString(key.Secret)
}

func TestAKeyThatAmazonDoesNotTakeIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*snstest.AccessKey)
		reason string
	}{
		"an unknown key":    {func(k *snstest.AccessKey) { *k = snstest.NewAccessKey() }, "InvalidClientTokenId"},
		"another's secret":  {func(k *snstest.AccessKey) { k.Secret = snstest.NewAccessKey().Secret }, "SignatureDoesNotMatch"},
		"the very same key": {func(*snstest.AccessKey) {}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) {
				key := snstest.AccessKey{ID: o.AccessKeyID.RevealString(), Secret: o.SecretAccessKey.RevealString()}
				test.change(&key)
				setKey(o, key)
			})
			d := w.phone()
			err := w.Push(t.Context(), d, pushtest.Mail())
			if test.reason == "" {
				if err != nil {
					t.Errorf("err = %v", err)
				}
				return
			}
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != push.Misconfigured || !refusal.Lasting || refusal.Reason != test.reason {
				t.Errorf("err = %v, want %s", err, test.reason)
			}
		})
	}
}

const role = "arn:aws:iam::123456789012:role/ens"

// withRole starts a provider that takes a role with the token in the file that is returned.
func withRole(t *testing.T, content string) (world, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) {
		o.Config.RoleARN, o.WebIdentityTokenFile = role, path
		o.AccessKeyID, o.SecretAccessKey = secret.Value{}, secret.Value{}
	})
	return w, path
}

func TestARoleIsTakenOnceForManyPushes(t *testing.T) {
	t.Parallel()
	w, _ := withRole(t, "a-token-of-the-cluster\n")
	w.amazon.TrustRole(role, "a-token-of-the-cluster")
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.push(t, d, pushtest.Mail())
	w.arrived(t, d, 2)
	if got := w.amazon.Stats().SignIns; got != 1 {
		t.Errorf("the role was taken %d times, want once", got)
	}
}

func TestAPushWaitsForNoRoleThatCannotBeTakenAndUsesItAsSoonAsItCan(t *testing.T) {
	t.Parallel()
	w, path := withRole(t, "an-old-token")
	w.amazon.TrustRole(role, "a-new-token")
	d := w.phone()
	refused := func(reason string) {
		t.Helper()
		err := w.Push(t.Context(), d, pushtest.Mail())
		refusal, ok := errors.AsType[*push.Error](err)
		if !ok || refusal.Outcome != push.Misconfigured || refusal.Reason != reason {
			t.Errorf("err = %v, want a misconfiguration with the reason %q", err, reason)
		}
		if err != nil && (strings.Contains(err.Error(), "an-old-token") || strings.Contains(err.Error(), path)) {
			t.Errorf("it tells the token or its path: %v", err)
		}
	}
	refused("InvalidIdentityToken")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused("")
	if err := os.WriteFile(path, []byte("a-new-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.push(t, d, pushtest.Mail())
}

func TestUnusableOptionsAreRefused(t *testing.T) {
	t.Parallel()
	key := snstest.NewAccessKey()
	good := config.SNS{ApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/GCM/mail"}
	tests := map[string]struct {
		config     config.SNS
		id, secret string
		want       string
	}{
		"no ARN":                 {config.SNS{}, key.ID, key.Secret, "applicationARN"},
		"a topic's ARN":          {config.SNS{ApplicationARN: "arn:aws:sns:eu-central-1:123456789012:mail"}, key.ID, key.Secret, "applicationARN"},
		"another platform's ARN": {config.SNS{ApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/ADM/mail"}, key.ID, key.Secret, "applicationARN"},
		"no key":                 {good, "", "", "access key id"},
		"a session's key":        {good, "ASIA" + key.ID[4:], key.Secret, "access key id"},
		"no secret":              {good, key.ID, "", "secret access key"},
		"a secret of two lines":  {good, key.ID, key.Secret + "\n" + key.Secret, "secret access key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sns.New(sns.Options{
				Settings: push.Settings{Name: "amazon"}, Config: test.config, AccessKeyID: secret.FromString(test.id), SecretAccessKey: secret.FromString(test.secret),
			})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "amazon") {
				t.Errorf("err = %v, want one about the %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), key.Secret) {
				t.Errorf("it tells the secret: %v", err)
			}
		})
	}
}

func TestConnectionsAreMadeAsTheOptionsSay(t *testing.T) {
	t.Parallel()
	forbidden := errors.New("this address may not be reached")
	w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) {
		o.Timeout = time.Second
		o.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, forbidden }
	})
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); !errors.Is(err, forbidden) || push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry because of the dialer", err)
	}
	w = start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) { o.RootCAs, o.Timeout = nil, time.Second })
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry because of the certificate", err)
	}
}

// What a role is taken with goes to another service than the notifications.
func TestARoleIsTakenByWayOfTheProxyToo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("a token"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		password string
		outcome  push.Outcome
	}{
		"with its password":     {"swordfish", 0},
		"with another password": {"trombone", push.Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := proxytest.Start("ens", "swordfish")
			t.Cleanup(proxy.Close)
			w := start(t, snstest.APNs, snstest.Options{}, func(o *sns.Options) {
				o.Config.RoleARN, o.WebIdentityTokenFile = role, path
				o.AccessKeyID, o.SecretAccessKey = secret.Value{}, secret.Value{}
				o.Config.URL, o.Config.STSURL = proxy.Route(o.Config.URL), proxy.Route(o.Config.STSURL)
				dial, err := egress.Proxy{
					URL: proxy.URL(), Username: secret.FromString("ens"), Password: secret.FromString(test.password),
				}.Through(new(net.Dialer).DialContext)
				if err != nil {
					t.Fatal(err)
				}
				o.DialContext = dial
			})
			w.amazon.TrustRole(role, "a token")
			err := w.Push(t.Context(), w.phone(), pushtest.Mail())
			if push.OutcomeOf(err) != test.outcome || err != nil && (strings.Contains(err.Error(), test.password) || !strings.Contains(err.Error(), "the proxy's credentials")) {
				t.Errorf("err = %v, want %s", err, test.outcome)
			}
			if signIns := w.amazon.Stats().SignIns; (signIns == 1) != (err == nil) {
				t.Errorf("signed in %d times", signIns)
			}
		})
	}
}
