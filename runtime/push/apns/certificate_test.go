package apns_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const password = "s3cret"

// file is a certificate as administrators bring it.
func file(content []byte) pfx.File {
	return pfx.File{Content: secret.New(content), Password: secret.FromString(password + "\n")}
}

// with has a provider use a certificate.
func with(o *apns.Options, content []byte) {
	o.Config.Certificate, o.Config.TeamID, o.Config.KeyID = true, "", ""
	o.Key, o.Certificate = secret.Value{}, file(content)
}

// startWithCertificate starts Apple and a provider with a certificate of Apple's. Change may be nil.
func startWithCertificate(t *testing.T, apple apnstest.Options, change func(*apns.Options)) world {
	t.Helper()
	apple.Logf = quiet(t)
	server := apnstest.Start(apple)
	t.Cleanup(server.Close)
	return connect(t, server, apnstest.NewKey(), func(o *apns.Options) {
		with(o, server.PFX(apnstest.Certificate{Topics: []string{topic}, Production: true}, password))
		if change != nil {
			change(o)
		}
	})
}

func TestCertificatesOfAllAgesPush(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		certificate apnstest.Certificate
		environment config.PushEnvironment
	}{
		"one topic, as of old":            {apnstest.Certificate{Topics: []string{topic}, Production: true}, config.PushProduction},
		"one topic in the sandbox":        {apnstest.Certificate{Topics: []string{topic}, Sandbox: true}, config.PushSandbox},
		"several topics for production":   {apnstest.Certificate{Topics: []string{"com.example", topic, topic + ".voip"}, Production: true, Sandbox: true}, config.PushProduction},
		"several topics for the sandbox":  {apnstest.Certificate{Topics: []string{"com.example", topic}, Production: true, Sandbox: true}, config.PushSandbox},
		"one that names no environment":   {apnstest.Certificate{Topics: []string{topic}}, config.PushSandbox},
		"one whose environment is unsaid": {apnstest.Certificate{Topics: []string{topic}, Production: true}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := apnstest.Start(apnstest.Options{Calm: true, Logf: quiet(t), Sandbox: test.environment == config.PushSandbox})
			t.Cleanup(server.Close)
			w := connect(t, server, apnstest.NewKey(), func(o *apns.Options) {
				o.Config.Environment = test.environment
				with(o, server.PFX(test.certificate, password))
			})
			d := w.phone()
			w.push(t, d, pushtest.Mail())
			if got := w.last(t, d); got.Topic != topic {
				t.Errorf("the topic is %s", got.Topic)
			}
		})
	}
}

func TestACertificateThatAppleRefusesIsAMisconfiguration(t *testing.T) {
	t.Parallel()
	good := apnstest.Certificate{Topics: []string{topic}, Production: true}
	foreign := func(*apnstest.Server) []byte { return apnstest.ForeignPFX(good, password) }
	tests := map[string]struct {
		apple       apnstest.Options
		certificate func(*apnstest.Server) []byte
		reason      string
		requests    int
	}{
		"another authority's":               {apnstest.Options{}, foreign, "BadCertificate", 1},
		"another authority's, in handshake": {apnstest.Options{RefuseInHandshake: true}, foreign, "CertificateRefused", 0},
		"the other environment's": {apnstest.Options{Sandbox: true}, func(s *apnstest.Server) []byte {
			return s.PFX(good, password)
		}, "BadCertificateEnvironment", 1},
		"for no topic": {apnstest.Options{}, func(s *apnstest.Server) []byte {
			return s.PFX(apnstest.Certificate{Production: true}, password)
		}, "TopicDisallowed", 1},
		"expired": {apnstest.Options{}, func(s *apnstest.Server) []byte {
			return s.PFX(apnstest.Certificate{Topics: good.Topics, NotAfter: time.Now().Add(-time.Minute)}, password)
		}, "CertificateExpired", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.apple.Logf = quiet(t)
			server := apnstest.Start(test.apple)
			t.Cleanup(server.Close)
			w := connect(t, server, apnstest.NewKey(), func(o *apns.Options) { with(o, test.certificate(server)) })
			d := w.phone()
			err := w.Push(t.Context(), d, pushtest.Mail())
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != push.Misconfigured || refusal.Lasting != (test.reason != "TopicDisallowed") || refusal.Reason != test.reason {
				t.Errorf("err = %v, want a misconfiguration: %s", err, test.reason)
			}
			if got := server.Stats().Requests; got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			pushtest.CheckDiscreet(t, err.Error()+w.log.String(), d, pushtest.Mail())
		})
	}
}

func TestACertificateExpiresWhileItIsInUse(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	expires := clock.Now().Add(time.Hour)
	server := apnstest.Start(apnstest.Options{Logf: quiet(t), Clock: clock})
	t.Cleanup(server.Close)
	w := connect(t, server, apnstest.NewKey(), func(o *apns.Options) {
		o.Clock = clock
		with(o, server.PFX(apnstest.Certificate{Topics: []string{topic}, NotAfter: expires}, password))
	})
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	if got := w.NotAfter(); got.Sub(expires).Abs() >= time.Second {
		t.Errorf("it says that it expires at %s, want %s", got, expires)
	}
	clock.Step(time.Hour)
	if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("err = %v, want a misconfiguration", err)
	}
}

func TestATokenDoesNotExpire(t *testing.T) {
	t.Parallel()
	if got := start(t, apnstest.Options{}, nil).NotAfter(); !got.IsZero() {
		t.Errorf("it says that it expires at %s", got)
	}
}

func TestACertificateThatDoesNotServeIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	server := apnstest.Start(apnstest.Options{Logf: quiet(t)})
	t.Cleanup(server.Close)
	tests := map[string]struct {
		certificate apnstest.Certificate
		change      func(*apns.Options)
		says        string
	}{
		"another topic":    {apnstest.Certificate{Topics: []string{"com.example.other"}}, nil, "not for the topic com.example.mail but for com.example.other"},
		"other topics":     {apnstest.Certificate{Topics: []string{"a.a", "a.b", "a.c", "a.d", "a.e"}}, nil, "but for a.a, a.b, a.c, a.d, …"},
		"for the sandbox":  {apnstest.Certificate{Topics: []string{topic}, Sandbox: true}, nil, "sandbox environment alone"},
		"for production":   {apnstest.Certificate{Topics: []string{topic}, Production: true}, func(o *apns.Options) { o.Config.Environment = config.PushSandbox }, "production environment alone"},
		"another password": {apnstest.Certificate{}, func(o *apns.Options) { o.Certificate.Password = secret.FromString("swordfish") }, pfx.ErrPassword.Error()},
		"no certificate":   {apnstest.Certificate{}, func(o *apns.Options) { o.Certificate = pfx.File{} }, pfx.ErrWork.Error()},
		"not a topic":      {apnstest.Certificate{Topics: []string{"rm -rf /\n"}}, nil, "(one that is no app's id)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := apns.Options{
				Config:   config.APNs{Topics: []string{topic}},
				Settings: push.Settings{Name: "apple", Logger: slog.New(slog.DiscardHandler)},
			}
			with(&o, server.PFX(test.certificate, password))
			if test.change != nil {
				test.change(&o)
			}
			_, err := apns.New(o)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "apple") || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("err = %v, want one that says %q", err, test.says)
			}
		})
	}
}
