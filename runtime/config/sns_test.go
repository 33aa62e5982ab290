package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestParsePlatformApplication(t *testing.T) {
	t.Parallel()
	const account = "arn:aws:sns:eu-central-1:123456789012:"
	tests := map[string]struct {
		arn         string
		environment config.PushEnvironment
		apple       bool
		prefix      string
	}{
		"production":          {account + "app/APNS/mail", config.PushProduction, true, account + "endpoint/APNS/mail/"},
		"sandbox":             {account + "app/APNS_SANDBOX/mail", config.PushSandbox, true, account + "endpoint/APNS_SANDBOX/mail/"},
		"Android, in China":   {"arn:aws-cn:sns:cn-north-1:123456789012:app/GCM/my_mail-1.0", "", false, "arn:aws-cn:sns:cn-north-1:123456789012:endpoint/GCM/my_mail-1.0/"},
		"nothing":             {arn: ""},
		"an endpoint":         {arn: account + "endpoint/APNS/mail/1"},
		"a path in the name":  {arn: account + "app/APNS/../GCM"},
		"VoIP":                {arn: account + "app/APNS_VOIP/mail"},
		"a short account":     {arn: "arn:aws:sns:eu-central-1:12345678901:app/APNS/mail"},
		"a host as region":    {arn: "arn:aws:sns:evil.example/:123456789012:app/APNS/mail"},
		"a line after it":     {arn: account + "app/APNS/mail\n"},
		"another service":     {arn: strings.Replace(account, ":sns:", ":sqs:", 1) + "app/APNS/mail"},
		"another's partition": {arn: strings.Replace(account, "arn:aws:", "arn:evil:", 1) + "app/APNS/mail"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			application, err := config.ParsePlatformApplication(test.arn)
			if (err == nil) != (test.prefix != "") {
				t.Fatalf("err = %v", err)
			}
			if err != nil {
				return
			}
			if application.Environment() != test.environment || application.IsApple() != test.apple || application.EndpointPrefix() != test.prefix {
				t.Errorf("got %+v: %s, %v, %s", application, application.Environment(), application.IsApple(), application.EndpointPrefix())
			}
		})
	}
}

// withAmazon writes a configuration whose push provider is Amazon's, with these files of it, and returns its path.
func withAmazon(t *testing.T, apply func(*config.SNS), files map[string]string) string {
	t.Helper()
	c := sample()
	amazon(apply)(&c)
	set := sampleFiles(t).with(config.FileName, render(t, c))
	for name, text := range files {
		set = set.with(filepath.Join(config.PushFolder, "google", name), []byte(text))
	}
	return set.write(t, t.TempDir())
}

func TestLoadReadsWhatAmazonIsSignedInTo(t *testing.T) {
	t.Parallel()
	withKey := func(a *config.SNS) { a.RoleARN = "" }
	loaded, err := config.Load(withAmazon(t, withKey, map[string]string{
		config.SNSAccessKeyIDFile: "AKIAXXXXXXXXXXXXXXXX", config.SNSSecretAccessKeyFile: "swordfish",
	}))
	if err != nil {
		t.Fatal(err)
	}
	id := loaded.PushCredentials[config.PushCredential("google", config.SNSAccessKeyIDFile)]
	key := loaded.PushCredentials[config.PushCredential("google", config.SNSSecretAccessKeyFile)]
	if id.RevealString() != "AKIAXXXXXXXXXXXXXXXX" || key.RevealString() != "swordfish" || len(loaded.WebIdentityTokens) != 0 {
		t.Errorf("the access key is not the one in the files, or there is a token: %v", loaded.WebIdentityTokens)
	}

	path := withAmazon(t, func(*config.SNS) {}, map[string]string{config.SNSWebIdentityTokenFile: "a token"})
	if loaded, err = config.Load(path); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(filepath.Dir(path), config.PushFolder, "google", config.SNSWebIdentityTokenFile)
	if got := loaded.WebIdentityTokens["google"]; got != want {
		t.Errorf("the token is at %q, want %q", got, want)
	}

	_, err = config.Load(withAmazon(t, withKey, map[string]string{config.SNSAccessKeyIDFile: "AKIAXXXXXXXXXXXXXXXX"}))
	if err == nil || !strings.Contains(err.Error(), "want the secret access key of push provider google") {
		t.Errorf("without the secret half: %v", err)
	}
	if _, err = config.Load(withAmazon(t, func(*config.SNS) {}, nil)); err == nil || !strings.Contains(err.Error(), "service account") {
		t.Errorf("without a token: %v", err)
	}
}
