package apns_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

// always fails every request, so that what is shown is what remains after the remedies.
func always(f apnstest.Fault) func(apnstest.Request) *apnstest.Fault {
	return func(apnstest.Request) *apnstest.Fault { return &f }
}

func TestEveryReasonHasItsOutcome(t *testing.T) {
	t.Parallel()
	const attempts = 4
	type row struct {
		status   int
		reason   string
		want     push.Outcome
		requests int
	}
	rows := []row{
		{400, "DeviceTokenNotForTopic", push.Misconfigured, 1},
		{400, "TopicDisallowed", push.Misconfigured, 1},
		{400, "BadTopic", push.Misconfigured, 1},
		{400, "MissingTopic", push.Misconfigured, 1},
		{400, "PayloadEmpty", push.Rejected, 1},
		{400, "BadPriority", push.Rejected, 1},
		{400, "BadExpirationDate", push.Rejected, 1},
		{400, "BadCollapseId", push.Rejected, 1},
		{400, "BadMessageId", push.Rejected, 1},
		{400, "InvalidPushType", push.Rejected, 1},
		{400, "DuplicateHeaders", push.Rejected, 1},
		{400, "MissingDeviceToken", push.Rejected, 1},
		{400, "IdleTimeout", push.Retry, attempts},
		{400, "SomethingNew", push.Rejected, 1},
		{403, "ExpiredProviderToken", push.Misconfigured, 1},
		{403, "InvalidProviderToken", push.Misconfigured, 1},
		{403, "MissingProviderToken", push.Misconfigured, 1},
		{403, "BadCertificate", push.Misconfigured, 1},
		{403, "BadCertificateEnvironment", push.Misconfigured, 1},
		{403, "Forbidden", push.Misconfigured, 1},
		{403, "SomethingNew", push.Misconfigured, 1},
		{404, "BadPath", push.Rejected, 1},
		{405, "MethodNotAllowed", push.Rejected, 1},
		{410, "Unregistered", push.DeadToken, 1},
		{410, "ExpiredToken", push.DeadToken, 1},
		{410, "", push.Misconfigured, 1},
		{413, "PayloadTooLarge", push.Rejected, 2},
		{429, "TooManyRequests", push.Retry, 1},
		{429, "TooManyProviderTokenUpdates", push.Retry, attempts},
		{500, "InternalServerError", push.Retry, attempts},
		{503, "ServiceUnavailable", push.Retry, attempts},
		{503, "Shutdown", push.Retry, attempts},
		{504, "", push.Retry, attempts},
		{302, "", push.Misconfigured, 1},
		{407, "", push.Misconfigured, 1},
	}
	// Not subtests: most of the time goes into waiting before retries, and subtests in parallel are limited by cores.
	var checks sync.WaitGroup
	for _, r := range rows {
		// The provider token is young, so that it is not renewed.
		w, _ := atTime(t, time.Minute)
		w.apple.OnRequest(always(apnstest.Fault{Status: r.status, Reason: r.reason}))
		checks.Go(func() {
			d := w.phone()
			err := w.Push(t.Context(), d, pushtest.Mail())
			refusal, ok := errors.AsType[*push.Error](err)
			if !ok || refusal.Outcome != r.want || refusal.Status != r.status || refusal.Reason != r.reason || refusal.Provider != "apple" {
				t.Errorf("%d %s: err = %v, want %s with the status and reason", r.status, r.reason, err, r.want)
			}
			if credential := r.status == 403 || r.status == 407; ok && refusal.Lasting != credential {
				t.Errorf("%d %s: lasting = %t, want %t", r.status, r.reason, refusal.Lasting, credential)
			}
			if got := w.apple.Stats().Requests; got != r.requests {
				t.Errorf("%d %s: %d requests, want %d", r.status, r.reason, got, r.requests)
			}
			pushtest.CheckDiscreet(t, err.Error()+w.log.String(), d, pushtest.Mail())
		})
	}
	checks.Wait()
}

func TestADeadTokenCarriesItsTime(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	died := time.UnixMilli(1_795_000_000_123)
	w.apple.Unregister(d.Token, died)
	refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), d, pushtest.Mail()))
	if !ok || !refusal.DeadSince.Equal(died) {
		t.Errorf("refusal = %+v, want the time %s", refusal, died)
	}
}

func TestABadDeviceTokenIsDeadOnlyAfterASuccessOfTheSameApp(t *testing.T) {
	t.Parallel()
	const other = "com.example.other"
	w := start(t, apnstest.Options{Calm: true}, func(o *apns.Options) { o.Config.Topics = []string{topic, other} })
	stranger := w.phone()
	stranger.Token = "00" + stranger.Token[2:]
	outcome := func() push.Outcome { return push.OutcomeOf(w.Push(t.Context(), stranger, pushtest.Mail())) }
	if got := outcome(); got != push.Misconfigured {
		t.Errorf("before any success: %s, want %s: it may be the wrong environment", got, push.Misconfigured)
	}
	elsewhere := w.phone()
	elsewhere.AppID = other
	w.apple.AddDevice(elsewhere.Token, other)
	w.push(t, elsewhere, pushtest.Mail())
	if got := outcome(); got != push.Misconfigured {
		t.Errorf("after a success of another app: %s, want %s", got, push.Misconfigured)
	}
	w.push(t, w.phone(), pushtest.Mail())
	if got := outcome(); got != push.DeadToken {
		t.Errorf("after a success: %s, want %s", got, push.DeadToken)
	}
}

func TestTooManyRequestsSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		asked time.Duration
		want  time.Duration
	}{
		"as Apple says":                    {asked: 42 * time.Second, want: 42 * time.Second},
		"some seconds if Apple is silent":  {want: 10 * time.Second},
		"a day at most, whatever it wants": {asked: 90 * 24 * time.Hour, want: 24 * time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, apnstest.Options{Calm: true}, nil)
			w.apple.FailNext(1, apnstest.Fault{Status: http.StatusTooManyRequests, Reason: "TooManyRequests", RetryAfter: test.asked})
			refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), w.phone(), pushtest.Mail()))
			if !ok || refusal.Outcome != push.Retry || refusal.RetryAfter != test.want {
				t.Errorf("refusal = %+v, want a retry after %s", refusal, test.want)
			}
		})
	}
}

func TestAnAnswerThatIsNotJSONKeepsItsStatus(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"a page": "<html>Forbidden by proxy</html>", "other JSON": `["reason"]`, "a number": `{"reason":5}`,
		"a sentence": `{"reason":"the token 12 34 is bad"}`, "nothing": " ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, apnstest.Options{Calm: true}, nil)
			w.apple.FailNext(1, apnstest.Fault{Status: 403, Body: body})
			refusal, ok := errors.AsType[*push.Error](w.Push(t.Context(), w.phone(), pushtest.Mail()))
			if !ok || refusal.Status != 403 || refusal.Outcome != push.Misconfigured || refusal.Reason != "" {
				t.Errorf("refusal = %+v, want the status and no reason", refusal)
			}
		})
	}
}

func TestAPayloadThatIsTooLargeForAppleIsCutOnceMore(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	mail := pushtest.Mail()
	for len(mail.Body) < push.MaxPayload {
		mail.Body += mail.Body
	}
	w.apple.FailNext(1, apnstest.Fault{Status: 413, Reason: "PayloadTooLarge"})
	w.push(t, d, mail)
	if got := len(w.last(t, d).Payload); got > push.MaxPayload/2 {
		t.Errorf("the payload has %d bytes, want at most half the limit", got)
	}
}

func TestAServerThatIsNotThereIsARetryThatNamesTheCause(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, func(o *apns.Options) { o.Timeout = 2 * time.Second })
	d := w.phone()
	w.apple.Close()
	err := w.Push(t.Context(), d, pushtest.Mail())
	if push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
	pushtest.CheckDiscreet(t, err.Error()+w.log.String(), d, pushtest.Mail())
	t.Log(err)
}

func TestAServerWhoseCertificateIsNotTrustedGetsNothing(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, func(o *apns.Options) { o.RootCAs, o.Timeout = nil, time.Second })
	if err := w.Push(t.Context(), w.phone(), pushtest.Mail()); push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
	if got := w.apple.Stats().Requests; got != 0 {
		t.Errorf("%d requests reached it", got)
	}
}

func TestAMalformedDeviceTokenNeverReachesTheNetwork(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	for name, token := range map[string]string{
		"empty": "", "short": "abcd", "a path": "../../../../../../../../../../../../../../../../etc/passwd00000000", "not hex": "zz" + w.phone().Token[2:],
	} {
		d := push.Device{Platform: push.IOS, Token: token, AppID: topic}
		if err := w.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.DeadToken {
			t.Errorf("%s: err = %v, want a dead token", name, err)
		}
	}
	if stats := w.apple.Stats(); stats.Connections != 0 {
		t.Errorf("stats = %+v, want no connection", stats)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(410, `{"reason":"Unregistered","timestamp":1795000000123}`)
	f.Add(410, `{"reason":"Unregistered","timestamp":-9223372036854775808}`)
	f.Add(400, `{"reason":5,"timestamp":"x"}`)
	f.Add(403, "<html>")
	f.Add(404, `{"reason":"\u0000"}`)
	server := apnstest.Start(apnstest.Options{Calm: true, Logf: func(string, ...any) {}})
	f.Cleanup(server.Close)
	o := options(server.NewKey())
	o.Config.URL, o.RootCAs = server.URL(), server.RootCAs()
	provider, err := apns.New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = provider.Close() })
	d := push.Device{Platform: push.IOS, Token: strings.Repeat("ab", 32), AppID: topic}
	f.Fuzz(func(t *testing.T, status int, body string) {
		// Only refusals that are final, so that no time goes into retries.
		status = 400 + max(status, -status)%29
		server.OnRequest(always(apnstest.Fault{Status: status, Body: body + " "}))
		refusal, ok := errors.AsType[*push.Error](provider.Push(t.Context(), d, pushtest.Mail()))
		switch {
		case !ok || refusal.Status != status:
			t.Fatalf("refusal = %+v, want the status %d", refusal, status)
		case strings.Trim(refusal.Reason, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "":
			t.Fatalf("the reason is no word: %q", refusal.Reason)
		case refusal.Outcome == push.DeadToken && refusal.Reason == "":
			t.Fatal("a device is given up without a reason of Apple's")
		}
	})
}
