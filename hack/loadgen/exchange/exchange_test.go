package exchange_test

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// what differs from server to server and mail to mail.
var particular = []struct {
	pattern *regexp.Regexp
	is      string
}{
	{regexp.MustCompile(` Id="[A-Za-z0-9+/=]+"`), ` Id=""`},
	{regexp.MustCompile(`ChangeKey="[A-Za-z0-9+/=]+"`), `ChangeKey=""`},
	{regexp.MustCompile(`Watermark>[A-Za-z0-9+/=]+<`), `Watermark><`},
	{regexp.MustCompile(`SubscriptionId>[A-Za-z0-9+/=]+<`), `SubscriptionId><`},
	{regexp.MustCompile(`TimeStamp>[0-9TZ:-]+<`), `TimeStamp><`},
}

func form(body []byte) string {
	text := string(body)
	for _, p := range particular {
		text = p.pattern.ReplaceAllString(text, p.is)
	}
	return text
}

// What is posted here is, but for ids and times, what the strict fake posts, which posts what was recorded.
func TestPostsAreThoseOfTheStrictFake(t *testing.T) {
	t.Parallel()
	tenant := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}})
	tenant.Start(t)
	const alice = "alice@example.com"
	phone := tenant.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	itemID, err := tenant.Exchange.Deliver(alice, ewstest.Mail{FromName: "Bob", FromAddress: "bob@example.com", Subject: "Lunch"})
	if err != nil {
		t.Fatal(err)
	}
	posted := func(event string) string {
		t.Helper()
		callback, err := tenant.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return slices.Contains(c.Events, event) })
		if err != nil {
			t.Fatal(err)
		}
		return form(callback.Body)
	}
	fresh := posted("NewMailEvent")
	if err := tenant.Exchange.MarkRead(itemID); err != nil {
		t.Fatal(err)
	}
	readElsewhere, err := tenant.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool {
		return slices.Contains(c.Events, "ModifiedEvent") && !slices.Contains(c.Events, "NewMailEvent")
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string]struct {
		post exchange.Post
		want string
	}{
		"a heartbeat":          {exchange.Post{Mailbox: 7, Kind: exchange.Heartbeat}, posted("StatusEvent")},
		"a new mail":           {exchange.Post{Mailbox: 7, Mail: 3, Kind: exchange.NewMail, Unread: 1}, fresh},
		"a mail that was read": {exchange.Post{Mailbox: 7, Mail: 3, Kind: exchange.Read}, form(readElsewhere.Body)},
	} {
		if got := form(pair.post.Append(nil)); got != pair.want {
			t.Errorf("%s is posted as\n%s\nwant\n%s", name, got, pair.want)
		}
	}
}

// It serves one user's mail to nobody else, and takes note of who asked.
func TestItRefusesWhatAMixUpWouldBring(t *testing.T) {
	t.Parallel()
	server, err := exchange.Start(exchange.Options{Mailboxes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	const alice, bob = exchange.Mailbox(1), exchange.Mailbox(2)
	getItem := func(id string) string {
		return `<m:GetItem><m:ItemIds><t:ItemId Id="` + id + `"/></m:ItemIds></m:GetItem>`
	}
	for name, c := range map[string]struct {
		user           exchange.Mailbox
		password, body string
		want           int
	}{
		"the user's own mail":               {alice, alice.Password(), getItem(alice.ItemID(5)), http.StatusOK},
		"another's mail":                    {alice, alice.Password(), getItem(bob.ItemID(5)), http.StatusInternalServerError},
		"a wrong password":                  {alice, bob.Password(), getItem(alice.ItemID(5)), http.StatusUnauthorized},
		"a user that is none of its":        {3, exchange.Mailbox(3).Password(), getItem(exchange.Mailbox(3).ItemID(5)), http.StatusInternalServerError},
		"an id that it has not made":        {alice, alice.Password(), getItem("AAMkAGE="), http.StatusInternalServerError},
		"an operation that nobody asks for": {alice, alice.Password(), `<m:DeleteItem/>`, http.StatusInternalServerError},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL(), strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(c.user.Address(), c.password)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s is answered %d, want %d", name, response.StatusCode, c.want)
		}
	}
	if answered, refused := server.Requests(); answered != 6 || refused != 5 || server.Problem() == "" {
		t.Errorf("%d requests, %d refused, problem %q; want 6 and 5, and one", answered, refused, server.Problem())
	}
}

// A webhook that answers anything but what Exchange accepts has not answered.
func TestOnlyAnAnswerThatExchangeAcceptsCounts(t *testing.T) {
	t.Parallel()
	const result = `<m:SendNotificationResult><m:SubscriptionStatus>%s</m:SubscriptionStatus></m:SendNotificationResult>`
	for name, c := range map[string]struct {
		status      int
		media, body string
		want        exchange.Reply
	}{
		"OK":                     {200, "text/xml; charset=utf-8", strings.Replace(result, "%s", "OK", 1), exchange.Reply{Status: 200, OK: true}},
		"Unsubscribe":            {200, "text/xml; charset=utf-8", strings.Replace(result, "%s", "Unsubscribe", 1), exchange.Reply{Status: 200, Unsubscribe: true}},
		"OK with another status": {503, "text/xml; charset=utf-8", strings.Replace(result, "%s", "OK", 1), exchange.Reply{Status: 503}},
		"OK as plain text":       {200, "text/plain", strings.Replace(result, "%s", "OK", 1), exchange.Reply{Status: 200}},
		"something else":         {200, "text/xml; charset=utf-8", strings.Replace(result, "%s", "Perhaps", 1), exchange.Reply{Status: 200}},
	} {
		address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.media)
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		connection := exchange.NewConnection(address)
		t.Cleanup(connection.Close)
		for range 2 { // the second goes over the same connection
			got, err := connection.Post("/x?f=secret", exchange.Post{Mailbox: 1, At: time.Unix(0, 0)})
			if err != nil || got != c.want {
				t.Errorf("%s is taken for %+v, %v; want %+v", name, got, err, c.want)
			}
		}
	}
}

func serve(t *testing.T, handler http.HandlerFunc) (address string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func TestAnItemIDTellsWhatItIsOf(t *testing.T) {
	t.Parallel()
	mailbox, mail, err := exchange.ParseItemID(exchange.Mailbox(77).ItemID(12345))
	if err != nil || mailbox != 77 || mail != 12345 {
		t.Errorf("got %d, %d, %v", mailbox, mail, err)
	}
	for _, foreign := range []string{"", "AAMk", exchange.Mailbox(77).InboxID(), exchange.Mailbox(77).ItemID(1) + "A", "x" + exchange.Mailbox(77).ItemID(1)} {
		if _, _, err := exchange.ParseItemID(foreign); err == nil {
			t.Errorf("%q was taken for an item's id", foreign)
		}
	}
}
