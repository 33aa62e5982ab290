package ewstest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

const (
	alice    = "alice@example.com"
	password = "alice's"

	nsSOAP     = "http://schemas.xmlsoap.org/soap/envelope/"
	nsMessages = "http://schemas.microsoft.com/exchange/services/2006/messages"
	nsTypes    = "http://schemas.microsoft.com/exchange/services/2006/types"
)

// start starts a server with Alice and Bob.
func start(t *testing.T, options ewstest.Options) *ewstest.Server {
	t.Helper()
	exchange := ewstest.StartT(t, options)
	exchange.AddMailbox(ewstest.Mailbox{Address: alice, Name: "Alice Adams", Password: password})
	exchange.AddMailbox(ewstest.Mailbox{Address: "bob@example.com", Password: "bob's"})
	return exchange
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// client is an HTTPS client that trusts the server and nothing more: no EWS knowledge of our own is in it.
func client(t *testing.T, exchange *ewstest.Server) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(exchange.CertificatePEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// envelope wraps a body's element in a request of the version; an empty version leaves the header out.
func envelope(version, body string) string {
	header := ""
	if version != "" {
		header = `<s:Header><t:RequestServerVersion Version="` + version + `"/></s:Header>`
	}
	return `<s:Envelope xmlns:s="` + nsSOAP + `" xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `">` + header +
		`<s:Body>` + body + `</s:Body></s:Envelope>`
}

// ask sends a request as Alice and returns status and content of the answer, quotes unescaped.
func ask(t *testing.T, exchange *ewstest.Server, content string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodPost, exchange.URL(), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(alice, password)
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	response, err := client(t, exchange).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, html.UnescapeString(string(body))
}

const inboxIDs = `<t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds>`

const allEvents = `<t:EventTypes><t:EventType>NewMailEvent</t:EventType><t:EventType>CreatedEvent</t:EventType>` +
	`<t:EventType>ModifiedEvent</t:EventType><t:EventType>MovedEvent</t:EventType><t:EventType>DeletedEvent</t:EventType></t:EventTypes>`

func subscribeBody(content string) string {
	return `<m:Subscribe><m:PushSubscriptionRequest>` + content + `</m:PushSubscriptionRequest></m:Subscribe>`
}

// subscribe subscribes Alice's Inbox with a status frequency of 15 minutes.
func subscribe(t *testing.T, exchange *ewstest.Server, url string) {
	t.Helper()
	status, answer := ask(t, exchange, envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+
		`<t:StatusFrequency>15</t:StatusFrequency><t:URL>`+url+`</t:URL>`)))
	if status != http.StatusOK || !strings.Contains(answer, "NoError") {
		t.Fatalf("Subscribe: %d %s", status, answer)
	}
}

// listener answers posts as handler says and is told of each body first.
func listener(t *testing.T, handler func(w http.ResponseWriter, number int)) (url string, bodies <-chan string) {
	t.Helper()
	received := make(chan string, 1000)
	number := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		number++ // posts of one subscription come one at a time
		received <- string(body)
		handler(w, number)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/listener", received
}

func answerOK(w http.ResponseWriter, _ int) { ews.WriteReply(w, ews.OK) }

// awaitCallback returns the first post that matches.
func awaitCallback(t *testing.T, exchange *ewstest.Server, match func(ewstest.Callback) bool) ewstest.Callback {
	t.Helper()
	callback, err := exchange.WaitCallback(testContext(t), match)
	if err != nil {
		t.Fatal(err)
	}
	return callback
}

func numbered(number int) func(ewstest.Callback) bool {
	return func(c ewstest.Callback) bool { return c.Number == number }
}
