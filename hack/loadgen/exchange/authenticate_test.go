package exchange_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-ntlmssp"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
)

const getInbox = `<m:GetFolder><t:DistinguishedFolderId Id="inbox"/></m:GetFolder>`

// ask sends a request over the client's connection.
func ask(t *testing.T, client *http.Client, server *exchange.Server, authorization, body string) (status int, header http.Header, content string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(read)
}

func startWith(t *testing.T, options exchange.Options) *exchange.Server {
	t.Helper()
	options.Mailboxes = 2
	server, err := exchange.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func TestATokenIsTakenFromItsUserWhileItHolds(t *testing.T) {
	t.Parallel()
	const alice, bob = exchange.Mailbox(1), exchange.Mailbox(2)
	now := time.Now()
	server := startWith(t, exchange.Options{Scheme: exchange.OAuth, Now: func() time.Time { return now }})
	other := startWith(t, exchange.Options{Scheme: exchange.OAuth})
	issue := func(from *exchange.Server, user exchange.Mailbox) string {
		token, _, err := from.IssueToken(user)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := issue(server, alice)
	payload := strings.Split(token, ".")[1]
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(alice.Address()+":"+alice.Password()))
	refused := int64(0)
	for _, c := range []struct {
		name, authorization, body string
		after                     time.Duration
		status                    int
		diagnostics               string
	}{
		{"the user's own", "Bearer " + token, getInbox, 0, 200, ""},
		{"the user's own for another's mail", "Bearer " + token, `<m:GetItem><t:ItemId Id="` + bob.ItemID(1) + `"/></m:GetItem>`, 0, 500, ""},
		{"another server's", "Bearer " + issue(other, alice), getInbox, 0, 401, "2000003"},
		{"one with other claims", "Bearer " + strings.Replace(issue(server, bob), ".", "."+payload+".", 1), getInbox, 0, 401, "2000003"},
		{"none", "", getInbox, 0, 401, ""},
		{"a password", basic, getInbox, 0, 401, ""},
		{"one that has ended", "Bearer " + token, getInbox, time.Hour + time.Second, 401, "2000002"},
	} {
		now = now.Add(c.after)
		status, header, _ := ask(t, server.Client(), server, c.authorization, c.body)
		if status != c.status || !strings.HasPrefix(header.Get("X-Ms-Diagnostics"), c.diagnostics) {
			t.Errorf("%s: answered %d, %q", c.name, status, header.Get("X-Ms-Diagnostics"))
		}
		if status == http.StatusUnauthorized && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: the challenge is %q", c.name, header.Get("WWW-Authenticate"))
		}
		if status != http.StatusOK {
			refused++
		}
		if _, got := server.Requests(); got != refused {
			t.Errorf("%s: %d requests count as refused, want %d", c.name, got, refused)
		}
	}
}

// begin begins a handshake over the client's connection and returns the end of it.
func begin(t *testing.T, client *http.Client, server *exchange.Server, user exchange.Mailbox, password string) (end string) {
	t.Helper()
	first, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		t.Fatal(err)
	}
	status, header, _ := ask(t, client, server, "NTLM "+base64.StdEncoding.EncodeToString(first), "")
	challenge, found := strings.CutPrefix(header.Get("WWW-Authenticate"), "NTLM ")
	decoded, err := base64.StdEncoding.DecodeString(challenge)
	if status != http.StatusUnauthorized || !found || err != nil {
		t.Fatalf("the first message is answered %d with %q: %v", status, challenge, err)
	}
	last, err := ntlmssp.NewAuthenticateMessage(decoded, user.Address(), password, nil)
	if err != nil {
		t.Fatal(err)
	}
	return "NTLM " + base64.StdEncoding.EncodeToString(last)
}

func TestAConnectionIsWhoseHandshakeItHadFirst(t *testing.T) {
	t.Parallel()
	const alice, bob = exchange.Mailbox(1), exchange.Mailbox(2)
	server := startWith(t, exchange.Options{Scheme: exchange.NTLM})
	refusedBy := func(what string, want int64) {
		t.Helper()
		if _, refused := server.Requests(); refused != want {
			t.Errorf("%s: %d requests were refused, want %d: %s", what, refused, want, server.Problem())
		}
	}
	first := server.Client()
	if status, _, _ := ask(t, first, server, begin(t, first, server, alice, alice.Password()), getInbox); status != http.StatusOK {
		t.Errorf("a handshake ends in %d", status)
	}
	// The credential of a later request is not looked at.
	for _, authorization := range []string{"", "NTLM " + base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x03\x00\x00\x00")), "Basic Ym9iOmI="} {
		if status, _, content := ask(t, first, server, authorization, getInbox); status != http.StatusOK || !strings.Contains(content, alice.InboxID()) {
			t.Errorf("%q on Alice's connection is answered %d", authorization, status)
		}
	}
	refusedBy("Alice", 0)
	getItem := `<m:GetItem><t:ItemId Id="` + bob.ItemID(1) + `"/></m:GetItem>`
	if status, _, _ := ask(t, first, server, "", getItem); status != http.StatusInternalServerError {
		t.Errorf("Bob's mail on Alice's connection is answered %d", status)
	}
	refusedBy("Bob's mail on Alice's connection", 1)
	second, third := server.Client(), server.Client()
	for i, c := range []struct {
		name          string
		client        *http.Client
		authorization string
	}{
		{"no credential", second, ""},
		{"a password", second, "Basic " + base64.StdEncoding.EncodeToString([]byte(bob.Address()+":"+bob.Password()))},
		{"a wrong password", second, begin(t, second, server, bob, alice.Password())},
		{"the end of a handshake on another connection", third, begin(t, second, server, bob, bob.Password())},
	} {
		if status, header, _ := ask(t, c.client, server, c.authorization, getInbox); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") != "NTLM" {
			t.Errorf("%s: answered %d, %q", c.name, status, header.Get("WWW-Authenticate"))
		}
		refusedBy(c.name, int64(2+i))
	}
}
