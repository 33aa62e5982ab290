package ewstest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

const (
	getInbox = `<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>` +
		`<m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder>`
	frequency = `<t:StatusFrequency>15</t:StatusFrequency>`
	hookURL   = `<t:URL>http://192.0.2.1/x</t:URL>`
)

// What a real Exchange refuses, and how. Bodies that are valid stand in TestRequestsThatExchangeTakes.
var refusedRequests = map[string]struct {
	content string
	status  int
	want    string
}{
	"StatusFrequency is missing (the documentation calls it optional, the schema does not)": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+hookURL)), 500, "ErrorSchemaValidation",
	},
	"StatusFrequency is 0": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+`<t:StatusFrequency>0</t:StatusFrequency>`+hookURL)), 500, "ErrorSchemaValidation",
	},
	"StatusFrequency is more than a day": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+`<t:StatusFrequency>1441</t:StatusFrequency>`+hookURL)), 500, "ErrorSchemaValidation",
	},
	"URL stands before StatusFrequency": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+hookURL+frequency)), 500, "has invalid child element 'URL'",
	},
	"EventTypes stand before FolderIds": {
		envelope("Exchange2010_SP2", subscribeBody(allEvents+inboxIDs+frequency+hookURL)), 500, "ErrorSchemaValidation",
	},
	"Watermark is in the messages namespace": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+`<m:Watermark>AQ==</m:Watermark>`+frequency+hookURL)), 500, "ErrorSchemaValidation",
	},
	"FolderIds is in the messages namespace": {
		envelope("Exchange2010_SP2", subscribeBody(strings.ReplaceAll(inboxIDs, "t:FolderIds", "m:FolderIds")+allEvents+frequency+hookURL)), 500, "ErrorSchemaValidation",
	},
	"a StatusEvent is subscribed": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+`<t:EventTypes><t:EventType>StatusEvent</t:EventType></t:EventTypes>`+frequency+hookURL)), 500, "ErrorSchemaValidation",
	},
	"no event is subscribed": {
		envelope("Exchange2010_SP2", subscribeBody(inboxIDs+`<t:EventTypes/>`+frequency+hookURL)), 500, "ErrorSchemaValidation",
	},
	"URL is missing":   {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency)), 500, "'URL' is expected"},
	"URL is empty":     {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL/>`)), 200, "ErrorInvalidPushSubscriptionUrl"},
	"URL is too long":  {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>https://x/`+strings.Repeat("a", 2073)+`</t:URL>`)), 200, "ErrorInvalidPushSubscriptionUrl"},
	"URL is not http":  {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>ftp://x/</t:URL>`)), 200, "ErrorInvalidPushSubscriptionUrl"},
	"URL has no host":  {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>/listener</t:URL>`)), 200, "ErrorInvalidPushSubscriptionUrl"},
	"no folder at all": {envelope("Exchange2010_SP2", subscribeBody(allEvents+frequency+hookURL)), 200, "ErrorInvalidSubscriptionRequest"},
	"all folders and one": {
		envelope("Exchange2010_SP2", strings.Replace(subscribeBody(inboxIDs+allEvents+frequency+hookURL), "Request>", `Request SubscribeToAllFolders="true">`, 1)), 200, "ErrorInvalidSubscriptionRequest",
	},
	"another user's Inbox": {
		envelope("Exchange2010_SP2", subscribeBody(`<t:FolderIds><t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>bob@example.com</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></t:FolderIds>`+allEvents+frequency+hookURL)), 200, "ErrorAccessDenied",
	},
	"the Inbox of a delegator": {
		envelope("Exchange2010_SP2", subscribeBody(`<t:FolderIds><t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>team@example.com</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></t:FolderIds>`+allEvents+frequency+hookURL)), 200, "ErrorSubscriptionDelegateAccessNotSupported",
	},
	"a folder nobody knows": {
		envelope("Exchange2010_SP2", strings.Replace(getInbox, `Id="inbox"`, `Id="postbox"`, 1)), 500, "the 'Id' attribute of 'DistinguishedFolderId' is invalid",
	},
	"a mailbox that is not there": {
		envelope("Exchange2010_SP2", strings.Replace(getInbox, `Id="inbox"/>`, `Id="inbox"><t:Mailbox><t:EmailAddress>x@example.com</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>`, 1)), 200, "ErrorNonExistentMailbox",
	},
	"a folder without shape": {envelope("Exchange2010_SP2", `<m:GetFolder><m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder>`), 500, "ErrorSchemaValidation"},
	"text between elements":  {envelope("Exchange2010_SP2", strings.Replace(getInbox, "<m:FolderIds>", "<m:FolderIds>x", 1)), 500, "cannot contain text"},
	"an unknown property":    {envelope("Exchange2010_SP2", getItem(`item:Priority`)), 500, "ErrorSchemaValidation"},
	"Preview before 2013":    {envelope("Exchange2010_SP2", getItem(`item:Preview`)), 500, "ErrorInvalidPropertyRequest"},
	"no item":                {envelope("Exchange2010_SP2", `<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds/></m:GetItem>`), 500, "ErrorSchemaValidation"},
	"an item without Id":     {envelope("Exchange2010_SP2", strings.Replace(getItem(`item:Subject`), ` Id="AAMk"`, ``, 1)), 500, "the required attribute 'Id'"},
	"an item that is gone":   {envelope("Exchange2010_SP2", getItem(`item:Subject`)), 200, "ErrorItemNotFound"},
	"properties before the base shape": {
		envelope("Exchange2010_SP2", `<m:GetItem><m:ItemShape><t:AdditionalProperties><t:FieldURI FieldURI="item:Subject"/></t:AdditionalProperties><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ItemIds><t:ItemId Id="AAMk"/></m:ItemIds></m:GetItem>`), 500, "ErrorSchemaValidation",
	},
	"a name without ReturnFullContactData": {envelope("Exchange2010_SP2", `<m:ResolveNames><m:UnresolvedEntry>a</m:UnresolvedEntry></m:ResolveNames>`), 500, "ErrorSchemaValidation"},
	"an empty name":                        {envelope("Exchange2010_SP2", `<m:ResolveNames ReturnFullContactData="true"><m:UnresolvedEntry/></m:ResolveNames>`), 500, "ErrorSchemaValidation"},
	"a contact shape before 2010 SP2": {
		envelope("Exchange2010", `<m:ResolveNames ReturnFullContactData="true" ContactDataShape="AllProperties"><m:UnresolvedEntry>a</m:UnresolvedEntry></m:ResolveNames>`), 500, "ErrorSchemaValidation",
	},
	"a name that is only a part":            {envelope("Exchange2010_SP2", `<m:ResolveNames ReturnFullContactData="true"><m:UnresolvedEntry>lice</m:UnresolvedEntry></m:ResolveNames>`), 200, "ErrorNameResolutionNoResults"},
	"a version nobody knows":                {envelope("Exchange2099", getInbox), 500, "ErrorInvalidServerVersion"},
	"a version newer than the server":       {envelope("Exchange2015", getInbox), 500, "ErrorInvalidServerVersion"},
	"an operation nobody knows":             {envelope("Exchange2010_SP2", `<m:GetCoffee/>`), 500, "ErrorInvalidRequest"},
	"an operation in the wrong namespace":   {envelope("Exchange2010_SP2", strings.ReplaceAll(getInbox, "m:GetFolder", "t:GetFolder")), 500, "ErrorInvalidRequest"},
	"a folder id that nobody has":           {envelope("Exchange2010_SP2", strings.Replace(getInbox, `<t:DistinguishedFolderId Id="inbox"/>`, `<t:FolderId Id="AAMk"/>`, 1)), 200, "ErrorItemNotFound"},
	"a folder that the mailbox lacks":       {envelope("Exchange2010_SP2", strings.Replace(getInbox, `"inbox"`, `"voicemail"`, 1)), 200, "ErrorFolderNotFound"},
	"StatusFrequency twice":                 {envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+frequency+hookURL)), 500, "has invalid child element 'StatusFrequency'"},
	"something that is not SOAP":            {`{"hello":1}`, 400, ""},
	"a namespace with https, as some pages": {envelope("Exchange2010_SP2", strings.Replace(getInbox, "<m:GetFolder", `<m:GetFolder xmlns:m="https`+nsMessages[4:]+`"`, 1)), 500, "ErrorInvalidRequest"},
}

func getItem(field string) string {
	return `<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI="` + field + `"/></t:AdditionalProperties></m:ItemShape>` +
		`<m:ItemIds><t:ItemId Id="AAMk"/></m:ItemIds></m:GetItem>`
}

func TestRequestsThatExchangeRefuses(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Version: "Exchange2013_SP1"})
	exchange.AddMailbox(ewstest.Mailbox{Address: "team@example.com", Password: "x", OpenTo: []string{alice}})
	for name, c := range refusedRequests {
		t.Run(name, func(t *testing.T) {
			status, answer := ask(t, exchange, c.content)
			if status != c.status || !strings.Contains(answer, c.want) {
				t.Errorf("answer %d, want %d with %q:\n%s", status, c.status, c.want, answer)
			}
		})
	}
	if subscriptions := exchange.Subscriptions(); len(subscriptions) != 0 {
		t.Errorf("%d subscriptions were made by refused requests", len(subscriptions))
	}
}

func TestRequestsThatExchangeTakes(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	for name, content := range map[string]string{
		"without version":  envelope("", getInbox),
		"with a watermark": envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+`<t:Watermark>AQ==</t:Watermark>`+frequency+`<t:URL>http://127.0.0.1:1/</t:URL>`)),
		"all folders":      envelope("Exchange2010_SP2", strings.Replace(subscribeBody(allEvents+frequency+`<t:URL>http://127.0.0.1:1/</t:URL>`), "Request>", `Request SubscribeToAllFolders="true">`, 1)),
		"a URL of 2,082":   envelope("Exchange2010_SP2", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>http://127.0.0.1:1/`+strings.Repeat("a", 2082-len("http://127.0.0.1:1/"))+`</t:URL>`)),
	} {
		t.Run(name, func(t *testing.T) {
			if status, answer := ask(t, exchange, content); status != http.StatusOK || !strings.Contains(answer, ">NoError<") {
				t.Errorf("answer %d: %s", status, answer)
			}
		})
	}
}

func TestRequestsThatDoNotGetAsFarAsEWS(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	hostOnly := strings.TrimSuffix(exchange.URL(), ewstest.Path)
	cases := map[string]struct {
		url, user, password, contentType string
		status                           int
	}{
		"the host alone":                  {hostOnly + "/", alice, password, "text/xml", 403},
		"another path":                    {hostOnly + "/ews", alice, password, "text/xml", 404},
		"the path in other letters":       {hostOnly + "/ews/exchange.ASMX", alice, password, "text/xml", 200},
		"a wrong password":                {exchange.URL(), alice, "bob's", "text/xml", 401},
		"an unknown user":                 {exchange.URL(), "eve@example.com", password, "text/xml", 401},
		"no user":                         {exchange.URL(), "", "", "text/xml", 401},
		"a content type that is not SOAP": {exchange.URL(), alice, password, "application/soap+xml", 415},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(testContext(t), http.MethodPost, c.url, strings.NewReader(envelope("Exchange2010", getInbox)))
			if err != nil {
				t.Fatal(err)
			}
			if c.user != "" {
				request.SetBasicAuth(c.user, c.password)
			}
			request.Header.Set("Content-Type", c.contentType)
			response, err := client(t, exchange).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != c.status {
				t.Errorf("status %d, want %d", response.StatusCode, c.status)
			}
			if challenged := len(response.Header.Values("WWW-Authenticate")) == 3; challenged != (c.status == 401) {
				t.Errorf("challenges: %q", response.Header.Values("WWW-Authenticate"))
			}
		})
	}
	if got := exchange.AuthFailures(alice); got != 1 {
		t.Errorf("%d failed logons of Alice, want 1", got)
	}
}

func TestAUserCanHaveSoManySubscriptionsAndNoMore(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{MaxSubscriptions: 2})
	url, _ := listener(t, answerOK)
	subscribe(t, exchange, url)
	subscribe(t, exchange, url)
	_, answer := ask(t, exchange, envelope("Exchange2010", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>`+url+`</t:URL>`)))
	if !strings.Contains(answer, "ErrorExceededSubscriptionCount") {
		t.Errorf("the third one: %s", answer)
	}
}
