package cns_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/cns"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func TestEveryAnswerHasItsOutcome(t *testing.T) {
	t.Parallel()
	pushtest.RunAnswers(t, "vmware", map[string]pushtest.Answer{
		"the signer is not trusted": {Fault: cnstest.Fault{Status: 401, Body: `{"code":2007,"message":"Unable to verify if the signer cert as trusted."}`}, Want: push.Misconfigured, Lasting: true, Reason: "SignerNotTrusted"},
		"another 401":               {Fault: cnstest.Fault{Status: 401, Body: `{"code":1000,"message":"the text of the mail"}`}, Want: push.Misconfigured, Lasting: true},
		"forbidden":                 {Fault: cnstest.Fault{Status: 403}, Want: push.Misconfigured, Lasting: true},
		"not found":                 {Fault: cnstest.Fault{Status: 404, Body: "<html>not found</html>"}, Want: push.Misconfigured},
		"our request":               {Fault: cnstest.Fault{Status: 400, Body: `{"status":"failure","errorReason":"BadRequest"}`}, Want: push.Rejected, Reason: "BadRequest"},
		"a failure of its own":      {Fault: cnstest.Fault{Status: 200, Body: `{"status":"failure","errorReason":"Timeout"}`}, Want: push.Retry, Reason: "Timeout"},
		"a reason that is a text":   {Fault: cnstest.Fault{Status: 200, Body: `{"status":"failure","errorReason":"the text of the mail"}`}, Want: push.Retry},
		"a dead token":              {Fault: cnstest.Fault{Status: 200, Body: `{"status":"failure","errorReason":"Unregistered"}`}, Want: push.DeadToken, Reason: "Unregistered"},
		"too much":                  {Fault: cnstest.Fault{Status: 429}, Want: push.Retry},
		"out of order":              {Fault: cnstest.Fault{Status: 503, Body: "<html>unavailable</html>"}, Want: push.Retry},
		"a success that is no CNS":  {Fault: cnstest.Fault{Status: 200, Body: "<html>welcome</html>"}, Want: push.Retry, Reason: "UnreadableAnswer"},
		"a success without words":   {Fault: cnstest.Fault{Status: 200, Body: "{}"}, Want: push.Retry},
		"a redirect":                {Fault: cnstest.Fault{Status: 302, Location: "https://evil.example/"}, Want: push.Misconfigured, Reason: "Redirected"},
	}, func(t *testing.T) pushtest.Scene {
		w := start(t, cnstest.Options{Calm: true}, func(o *cns.Options, _ *cnstest.Server) { o.Timeout = 3 * time.Second })
		return pushtest.Scene{Provider: w, Phone: w.phone(), OnRequest: w.vmware.OnRequest}
	})
}

func TestUnusableOptionsAreRefused(t *testing.T) {
	t.Parallel()
	good := file(cnstest.NewAuthority())
	tests := map[string]struct {
		change func(*cns.Options)
		want   error
		says   string
	}{
		"no certificate":        {func(o *cns.Options) { o.Signing.Content = secret.Value{} }, pfx.ErrWork, "the certificate that signs"},
		"another password":      {func(o *cns.Options) { o.Signing.Password = secret.FromString("x") }, pfx.ErrPassword, "the certificate that signs"},
		"no client certificate": {func(o *cns.Options) { o.Config.ClientCertificate = config.CNSClientOwn }, pfx.ErrWork, "the client certificate"},
		"plain http":            {func(o *cns.Options) { o.Config.URL = "http://cns.example.com/nws" }, nil, "url must be https://"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := cns.Options{Settings: push.Settings{Name: "vmware"}, Config: config.CNS{Platform: config.CNSPlatformIOS, URL: "https://cns.example.com/nws"}, Signing: good}
			test.change(&o)
			_, err := cns.New(o)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) ||
				!strings.Contains(err.Error(), "vmware") || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("err = %v, want %v about %s", err, test.want, test.says)
			}
		})
	}
}

func TestConnectionsAreMadeAsTheOptionsSay(t *testing.T) {
	t.Parallel()
	forbidden := errors.New("this address may not be reached")
	w := start(t, cnstest.Options{}, func(o *cns.Options, _ *cnstest.Server) {
		o.Timeout = time.Second
		o.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, forbidden }
	})
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); !errors.Is(err, forbidden) || push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry because of the dialer", err)
	}
}

func TestARequestThatIsCutIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := start(t, cnstest.Options{Calm: true}, nil)
	d := w.phone()
	w.vmware.FailNext(1, cnstest.Fault{Cut: true})
	w.push(t, d, pushtest.Mail())
	if got := len(w.vmware.Notifications(d.Token)); got != 1 {
		t.Errorf("%d notifications, want 1", got)
	}
}
