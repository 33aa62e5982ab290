package ews_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews"
)

// The requests byte for byte. Each body was found valid by the EWS schema (messages.xsd of Exchange 2013 SP1 or 2016);
// whoever changes one has to check it again.
var goldenRequests = map[string]struct {
	call func(ctx context.Context, session *ews.Session) error
	// newest is the endpoint's own ServerVersion.
	newest  config.ServerVersion
	version string
	body    string
}{
	"the user's own Inbox": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Inbox(ctx, "")
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="folder:UnreadCount"/>` +
			`</t:AdditionalProperties></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder>`,
	},
	"the Inbox of an address": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Inbox(ctx, `o'neil&"sons"<x>@example.com`)
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="folder:UnreadCount"/>` +
			`</t:AdditionalProperties></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>` +
			`o&#39;neil&amp;&#34;sons&#34;&lt;x&gt;@example.com</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></m:FolderIds></m:GetFolder>`,
	},
	"a name": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.ResolveNames(ctx, "alice")
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:ResolveNames ReturnFullContactData="true" SearchScope="ActiveDirectory" ContactDataShape="AllProperties">` +
			`<m:UnresolvedEntry>alice</m:UnresolvedEntry></m:ResolveNames>`,
	},
	"a subscription": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Subscribe(ctx, ews.SubscribeRequest{
				URL: "https://ens.example.com/api/ens/pushnotificationlistener?id=1&g=2&f=aGk_-&m=x", StatusFrequency: 15 * time.Minute,
			})
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:Subscribe><m:PushSubscriptionRequest><t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds><t:EventTypes>` +
			`<t:EventType>NewMailEvent</t:EventType><t:EventType>CreatedEvent</t:EventType><t:EventType>ModifiedEvent</t:EventType>` +
			`<t:EventType>MovedEvent</t:EventType><t:EventType>DeletedEvent</t:EventType><t:EventType>CopiedEvent</t:EventType></t:EventTypes>` +
			`<t:StatusFrequency>15</t:StatusFrequency><t:URL>https://ens.example.com/api/ens/pushnotificationlistener?id=1&amp;g=2&amp;f=aGk_-&amp;m=x</t:URL>` +
			`</m:PushSubscriptionRequest></m:Subscribe>`,
	},
	"items with everything": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Messages(ctx, []string{"AAMk+/1=", "AAMk2"}, ews.Fields{Sender: true, Subject: true, Preview: true})
			return err
		},
		version: "Exchange2013",
		body: `<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="item:ParentFolderId"/><t:FieldURI FieldURI="item:ItemClass"/>` +
			`<t:FieldURI FieldURI="item:DateTimeReceived"/><t:FieldURI FieldURI="message:IsRead"/><t:FieldURI FieldURI="item:Subject"/>` +
			`<t:FieldURI FieldURI="message:From"/><t:FieldURI FieldURI="message:Sender"/><t:FieldURI FieldURI="item:Preview"/>` +
			`</t:AdditionalProperties></m:ItemShape><m:ItemIds><t:ItemId Id="AAMk+/1="/><t:ItemId Id="AAMk2"/></m:ItemIds></m:GetItem>`,
	},
	"items with everything of a server that has no previews": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Messages(ctx, []string{"AAMk1"}, ews.Fields{Sender: true, Subject: true, Preview: true})
			return err
		},
		newest: config.Exchange2010SP2, version: "Exchange2010_SP2",
		body: `<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:BodyType>Text</t:BodyType><t:AdditionalProperties>` +
			`<t:FieldURI FieldURI="item:ParentFolderId"/><t:FieldURI FieldURI="item:ItemClass"/><t:FieldURI FieldURI="item:DateTimeReceived"/><t:FieldURI FieldURI="message:IsRead"/>` +
			`<t:FieldURI FieldURI="item:Subject"/><t:FieldURI FieldURI="message:From"/><t:FieldURI FieldURI="message:Sender"/>` +
			`<t:FieldURI FieldURI="item:Body"/></t:AdditionalProperties></m:ItemShape><m:ItemIds><t:ItemId Id="AAMk1"/></m:ItemIds></m:GetItem>`,
	},
	"what came last": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Newest(ctx, 100)
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:FindItem Traversal="Shallow"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="item:ParentFolderId"/>` +
			`<t:FieldURI FieldURI="item:DateTimeReceived"/><t:FieldURI FieldURI="message:IsRead"/></t:AdditionalProperties></m:ItemShape>` +
			`<m:IndexedPageItemView MaxEntriesReturned="100" Offset="0" BasePoint="Beginning"/>` +
			`<m:SortOrder><t:FieldOrder Order="Descending"><t:FieldURI FieldURI="item:DateTimeReceived"/></t:FieldOrder></m:SortOrder>` +
			`<m:ParentFolderIds><t:DistinguishedFolderId Id="inbox"/></m:ParentFolderIds></m:FindItem>`,
	},
	"a name for a server that knows no shapes of contacts": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.ResolveNames(ctx, "alice")
			return err
		},
		newest: config.Exchange2010SP1, version: "Exchange2010_SP1",
		body: `<m:ResolveNames ReturnFullContactData="true" SearchScope="ActiveDirectory"><m:UnresolvedEntry>alice</m:UnresolvedEntry></m:ResolveNames>`,
	},
	"an item without content": {
		call: func(ctx context.Context, s *ews.Session) error {
			_, err := s.Messages(ctx, []string{"AAMk1"}, ews.Fields{})
			return err
		},
		version: "Exchange2010_SP2",
		body: `<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="item:ParentFolderId"/><t:FieldURI FieldURI="item:ItemClass"/>` +
			`<t:FieldURI FieldURI="item:DateTimeReceived"/><t:FieldURI FieldURI="message:IsRead"/></t:AdditionalProperties></m:ItemShape>` +
			`<m:ItemIds><t:ItemId Id="AAMk1"/></m:ItemIds></m:GetItem>`,
	},
}

func TestRequestsAreByteForByteWhatTheSchemaWasAskedAbout(t *testing.T) {
	t.Parallel()
	for name, golden := range goldenRequests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var content []byte
			var header http.Header
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				content, _ = io.ReadAll(r.Body)
				header = r.Header
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			t.Cleanup(server.Close)
			if err := golden.call(testContext(t), sessionWith(t, server, func(e *config.Endpoint) { e.ServerVersion = golden.newest })); err == nil {
				t.Fatal("a 503 is no error")
			}
			want := `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="` + nsSOAP + `" xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `">` +
				`<soap:Header><t:RequestServerVersion Version="` + golden.version + `"/></soap:Header><soap:Body>` + golden.body + `</soap:Body></soap:Envelope>`
			if string(content) != want {
				t.Errorf("sent\n%s\nwant\n%s", content, want)
			}
			for name, want := range map[string]string{
				"Content-Type": "text/xml; charset=utf-8", "Accept": "text/xml", "Client-Request-Id": activityID,
				"Return-Client-Request-Id": "true", "Authorization": "Basic YWxpY2VAZXhhbXBsZS5jb206Y29ycmVjdCBob3JzZSDDvG7Dr2NvZGU=",
			} {
				if got := header.Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// sessionAt is a session of Alice with a server that is not Exchange.
func sessionAt(t testing.TB, server *httptest.Server) *ews.Session {
	t.Helper()
	return sessionWith(t, server, func(*config.Endpoint) {})
}

// sessionWith is sessionAt an endpoint that is configured in another way.
func sessionWith(t testing.TB, server *httptest.Server, change func(*config.Endpoint)) *ews.Session {
	t.Helper()
	endpoint := effectiveEndpoint(server.URL + "/EWS/Exchange.asmx")
	change(&endpoint)
	client, err := ews.NewClient(ews.Options{
		Endpoint: endpoint,
		TLS:      server.Client().Transport.(*http.Transport).TLSClientConfig,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client.Session(basic(alice, alicePassword), activityID)
}

func TestCallsThatExchangeWouldRefuseAreNotMade(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	t.Cleanup(server.Close)
	session, ctx := sessionAt(t, server), testContext(t)
	subscriptions := map[string]ews.SubscribeRequest{
		"a URL of 2,083 characters": {URL: "https://" + strings.Repeat("x", 2083-len("https://")), StatusFrequency: time.Minute},
		"no URL":                    {StatusFrequency: time.Minute},
		"no status frequency":       {URL: "https://x"},
		"more than a day":           {URL: "https://x", StatusFrequency: 1441 * time.Minute},
		"a part of a minute":        {URL: "https://x", StatusFrequency: 90 * time.Second},
	}
	for name, request := range subscriptions {
		if _, err := session.Subscribe(ctx, request); err == nil || ews.Transient(err) {
			t.Errorf("%s: error %v, want one that is not transient", name, err)
		}
	}
	if _, err := session.ResolveNames(ctx, ""); err == nil {
		t.Error("an empty name was resolved")
	}
	if messages, err := session.Messages(ctx, nil, ews.Fields{}); err != nil || messages != nil {
		t.Error("no items gave", messages, err)
	}
}

func TestRepliesToExchangeAreExact(t *testing.T) {
	t.Parallel()
	for status, want := range map[ews.SubscriptionStatus]string{
		ews.OK: `<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
			`<m:SendNotificationResult xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"><m:SubscriptionStatus>OK` +
			`</m:SubscriptionStatus></m:SendNotificationResult></s:Body></s:Envelope>`,
		ews.Unsubscribe: strings.Replace(ews.ReplyOK, ">OK<", ">Unsubscribe<", 1),
	} {
		recorder := httptest.NewRecorder()
		ews.WriteReply(recorder, status)
		response := recorder.Result()
		body := recorder.Body.String()
		if response.StatusCode != http.StatusOK || body != want || response.ContentLength != int64(len(want)) ||
			response.Header.Get("Content-Type") != "text/xml; charset=utf-8" {
			t.Errorf("reply %d with %v: %s", response.StatusCode, response.Header, body)
		}
	}
}
