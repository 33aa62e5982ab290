package ews_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	alice         = "alice@example.com"
	alicePassword = "correct horse ünïcode"
	activityID    = "6fd9a3e0-3c0e-4d7a-9a51-3f1b0f1c2d3e"
)

// newExchange starts a fake with Alice, Alina and Bob.
func newExchange(t *testing.T, options ewstest.Options) *ewstest.Server {
	t.Helper()
	exchange := ewstest.StartT(t, options)
	exchange.AddMailbox(ewstest.Mailbox{
		Address: alice, OtherAddresses: []string{"a.adams@example.com"}, Name: "Alice Adams",
		Logins: []string{alice, `EXAMPLE\alice`}, Password: alicePassword,
	})
	exchange.AddMailbox(ewstest.Mailbox{Address: "alina@example.com", Name: "Alina Amber", Password: "alina's"})
	exchange.AddMailbox(ewstest.Mailbox{Address: "bob@example.com", Name: "Bob Baker", Password: "bob's"})
	return exchange
}

func effectiveEndpoint(url string) config.Endpoint {
	return config.Config{Endpoints: []config.Endpoint{{Name: "mail", URL: url}}}.Effective().Endpoints[0]
}

func trust(certificatePEM []byte) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificatePEM)
	return &tls.Config{RootCAs: roots}
}

func newClient(t *testing.T, options ews.Options) *ews.Client {
	t.Helper()
	client, err := ews.NewClient(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func basic(username, password string) credential.Credential {
	return credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(username), Password: secret.FromString(password),
	}
}

func oauth(token string) credential.Credential {
	return credential.Credential{AuthType: credential.OAuth, Token: secret.FromString(token)}
}

// aliceAt is a session of Alice with a client of its own.
func aliceAt(t *testing.T, exchange *ewstest.Server) *ews.Session {
	t.Helper()
	client := newClient(t, ews.Options{Endpoint: effectiveEndpoint(exchange.URL()), TLS: trust(exchange.CertificatePEM())})
	return client.Session(basic(alice, alicePassword), activityID)
}

// testContext ends before the test does, so that a wait for something that never comes says what it waited for.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// webhook is a listener that answers every post with OK and hands on what it read.
func webhook(t *testing.T) (url string, roots *x509.CertPool, posts <-chan ews.Notification) {
	t.Helper()
	received := make(chan ews.Notification, 100)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		notification, err := ews.ParseNotification(body)
		if err != nil {
			t.Errorf("a post of the fake was refused: %v", err)
			http.Error(w, "malformed", http.StatusBadRequest)
			return
		}
		received <- notification
		ews.WriteReply(w, ews.OK)
	}))
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL + "/pushnotificationlistener?id=1&g=2&f=<\"'>&m=x", roots, received
}

// seeds make the awkward choices differ; each test of the real exchange of messages runs with all of them.
var seeds = []uint64{1, 2, 3, 4, 5}

func TestMailArrivesThroughTheWholeExchangeOfMessages(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			url, roots, posts := webhook(t)
			exchange := newExchange(t, ewstest.Options{Seed: seed, CallbackRoots: roots})
			session, ctx := aliceAt(t, exchange), testContext(t)

			inbox, err := session.Inbox(ctx, "")
			if err != nil || inbox.ID != exchange.InboxID(alice) || inbox.UnreadCount != 0 {
				t.Fatalf("the Inbox is %+v, error %v", inbox, err)
			}
			id, err := session.Subscribe(ctx, ews.SubscribeRequest{URL: url, StatusFrequency: 15 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if got := exchange.Subscriptions(); len(got) != 1 || got[0].ID != id || got[0].URL != url || got[0].StatusFrequency != 15*time.Minute {
				t.Fatalf("the server has other subscriptions than ours: %d", len(got))
			}
			awaitEvent(ctx, t, posts, func(e ews.Event) bool { return e.Kind == ews.Status })

			itemID, err := exchange.Deliver(alice, ewstest.Mail{
				FromName: "Bob <& Co>", FromAddress: "bob@example.com", Subject: "Lunch & more", Preview: "At <noon>?",
			})
			if err != nil {
				t.Fatal(err)
			}
			awaitEvent(ctx, t, posts, func(e ews.Event) bool { return e.Kind == ews.NewMail && e.ItemID == itemID })
			messages, err := session.Messages(ctx, []string{itemID}, ews.Fields{Sender: true, Subject: true, Preview: true})
			if err != nil {
				t.Fatal(err)
			}
			got := messages[0]
			if got.ReceivedAt.IsZero() {
				t.Error("no time of receipt")
			}
			got.ReceivedAt = time.Time{}
			want := ews.Message{
				ItemID: itemID, Found: true, ParentFolderID: inbox.ID,
				SenderName: "Bob <& Co>", SenderAddress: "bob@example.com", Subject: "Lunch & more", Preview: "At <noon>?",
			}
			if got != want {
				t.Errorf("fetched %+v,\nwant %+v", got, want)
			}
		})
	}
}

func TestPostsOfEveryDialectAreReadAsEncodingXMLReadsThem(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			url, roots, posts := webhook(t)
			exchange := newExchange(t, ewstest.Options{Seed: seed, CallbackRoots: roots})
			ctx := testContext(t)
			if _, err := aliceAt(t, exchange).Subscribe(ctx, ews.SubscribeRequest{URL: url, StatusFrequency: 15 * time.Minute}); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				itemID := deliver(t, exchange, alice, ewstest.Mail{Subject: "x"})
				awaitEvent(ctx, t, posts, func(e ews.Event) bool { return e.Kind == ews.NewMail && e.ItemID == itemID })
			}
			for _, callback := range exchange.Callbacks() {
				notification, err := ews.ParseNotification(callback.Body)
				checkAgainstEncodingXML(t, callback.Body, notification, err)
			}
		})
	}
}

func awaitEvent(ctx context.Context, t *testing.T, posts <-chan ews.Notification, match func(ews.Event) bool) {
	t.Helper()
	for {
		select {
		case notification := <-posts:
			for _, message := range notification.Messages {
				if slices.ContainsFunc(message.Events, match) {
					return
				}
			}
		case <-ctx.Done():
			t.Fatal("the event did not come")
		}
	}
}

func deliver(t *testing.T, exchange *ewstest.Server, address string, mail ewstest.Mail) (itemID string) {
	t.Helper()
	id, err := exchange.Deliver(address, mail)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSeveralItemsAreFetchedInOneCallInOrder(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	first := deliver(t, exchange, alice, ewstest.Mail{Subject: "first"})
	gone := deliver(t, exchange, alice, ewstest.Mail{Subject: "gone"})
	foreign := deliver(t, exchange, "bob@example.com", ewstest.Mail{Subject: "not yours"})
	read := deliver(t, exchange, alice, ewstest.Mail{Subject: "read"})
	if _, err := exchange.Delete(gone); err != nil {
		t.Fatal(err)
	}
	if err := exchange.MarkRead(read); err != nil {
		t.Fatal(err)
	}

	ids := []string{read, gone, foreign, first}
	messages, err := aliceAt(t, exchange).Messages(testContext(t), ids, ews.Fields{Subject: true})
	if err != nil || len(messages) != len(ids) {
		t.Fatalf("%d messages, error %v", len(messages), err)
	}
	for i, want := range []ews.Message{
		{Found: true, Subject: "read", IsRead: true},
		{},
		{},
		{Found: true, Subject: "first"},
	} {
		got := messages[i]
		if got.ItemID != ids[i] || got.Found != want.Found || got.Subject != want.Subject || got.IsRead != want.IsRead {
			t.Errorf("message %d: %+v, want %+v", i, got, want)
		}
		if failed := got.Err != nil; failed != (ids[i] == foreign) {
			t.Errorf("message %d: error %v; only another user's mail is one", i, got.Err)
		}
	}
	if requests := exchange.Requests(); len(requests) != 1 {
		t.Errorf("%d requests for four items, want 1", len(requests))
	}
}

func TestSendersAreFoundInAnyKindOfItem(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	for name, c := range map[string]struct {
		mail          ewstest.Mail
		name, address string
	}{
		"a mail without From":             {ewstest.Mail{NoFrom: true, FromName: "Delegate", FromAddress: "d@example.com"}, "Delegate", "d@example.com"},
		"a meeting request from Exchange": {ewstest.Mail{Element: "MeetingRequest", FromName: "Boss", FromAddress: "/o=x/cn=boss", RoutingType: "EX"}, "Boss", ""},
		"a mail from nobody":              {ewstest.Mail{}, "", ""},
	} {
		id := deliver(t, exchange, alice, c.mail)
		messages, err := aliceAt(t, exchange).Messages(testContext(t), []string{id}, ews.Fields{Sender: true})
		if err != nil || !messages[0].Found || messages[0].SenderName != c.name || messages[0].SenderAddress != c.address {
			t.Errorf("%s: %+v, error %v", name, messages, err)
		}
	}
}

func TestOnlyTheFieldsAskedForAreFetched(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	id, err := exchange.Deliver(alice, ewstest.Mail{FromName: "Bob", Subject: "secret", Preview: "very"})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := aliceAt(t, exchange).Messages(testContext(t), []string{id}, ews.Fields{})
	if err != nil {
		t.Fatal(err)
	}
	if m := messages[0]; !m.Found || m.Subject != "" || m.Preview != "" || m.SenderName != "" {
		t.Errorf("fetched %+v, want no content", m)
	}
}

func TestNamesAreResolvedWithAllTheirMatches(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	session, ctx := aliceAt(t, exchange), testContext(t)
	cases := map[string][]string{ // name to look up: primary addresses found
		"ali":                      {alice, "alina@example.com"},
		"alice":                    {alice},
		"smtp:a.adams@example.com": {alice},
		"a.adams@example.com":      nil,
		"nobody & co":              nil,
	}
	for name, want := range cases {
		resolutions, err := session.ResolveNames(ctx, name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
		var got []string
		for _, resolution := range resolutions {
			got = append(got, resolution.EmailAddress)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q found %q, want %q", name, got, want)
		}
	}
	resolutions, err := session.ResolveNames(ctx, "alice")
	if err != nil || len(resolutions) != 1 {
		t.Fatal(resolutions, err)
	}
	got := resolutions[0]
	if got.Name != "Alice Adams" || got.RoutingType != "SMTP" || got.Alias != "alice" ||
		!slices.Equal(got.Addresses, []string{alice, "a.adams@example.com"}) {
		t.Errorf("resolved %+v", got)
	}
}

func TestTheInboxOfAnotherMailboxNeedsTheRight(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	exchange.AddMailbox(ewstest.Mailbox{Address: "team@example.com", Password: "x", OpenTo: []string{alice}})
	session, ctx := aliceAt(t, exchange), testContext(t)
	for _, address := range []string{alice, "A.Adams@Example.com", "team@example.com"} {
		inbox, err := session.Inbox(ctx, address)
		if err != nil || inbox.ID != exchange.InboxID(address) {
			t.Errorf("%s: %+v, error %v", address, inbox, err)
		}
	}
}

func TestRequestsCarryWhatExchangeAndItsAdministratorsNeed(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	session, ctx := aliceAt(t, exchange), testContext(t)
	for range 2 {
		if _, err := session.Inbox(ctx, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, request := range exchange.Requests() {
		if request.ClientRequestID != activityID || request.HadCookie ||
			request.UserAgent != "MailNotificationService/v2 (ExchangeServicesClient/15.00.0913.015)" {
			t.Errorf("request: %+v", request)
		}
	}
}

func TestNoLogHoldsAnythingSecret(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	exchange := newExchange(t, ewstest.Options{})
	client := newClient(t, ews.Options{
		Endpoint: effectiveEndpoint(exchange.URL()), TLS: trust(exchange.CertificatePEM()),
		Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx := testContext(t)
	session := client.Session(basic(alice, alicePassword), activityID)
	_, err1 := session.Inbox(ctx, "bob@example.com")
	_, err2 := session.Subscribe(ctx, ews.SubscribeRequest{URL: "ftp://hook.example.com/?f=sealed", StatusFrequency: time.Minute})
	_, err3 := client.Session(basic(alice, "wrong"), activityID).Inbox(ctx, alice)
	if err1 == nil || err2 == nil || err3 == nil {
		t.Fatal("a call succeeded that must fail", err1, err2, err3)
	}
	text := out.String() + fmt.Sprintf("%v %+v %v %v %v", err1, err1, err2, err3, session)
	if !strings.Contains(text, activityID) {
		t.Error("the log does not hold the activity id")
	}
	for _, word := range []string{"alice", "bob", "horse", "wrong", "sealed", "hook.example", "Vorgang"} {
		if strings.Contains(strings.ReplaceAll(text, "the user name or password is wrong", ""), word) {
			t.Errorf("%q is in the log or an error: %s", word, text)
		}
	}
}
