package sns_test

import (
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
	pushtest.RunAnswers(t, "amazon", map[string]pushtest.Answer{
		"throttled":                     {Action: publish, Fault: snstest.Fault{Status: 429, Code: "Throttled"}, Want: push.Retry, Reason: "Throttled"},
		"throttled, as of old":          {Action: publish, Fault: snstest.Fault{Status: 400, Code: "Throttling"}, Want: push.Retry, Reason: "Throttling"},
		"internal":                      {Action: publish, Fault: snstest.Fault{Status: 500, Code: "InternalError"}, Want: push.Retry, Reason: "InternalError"},
		"a permission is missing":       {Action: publish, Fault: snstest.Fault{Status: 403, Code: "AuthorizationError"}, Want: push.Misconfigured, Lasting: true, Reason: "AuthorizationError"},
		"a permission to create":        {Action: create, Fault: snstest.Fault{Status: 403, Code: "AuthorizationError"}, Want: push.Misconfigured, Lasting: true, Reason: "AuthorizationError"},
		"the application is disabled":   {Action: publish, Fault: snstest.Fault{Status: 400, Code: "PlatformApplicationDisabled"}, Want: push.Misconfigured, Lasting: true, Reason: "PlatformApplicationDisabled"},
		"the application is not there":  {Action: create, Fault: snstest.Fault{Status: 404, Code: "NotFound"}, Want: push.Misconfigured, Reason: "NotFound"},
		"the application is not one":    {Action: create, Fault: snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: PlatformApplicationArn Reason: x"}, Want: push.Misconfigured, Reason: "InvalidParameter"},
		"the token is none":             {Action: create, Fault: snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: Token Reason: iOS device tokens must be hexadecimal"}, Want: push.DeadToken, Reason: "InvalidParameter"},
		"the endpoint vanishes at once": {Action: publish, Fault: snstest.Fault{Status: 404, Code: "NotFound"}, Want: push.Retry, Reason: "NotFound"},
		"the endpoint stays disabled":   {Action: publish, Fault: snstest.Fault{Status: 400, Code: "EndpointDisabled"}, Want: push.Retry, Reason: "EndpointDisabled"},
		"our message":                   {Action: publish, Fault: snstest.Fault{Status: 400, Code: "InvalidParameter", Message: "Invalid parameter: Message Reason: the text of the mail"}, Want: push.Rejected, Reason: "InvalidParameter"},
		"our attributes":                {Action: publish, Fault: snstest.Fault{Status: 400, Code: "ParameterValueInvalid", Message: "the text of the mail"}, Want: push.Rejected, Reason: "ParameterValueInvalid"},
		"a code that is new":            {Action: publish, Fault: snstest.Fault{Status: 403, Code: "KMSOptInRequired"}, Want: push.Misconfigured, Lasting: true, Reason: "KMSOptInRequired"},
		"a code that is a text":         {Action: publish, Fault: snstest.Fault{Status: 403, Code: "the text of the mail"}, Want: push.Misconfigured, Lasting: true},
		"a proxy's page":                {Action: publish, Fault: snstest.Fault{Status: 407, Body: "<html>log in</html>"}, Want: push.Misconfigured},
		"a gateway's page":              {Action: publish, Fault: snstest.Fault{Status: 502, Body: "<html>bad gateway</html>"}, Want: push.Retry},
		"a success that is no SNS":      {Action: create, Fault: snstest.Fault{Status: 200, Body: "<html>welcome</html>"}, Want: push.Retry},
		"a redirect":                    {Action: publish, Fault: snstest.Fault{Status: 302, Location: "https://evil.example/", Body: "x"}, Want: push.Misconfigured},
	}, func(t *testing.T) pushtest.Scene {
		w := start(t, snstest.APNs, snstest.Options{Calm: true}, func(o *sns.Options) { o.Timeout = 3 * time.Second })
		return pushtest.Scene{Provider: w, Phone: w.phone(), OnRequest: w.amazon.OnRequest}
	})
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
