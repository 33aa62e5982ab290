package fcm_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

const fcmError = `"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError"`

func TestEveryErrorHasItsOutcome(t *testing.T) {
	t.Parallel()
	invalid := func(message, details string) fcmtest.Fault {
		return fcmtest.Fault{Status: 400, Body: fmt.Sprintf(
			`{"error":{"code":400,"message":%q,"status":"INVALID_ARGUMENT","details":[{%s,"errorCode":"INVALID_ARGUMENT"}%s]}}`, message, fcmError, details)}
	}
	violation := func(field string) string {
		return `,{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"` + field + `","description":"the text of the mail"}]}`
	}
	pushtest.RunAnswers(t, "google", map[string]pushtest.Answer{
		"unregistered":             {Fault: fcmtest.Fault{Status: 404, Canonical: "NOT_FOUND", Code: "UNREGISTERED"}, Want: push.DeadToken, Reason: "UNREGISTERED"},
		"no such project":          {Fault: fcmtest.Fault{Status: 404, Canonical: "NOT_FOUND"}, Want: push.Misconfigured, Reason: "NOT_FOUND"},
		"another project's token":  {Fault: fcmtest.Fault{Status: 403, Canonical: "PERMISSION_DENIED", Code: "SENDER_ID_MISMATCH"}, Want: push.Misconfigured, Reason: "SENDER_ID_MISMATCH"},
		"no permission":            {Fault: fcmtest.Fault{Status: 403, Canonical: "PERMISSION_DENIED"}, Want: push.Misconfigured, Lasting: true, Reason: "PERMISSION_DENIED"},
		"third party":              {Fault: fcmtest.Fault{Status: 401, Canonical: "UNAUTHENTICATED", Code: "THIRD_PARTY_AUTH_ERROR"}, Want: push.Misconfigured, Lasting: true, Reason: "THIRD_PARTY_AUTH_ERROR"},
		"internal":                 {Fault: fcmtest.Fault{Status: 500, Canonical: "INTERNAL", Code: "INTERNAL"}, Want: push.Retry, Reason: "INTERNAL"},
		"unavailable":              {Fault: fcmtest.Fault{Status: 503, Canonical: "UNAVAILABLE", Code: "UNAVAILABLE"}, Want: push.Retry, Reason: "UNAVAILABLE"},
		"unspecified":              {Fault: fcmtest.Fault{Status: 500, Canonical: "INTERNAL", Code: "UNSPECIFIED_ERROR"}, Want: push.Retry, Reason: "UNSPECIFIED_ERROR"},
		"a token that is none":     {Fault: invalid("The registration token is not a valid FCM registration token", ""), Want: push.DeadToken, Reason: "INVALID_ARGUMENT"},
		"the token's field":        {Fault: invalid("Request contains an invalid argument.", violation("message.token")), Want: push.DeadToken, Reason: "INVALID_ARGUMENT"},
		"our payload":              {Fault: invalid("Invalid data payload key", violation("message.data")), Want: push.Rejected, Reason: "INVALID_ARGUMENT"},
		"our payload and a token":  {Fault: invalid("registration token and data", violation("message.data")), Want: push.Rejected, Reason: "INVALID_ARGUMENT"},
		"our payload, no details":  {Fault: invalid("Android message is too big", ""), Want: push.Rejected, Reason: "INVALID_ARGUMENT"},
		"not from FCM":             {Fault: fcmtest.Fault{Status: 400, Canonical: "INVALID_ARGUMENT"}, Want: push.Rejected, Reason: "INVALID_ARGUMENT"},
		"a proxy's page":           {Fault: fcmtest.Fault{Status: 407, Body: "<html>log in</html>"}, Want: push.Misconfigured},
		"a gateway's page":         {Fault: fcmtest.Fault{Status: 502, Body: "<html>bad gateway</html>"}, Want: push.Retry},
		"a success that is no FCM": {Fault: fcmtest.Fault{Status: 200, Body: "<html>welcome</html>"}, Want: push.Retry},
		"a redirect":               {Fault: fcmtest.Fault{Status: 302, Location: "https://evil.example/", Body: "{}"}, Want: push.Misconfigured},
		"a code that is a text":    {Fault: fcmtest.Fault{Status: 403, Canonical: "the text of the mail"}, Want: push.Misconfigured, Lasting: true},
	}, func(t *testing.T) pushtest.Scene {
		w := start(t, fcmtest.Options{Calm: true}, func(o *fcm.Options) { o.Timeout = 3 * time.Second })
		return pushtest.Scene{Provider: w, Phone: w.phone(), OnRequest: w.google.OnRequest, Log: w.log.String}
	})
}

func TestAQuotaSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ asked, want time.Duration }{
		"as Google says":                   {42 * time.Second, 42 * time.Second},
		"a minute if Google is silent":     {0, time.Minute},
		"a day at most, whatever it wants": {90 * 24 * time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, fcmtest.Options{Calm: true}, nil)
			w.google.FailNext(1, fcmtest.Fault{Status: 429, Canonical: "RESOURCE_EXHAUSTED", Code: "QUOTA_EXCEEDED", RetryAfter: test.asked})
			refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), w.phone(), pushtest.Mail()))
			if !ok || refusal.Outcome != push.Retry || refusal.RetryAfter != test.want {
				t.Errorf("refusal = %+v, want a retry after %s", refusal, test.want)
			}
		})
	}
}

func TestAQuotaIsTheDevicesOrTheProjects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		says      string
		oneDevice bool
	}{
		"the device's":  {"Device message rate exceeded.", true},
		"the project's": {"Message rate per minute exceeded.", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, fcmtest.Options{Calm: true}, nil)
			w.google.FailNext(1, fcmtest.Fault{Status: 429, Body: `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{` + fcmError + `,"errorCode":"QUOTA_EXCEEDED"},` +
				`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"x","description":"` + test.says + `"}]}]}}`})
			refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), w.phone(), pushtest.Mail()))
			if !ok || refusal.Outcome != push.Retry || refusal.OneDevice != test.oneDevice {
				t.Errorf("refusal = %+v, want a retry", refusal)
			}
		})
	}
}

func TestAnUnknownTokenIsDead(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{}, nil)
	d := w.phone()
	for name, token := range map[string]string{"unknown": d.Token + "x", "empty": ""} {
		d.Token = token
		if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.DeadToken {
			t.Errorf("%s: err = %v, want a dead token", name, err)
		}
	}
}

func TestARequestThatIsCutIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{Calm: true}, nil)
	d := w.phone()
	w.google.FailNext(1, fcmtest.Fault{Cut: true})
	w.push(t, d, pushtest.Mail())
	if got := len(w.google.Messages(d.Token)); got != 1 {
		t.Errorf("%d messages, want 1", got)
	}
}

func TestAServerThatIsNotThereIsARetryThatNamesTheCause(t *testing.T) {
	t.Parallel()
	w := start(t, fcmtest.Options{Calm: true}, func(o *fcm.Options) { o.Timeout = time.Second })
	d := w.phone()
	w.push(t, d, pushtest.Mail())
	w.google.Close()
	err := w.Push(t.Context(), d, pushtest.Mail())
	if push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
	pushtest.CheckDiscreet(t, err.Error()+w.log.String(), d, pushtest.Mail())
	t.Log(err)
}

func FuzzAnswer(f *testing.F) {
	f.Add(404, `{"error":{"code":404,"status":"NOT_FOUND","details":[{`+fcmError+`,"errorCode":"UNREGISTERED"}]}}`)
	f.Add(400, `{"error":{"message":"The registration token is not valid","details":[{`+fcmError+`,"errorCode":"INVALID_ARGUMENT"}]}}`)
	f.Add(400, `{"error":{"details":[{"@type":5,"fieldViolations":{}}]}}`)
	f.Add(403, "<html>")
	server := fcmtest.Start(fcmtest.Options{Calm: true, Logf: func(string, ...any) {}})
	f.Cleanup(server.Close)
	if err := server.TrustServiceAccount(account()); err != nil {
		f.Fatal(err)
	}
	o := options(new(bytes.Buffer))
	o.Config.URL, o.Config.TokenURL, o.RootCAs = server.URL(), server.TokenURL(), server.RootCAs()
	provider, err := fcm.New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = provider.Close() })
	d := push.Device{Platform: push.Android, Token: "fcm:1", AppID: appID}
	f.Fuzz(func(t *testing.T, status int, body string) {
		status = 400 + max(status, -status)%29
		server.OnRequest(func(fcmtest.Request) *fcmtest.Fault { return &fcmtest.Fault{Status: status, Body: body + " "} })
		refusal, ok := errors.AsType[*push.Error](provider.Push(t.Context(), d, pushtest.Mail()))
		switch {
		case !ok:
			t.Fatal("no refusal")
		case strings.Trim(refusal.Reason, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "":
			t.Fatalf("the reason is no code: %q", refusal.Reason)
		case refusal.Outcome == push.DeadToken && !strings.Contains(body, "FcmError"):
			t.Fatal("a device is given up without a word of FCM's own")
		}
	})
}
