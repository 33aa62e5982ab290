package ews_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// servers are the versions that differ in something that we ask for, with the requests that two rounds of everything
// take: those of the first round are more while the server's version is found out.
var servers = map[string]struct {
	requests int
	alias    string
}{
	"Exchange2010_SP1": {requests: 2*4 + 2, alias: ""}, // 2010_SP2 is refused once, and 2013 needs no try of its own
	"Exchange2010_SP2": {requests: 2*4 + 1, alias: "alice"},
	"Exchange2013":     {requests: 2 * 4, alias: "alice"},
	"Exchange2016":     {requests: 2 * 4, alias: "alice"},
}

func TestEverythingWorksWithEveryVersionOfExchange(t *testing.T) {
	t.Parallel()
	for server, c := range servers {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			url, roots, _ := webhook(t)
			exchange := newExchange(t, ewstest.Options{Version: server, CallbackRoots: roots})
			session, ctx := aliceAt(t, exchange), testContext(t)
			body := "Dear Alice,\r\n\r\n\tsee you\u00a0at  <noon>?\r\n" + strings.Repeat("More. ", 100)
			id := deliver(t, exchange, alice, ewstest.Mail{FromName: "Bob", Subject: "Lunch", Preview: collapsed(body), Body: body})
			for range 2 {
				messages, err := session.Messages(ctx, []string{id}, ews.Fields{Sender: true, Subject: true, Preview: true})
				if err != nil {
					t.Fatal(err)
				}
				if m := messages[0]; m.Subject != "Lunch" || m.SenderName != "Bob" || m.Preview != collapsed(body)[:256] {
					t.Errorf("fetched %+v", m)
				}
				inbox, err := session.Inbox(ctx, "")
				if err != nil || inbox.ID != exchange.InboxID(alice) {
					t.Errorf("the Inbox is %+v, error %v", inbox, err)
				}
				resolutions, err := session.ResolveNames(ctx, "alice")
				if err != nil || len(resolutions) != 1 || resolutions[0].Alias != c.alias || !slices.Contains(resolutions[0].Addresses, alice) {
					t.Errorf("resolved %+v, error %v", resolutions, err)
				}
				if _, err := session.Subscribe(ctx, ews.SubscribeRequest{URL: url, StatusFrequency: 15 * time.Minute}); err != nil {
					t.Errorf("subscribing: %v", err)
				}
			}
			if got := len(exchange.Requests()); got != c.requests {
				t.Errorf("%d requests, want %d", got, c.requests)
			}
		})
	}
}

// collapsed is a text as item:Preview has it: words with one blank between them.
func collapsed(text string) string { return strings.Join(strings.Fields(text), " ") }

func TestAnEndpointsOwnVersionIsNeverExceeded(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{Version: "Exchange2010_SP1"})
	endpoint := effectiveEndpoint(exchange.URL())
	endpoint.ServerVersion = config.Exchange2010SP1
	session := newClient(t, ews.Options{Endpoint: endpoint, TLS: trust(exchange.CertificatePEM())}).Session(basic(alice, alicePassword), activityID)
	id := deliver(t, exchange, alice, ewstest.Mail{Body: "text"})
	messages, err := session.Messages(testContext(t), []string{id}, ews.Fields{Preview: true})
	if err != nil || messages[0].Preview != "text" || len(exchange.Requests()) != 1 {
		t.Errorf("fetched %+v with %d requests, error %v", messages, len(exchange.Requests()), err)
	}
}

func TestAnUpgradedServerIsFoundOutWithinTheHour(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := newExchange(t, ewstest.Options{Version: "Exchange2010_SP2"})
	client := newClient(t, ews.Options{Endpoint: effectiveEndpoint(exchange.URL()), TLS: trust(exchange.CertificatePEM()), Clock: clock})
	id := deliver(t, exchange, alice, ewstest.Mail{Preview: "text"})
	requests := 0
	for _, step := range []struct {
		wait time.Duration
		more int
	}{{0, 2}, {time.Hour - time.Second, 1}, {time.Second, 2}, {time.Minute, 1}} {
		clock.Step(step.wait)
		// Another session: it is the client that remembers.
		if _, err := client.Session(basic(alice, alicePassword), activityID).Messages(testContext(t), []string{id}, ews.Fields{Preview: true}); err != nil {
			t.Fatal(err)
		}
		requests += step.more
		if got := len(exchange.Requests()); got != requests {
			t.Fatalf("%d requests, want %d", got, requests)
		}
	}
}

func TestAServerThatIsTooOldIsAnErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{Version: "Exchange2010"})
	_, err := aliceAt(t, exchange).Inbox(testContext(t), "")
	wantError(t, err, nil, false, 0, "answered ErrorInvalidServerVersion to GetFolder at")
	if !strings.Contains(err.Error(), "older than Exchange 2010 SP1") || len(exchange.Requests()) != 2 {
		t.Errorf("after %d requests: %v", len(exchange.Requests()), err)
	}
}

func TestPreviewsOfOldServersAreCutAsNewServersCutThem(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{Version: "Exchange2010_SP2"})
	session := aliceAt(t, exchange)
	for name, c := range map[string]struct{ body, preview string }{
		"nothing":                           {" \r\n\t ", ""},
		"white space around":                {"\r\n a\r\n\r\nb \r\n", "a b"},
		"exactly 256":                       {strings.Repeat("a", 256), strings.Repeat("a", 256)},
		"one more":                          {strings.Repeat("a", 257), strings.Repeat("a", 256)},
		"a blank that is the last":          {strings.Repeat("a", 255) + " b", strings.Repeat("a", 255)},
		"a character of two units at 256":   {strings.Repeat("a", 255) + "😀b", strings.Repeat("a", 255)},
		"a character of two units till 256": {strings.Repeat("a", 254) + "😀b", strings.Repeat("a", 254) + "😀"},
	} {
		id := deliver(t, exchange, alice, ewstest.Mail{Body: c.body})
		messages, err := session.Messages(testContext(t), []string{id}, ews.Fields{Preview: true})
		if err != nil || messages[0].Preview != c.preview {
			t.Errorf("%s: %+v, error %v", name, messages, err)
		}
	}
}

func TestATextThatIsTooLongCostsThePreviewAndNothingElse(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{Version: "Exchange2010_SP2"})
	session := aliceAt(t, exchange)
	id := deliver(t, exchange, alice, ewstest.Mail{Subject: "all of it", Body: strings.Repeat("blah ", 1<<20)})
	messages, err := session.Messages(testContext(t), []string{id}, ews.Fields{Subject: true, Preview: true})
	if err != nil || !messages[0].Found || messages[0].Subject != "all of it" || messages[0].Preview != "" {
		t.Errorf("fetched %d messages, error %v", len(messages), err)
	}
}
