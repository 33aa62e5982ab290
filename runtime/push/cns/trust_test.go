package cns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/cns"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func TestOneSignatureServesManyPushesButNotForEver(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(time.Now())
	// A signature by an elliptic key never comes twice.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, cnstest.Options{}, func(o *cns.Options, s *cnstest.Server) {
		o.Clock = clock
		o.Signing.Content = secret.New(s.Authority().PFXFor(key, "CN", password, time.Now().Add(time.Hour)))
	})
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.push(t, d, pushtest.Mail())
	if got := w.vmware.Stats().Signatures; got != 1 {
		t.Errorf("%d signatures for two pushes, want one", got)
	}
	clock.SetTime(clock.Now().Add(time.Minute))
	w.push(t, d, pushtest.Mail())
	if got := w.vmware.Stats().Signatures; got != 2 {
		t.Errorf("%d signatures after a minute, want another", got)
	}
}

func TestTrustIsAMatterOfTheAdministrator(t *testing.T) {
	t.Parallel()
	stranger := cnstest.NewAuthority()
	tests := map[string]struct {
		server  cnstest.Options
		change  func(*cns.Options, *cnstest.Server)
		outcome push.Outcome
		reason  string
	}{
		"a certificate that the service does not trust (2007)": {
			cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.Signing = file(stranger) }, push.Misconfigured, "SignerNotTrusted",
		},
		"one that has expired": {
			cnstest.Options{}, func(o *cns.Options, s *cnstest.Server) {
				o.Signing.Content = secret.New(s.Authority().PFX("old", password, time.Now().Add(-time.Hour)))
			}, push.Misconfigured, "SignerNotTrusted",
		},
		"an address that is not the service's": {
			cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.Config.URL += "2" }, push.Misconfigured, "",
		},
		"another pin": {
			cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.Config.PublicKeySHA256 = []string{strings.Repeat("0f", 32)} },
			push.Misconfigured, "PublicKeyNotPinned",
		},
		"one of several pins": {
			cnstest.Options{}, func(o *cns.Options, s *cnstest.Server) {
				o.Config.PublicKeySHA256 = []string{strings.Repeat("0f", 32), s.PublicKeySHA256()}
			}, 0, "",
		},
		"no pin": {cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.Config.PublicKeySHA256 = nil }, 0, ""},
		"a pin does not replace the authority": {
			cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) { o.RootCAs, o.Timeout = nil, time.Second }, push.Retry, "",
		},
		"mutual TLS with the certificate that signs": {
			cnstest.Options{MutualTLS: true}, func(o *cns.Options, _ *cnstest.Server) { o.Config.ClientCertificate = config.CNSClientSigning }, 0, "",
		},
		"mutual TLS with another certificate": {
			cnstest.Options{MutualTLS: true}, func(o *cns.Options, s *cnstest.Server) {
				o.Config.ClientCertificate, o.Client = config.CNSClientOwn, file(s.Authority())
			}, 0, "",
		},
		"mutual TLS with a stranger's": {
			cnstest.Options{MutualTLS: true}, func(o *cns.Options, _ *cnstest.Server) {
				o.Config.ClientCertificate, o.Client, o.Timeout = config.CNSClientOwn, file(stranger), time.Second
			}, push.Retry, "",
		},
		"mutual TLS without any": {
			cnstest.Options{MutualTLS: true}, func(o *cns.Options, _ *cnstest.Server) { o.Timeout = time.Second }, push.Retry, "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, test.server, test.change)
			d := w.phone()
			err := w.Push(t.Context(), d, pushtest.Mail())
			if push.OutcomeOf(err) != test.outcome {
				t.Fatalf("err = %v, want %s", err, test.outcome)
			}
			if refusal, ok := errors.AsType[*push.Error](err); ok {
				if refusal.Reason != test.reason {
					t.Errorf("reason = %q, want %q", refusal.Reason, test.reason)
				}
				pushtest.CheckDiscreet(t, err.Error(), d, pushtest.Mail())
			}
		})
	}
}
