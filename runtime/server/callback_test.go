package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// subscribed starts a tenant with one registered iPhone and returns its live subscription.
func subscribed(t *testing.T, o runtimetest.Options) (*runtimetest.Tenant, ewstest.Subscription) {
	t.Helper()
	x := runtimetest.New(t, o)
	x.Start(t)
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	return x, x.Exchange.Subscriptions()[0]
}

// heartbeat is the body of the subscription's first post.
func heartbeat(t *testing.T, x *runtimetest.Tenant, s ewstest.Subscription) []byte {
	t.Helper()
	for _, c := range x.Exchange.Callbacks() {
		if c.SubscriptionID == s.ID {
			return c.Body
		}
	}
	t.Fatal("there was no post")
	return nil
}

func TestForgedCallbacksAreAnsweredUnsubscribe(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	body := heartbeat(t, x, s)
	original, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	change := func(parameter, value string) string {
		values := original.Query()
		values.Set(parameter, value)
		return values.Encode()
	}
	flip := func(parameter string) string {
		text := []byte(original.Query().Get(parameter))
		text[0] = map[bool]byte{true: 'B', false: 'A'}[text[0] == 'A']
		return change(parameter, string(text))
	}
	tests := map[string]string{
		"no query":                  "",
		"another user's id":         change("id", "2"),
		"another generation":        change("g", "99"),
		"an altered f":              flip("f"),
		"an altered m":              change("m", "1.AAAAAAAAAAAAAAAAAAAAAA"),
		"no m":                      change("m", ""),
		"a NUL in id":               "id=1%00&g=1&f=AAAA&m=1.AAAAAAAAAAAAAAAAAAAAAA",
		"a number that is too long": change("id", strings.Repeat("9", 40)),
		"SQL":                       change("id", "1;DROP TABLE users"),
		"an overlong query":         change("f", strings.Repeat("A", 4000)),
		"semicolons":                "id=1;g=1;f=AAAA",
	}
	for name, query := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forged := *original
			forged.RawQuery = query
			if c := x.Exchange.Post(runtimetest.Context(t), forged.String(), body); c.Reply != "Unsubscribe" {
				t.Errorf("answered %d %q, want Unsubscribe: %v", c.Status, c.Reply, c.Err)
			}
		})
	}
	t.Cleanup(func() {
		if c := x.Exchange.Post(t.Context(), s.URL, body); c.Reply != "OK" && t.Context().Err() == nil {
			t.Errorf("after the forgeries the true URL is answered %d %q", c.Status, c.Reply)
		}
	})
}

func TestUnusableBodiesOfATrueURLAreRefusedAndEndNothing(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	body := string(heartbeat(t, x, s))
	tests := map[string]struct {
		body   string
		status int
	}{
		"empty":               {"", http.StatusBadRequest},
		"no XML":              {"hello", http.StatusBadRequest},
		"cut short":           {body[:len(body)/2], http.StatusBadRequest},
		"another SOAP body":   {`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a/></s:Body></s:Envelope>`, http.StatusBadRequest},
		"a DTD":               {`<!DOCTYPE a [<!ENTITY b "c">]>` + body[strings.Index(body, "?>")+2:], http.StatusBadRequest},
		"a deep tree":         {strings.Repeat("<a>", 100_000), http.StatusBadRequest},
		"larger than 4 MiB":   {strings.Repeat(" ", 5<<20), http.StatusRequestEntityTooLarge},
		"binary":              {"\x00\xff\xfe", http.StatusBadRequest},
		"a NUL in an element": {strings.Replace(body, "NoError", "No\x00Error", 1), http.StatusBadRequest},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := x.Exchange.Post(runtimetest.Context(t), s.URL, []byte(test.body))
			if c.Status != test.status || c.Reply != "" {
				t.Errorf("answered %d %q, want status %d", c.Status, c.Reply, test.status)
			}
			if c := x.Exchange.Post(runtimetest.Context(t), s.URL, []byte(body)); c.Reply != "OK" {
				t.Errorf("after it the true post is answered %d %q", c.Status, c.Reply)
			}
		})
	}
}

func TestAPostThatIsRepeatedTellsNothingTwice(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	item := deliver(t, x, lunch)
	ctx := runtimetest.Context(t)
	post, err := x.Exchange.WaitCallback(ctx, func(c ewstest.Callback) bool {
		return c.Reply == "OK" && strings.Contains(strings.Join(c.ItemIDs, " "), item)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.APNs.Wait(ctx, phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if c := x.Exchange.Post(ctx, post.URL, post.Body); c.Reply != "OK" {
			t.Fatalf("the repeated post is answered %d %q", c.Status, c.Reply)
		}
	}
	deliver(t, x, ewstest.Mail{FromName: "Carol"})
	runtimetest.Eventually(t, func() string {
		shown := alertsOf(x, phone)
		if len(shown) == 0 || shown[len(shown)-1] != "Carol" {
			return "the mail after the repeats was not shown"
		}
		if len(shown) != 2 {
			t.Fatalf("shown were %q, want one alert for each of two mails", shown)
		}
		return ""
	})
}

func TestAnOutdatedGenerationIsAnsweredUnsubscribeAndTheNewOneLives(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	old := x.Exchange.Subscriptions()[0]
	body := heartbeat(t, x, old)
	phone.Extra = map[string]any{"forceSubscription": true}
	runtimetest.MustRegister(t, phone, 7)
	if c := x.Exchange.Post(runtimetest.Context(t), old.URL, body); c.Reply != "Unsubscribe" {
		t.Errorf("the old subscription's post is answered %d %q", c.Status, c.Reply)
	}
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Error(err)
	}
}

func TestAMailThatOnlyTheOutdatedSubscriptionTellsOfIsTold(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"with its credential": false, "with the current one's, if its own is refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			old := x.Exchange.Subscriptions()[0]
			// From here on the test speaks for the old subscription. The mail comes before the new one is made.
			x.Exchange.EndSubscriptions(alice, "")
			item := deliver(t, x, lunch)
			phone.Extra = map[string]any{"forceSubscription": true}
			runtimetest.MustRegister(t, phone, 7)
			if refused {
				x.Schema.Exec(t, `UPDATE subscriptions SET refused_at = now() WHERE state = 'retired'`)
			}
			settled(t, x)
			body := post(old.ID, strings.Replace(mailThatIsGone, "AAMkGone=", item, 1))
			for range 2 {
				if c := x.Exchange.Post(runtimetest.Context(t), old.URL, body); c.Reply != "Unsubscribe" {
					t.Errorf("the old subscription's post is answered %d %q", c.Status, c.Reply)
				}
			}
			heartbeatUntil(t, x, func() bool { return len(alertsOf(x, phone)) > 0 })
			settled(t, x)
			if shown := alertsOf(x, phone); !slices.Equal(shown, []string{lunch.FromName}) {
				t.Errorf("shown are %q", shown)
			}
		})
	}
}

func TestASubscribeWhoseAnswerIsLostLosesNoMail(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	lost := make(chan struct{}, 1)
	lost <- struct{}{}
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation != "Subscribe" {
			return ewstest.Fault{}
		}
		select {
		case <-lost:
			return ewstest.Fault{LoseAnswer: true}
		default:
			return ewstest.Fault{}
		}
	})
	phone := x.Phone(alice, push.IOS)
	// A mail that arrives before the second attempt is posted to the lost subscription, when no device is attached yet.
	early := make(chan error, 1)
	go func() {
		_, err := x.Exchange.WaitSubscription(t.Context(), func(ewstest.Subscription) bool { return true })
		if err == nil {
			_, err = x.Exchange.Deliver(alice, ewstest.Mail{FromName: "Early Bird"})
		}
		early <- err
	}()
	runtimetest.MustRegister(t, phone, 7)
	if err := <-early; err != nil {
		t.Fatal(err)
	}
	if n := len(x.Exchange.Subscriptions()); n != 2 {
		t.Fatalf("Exchange has made %d subscriptions, want the lost one and the one after it", n)
	}
	// The lost one is ended by its next post, the other one tells the mail.
	x.Exchange.Heartbeat(alice)
	_, err := x.Exchange.WaitSubscription(runtimetest.Context(t), func(s ewstest.Subscription) bool { return s.Ended == ewstest.EndedByReply })
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, x, lunch)
	runtimetest.Eventually(t, func() string {
		x.Exchange.Heartbeat(alice)
		shown := alertsOf(x, phone)
		slices.Sort(shown)
		if !slices.Equal(shown, []string{lunch.FromName, "Early Bird"}) {
			return fmt.Sprintf("shown are %q", shown)
		}
		return ""
	})
}

func TestAPostForAUserWhoIsGoneIsAnsweredUnsubscribe(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	body := heartbeat(t, x, s)
	if _, err := x.Schema.Looking.Exec(t.Context(), `DELETE FROM users`); err != nil {
		t.Fatal(err)
	}
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, body); c.Reply != "Unsubscribe" {
		t.Errorf("answered %d %q, want Unsubscribe", c.Status, c.Reply)
	}
}

func TestAWrongKEKIsOurFaultAndEndsNoSubscription(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	body := heartbeat(t, x, s)
	// A replica with the same webhook key and another KEK of the same number.
	other := config.NewKeyFiles()
	x.Write(t, filepath.Join(config.KeysFolder, "kek-1"), other["kek-1"])
	broken := x.Launch(t)
	x.Front.Use(broken.Address)
	c := x.Exchange.Post(runtimetest.Context(t), s.URL, body)
	if c.Status != http.StatusServiceUnavailable {
		t.Errorf("answered %d %q, want 503", c.Status, c.Reply)
	}
	runtimetest.Eventually(t, func() string {
		response, err := http.Get("http://" + broken.Metrics + "/readyz")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		var text [512]byte
		n, _ := response.Body.Read(text[:])
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text[:n]), "KEK 1 differs") {
			return fmt.Sprintf("readiness says %d %s", response.StatusCode, text[:n])
		}
		return ""
	})
}

// A password is opened for the moment it is needed, and most posts need none.
func TestAHeartbeatOpensNoCredential(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	beat := heartbeat(t, x, s)
	ctx := runtimetest.Context(t)
	deliver(t, x, lunch)
	mail, err := x.Exchange.WaitCallback(ctx, func(c ewstest.Callback) bool { return c.Reply == "OK" && len(c.ItemIDs) > 0 })
	if err != nil {
		t.Fatal(err)
	}
	// A key that opens nothing, under the number of the KEK that there is.
	if _, err := x.Schema.Looking.Exec(ctx, `UPDATE subscriptions SET key_sealed = substring(key_sealed FOR 4) || sha256(key_sealed)`); err != nil {
		t.Fatal(err)
	}
	if c := x.Exchange.Post(ctx, s.URL, mail.Body); c.Status != http.StatusServiceUnavailable {
		t.Errorf("news of a mail are answered %d %q, though they need a credential", c.Status, c.Reply)
	}
	runtimetest.Eventually(t, func() string { // while somebody works for the user, it brings another credential
		if c := x.Exchange.Post(ctx, s.URL, beat); c.Reply != "OK" {
			return fmt.Sprintf("a heartbeat is answered %d %q", c.Status, c.Reply)
		}
		return ""
	})
}

func TestAnUnknownWebhookKeyIsOurFault(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	renamed := strings.Replace(s.URL, "m=1.", "m=7.", 1)
	if c := x.Exchange.Post(runtimetest.Context(t), renamed, heartbeat(t, x, s)); c.Status != http.StatusServiceUnavailable {
		t.Errorf("answered %d %q, want 503", c.Status, c.Reply)
	}
}

func TestTheListenerAnswersABrowser(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	for _, path := range []string{
		"/MailNotificationService/api/ens/pushnotificationlistener", "/mailnotificationservice/API/ens/PushNotificationListener/",
		"/api/ens/pushnotificationlistener", "/api/ens/alive", "/MAILNOTIFICATIONSERVICE/api/ens/Alive/",
	} {
		response, err := http.Get(x.Front.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered %s", path, response.Status)
		}
	}
}

func TestAnErrorPostEndsTheSubscriptionAndWakesThePhone(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	x.Exchange.EndSubscriptions(alice, "ErrorReadEventsFailed")
	runtimetest.Eventually(t, func() string {
		for _, n := range x.APNs.Notifications(phone.DeviceToken) {
			if n.PushType == "background" && n.APS.ContentAvailable == 1 {
				return ""
			}
		}
		return "no silent push woke the phone"
	})
	answer, err := phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusOK, 29, "")
	runtimetest.MustRegister(t, phone, 7)
}
