package sns_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
)

func TestEveryErrorHasItsOutcome(t *testing.T) {
	t.Parallel()
	const create, publish = "CreatePlatformEndpoint", "Publish"
	tests := map[string]struct {
		action string
		fault  snstest.Fault
		want   push.Outcome
		reason string
	}{
		"throttled":                     {publish, snstest.Fault{Status: 429, Code: "Throttled"}, push.Retry, "Throttled"},
		"throttled, as of old":          {publish, snstest.Fault{Status: 400, Code: "Throttling"}, push.Retry, "Throttling"},
		"internal":                      {publish, snstest.Fault{Status: 500, Code: "InternalError"}, push.Retry, "InternalError"},
		"a permission is missing":       {publish, snstest.Fault{Status: 403, Code: "AuthorizationError"}, push.Misconfigured, "AuthorizationError"},
		"a permission to create":        {create, snstest.Fault{Status: 403, Code: "AuthorizationError"}, push.Misconfigured, "AuthorizationError"},
		"the application is disabled":   {publish, snstest.Fault{Status: 400, Code: "PlatformApplicationDisabled"}, push.Misconfigured, "PlatformApplicationDisabled"},
		"the application is not there":  {create, snstest.Fault{Status: 404, Code: "NotFound"}, push.Misconfigured, "NotFound"},
		"the application is not one":    {create, snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: PlatformApplicationArn Reason: x"}, push.Misconfigured, "InvalidParameter"},
		"the token is none":             {create, snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: Token Reason: iOS device tokens must be hexadecimal"}, push.DeadToken, "InvalidParameter"},
		"the endpoint vanishes at once": {publish, snstest.Fault{Status: 404, Code: "NotFound"}, push.Retry, "NotFound"},
		"the endpoint stays disabled":   {publish, snstest.Fault{Status: 400, Code: "EndpointDisabled"}, push.Retry, "EndpointDisabled"},
		"our message":                   {publish, snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: Message Reason: the text of the mail"}, push.Rejected, "InvalidParameter"},
		"our attributes":                {publish, snstest.Fault{Status: 400, Code: "ParameterValueInvalid", Message: "the text of the mail"}, push.Rejected, "ParameterValueInvalid"},
		"a code that is new":            {publish, snstest.Fault{Status: 403, Code: "KMSOptInRequired"}, push.Misconfigured, "KMSOptInRequired"},
		"a code that is a text":         {publish, snstest.Fault{Status: 403, Code: "the text of the mail"}, push.Misconfigured, ""},
		"a proxy's page":                {publish, snstest.Fault{Status: 407, Body: "<html>log in</html>"}, push.Misconfigured, ""},
		"a gateway's page":              {publish, snstest.Fault{Status: 502, Body: "<html>bad gateway</html>"}, push.Retry, ""},
		"a success that is no SNS":      {create, snstest.Fault{Status: 200, Body: "<html>welcome</html>"}, push.Retry, ""},
		"a redirect":                    {publish, snstest.Fault{Status: 302, Location: "https://evil.example/", Body: "x"}, push.Misconfigured, ""},
	}
	// Not subtests: much of the time goes into waiting before retries, and subtests in parallel are limited by cores.
	var checks sync.WaitGroup
	for name, test := range tests {
		w := start(t, snstest.APNs, snstest.Options{Calm: true}, func(o *sns.Options) { o.Timeout = 3 * time.Second })
		w.amazon.OnRequest(func(r snstest.Request) *snstest.Fault {
			if r.Action == test.action {
				return &test.fault
			}
			return nil
		})
		checks.Go(func() {
			d := w.phone()
			err := w.Push(t.Context(), d, pushtest.Mail())
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != test.want || refusal.Reason != test.reason || refusal.Provider != "amazon" {
				t.Errorf("%s: err = %#v, want %s %s", name, refusal, test.want, test.reason)
				return
			}
			if test.fault.Status != 200 && refusal.Status != test.fault.Status {
				t.Errorf("%s: status = %d, want %d", name, refusal.Status, test.fault.Status)
			}
			mail := pushtest.Mail()
			mail.Subtitle = "the text of the mail"
			pushtest.CheckDiscreet(t, err.Error(), d, mail)
		})
	}
	checks.Wait()
}

func TestAShortWaitThatIsAskedForIsTaken(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.APNs, snstest.Options{Calm: true}, nil)
	d := w.phone()
	w.amazon.FailNext(1, snstest.Fault{Status: 503, Code: "ServiceUnavailable", RetryAfter: time.Second})
	began := time.Now()
	w.push(t, d, pushtest.Mail())
	if took := time.Since(began); took < time.Second {
		t.Errorf("tried again after %s, want a second", took)
	}
}

func TestARequestThatIsCutIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := start(t, snstest.FCM, snstest.Options{Calm: true}, nil)
	d := w.phone()
	w.amazon.FailNext(1, snstest.Fault{Cut: true})
	w.push(t, d, pushtest.Mail())
	w.arrived(t, d, 1)
}
