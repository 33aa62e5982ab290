package ews_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews"
)

const (
	nsSOAP     = "http://schemas.xmlsoap.org/soap/envelope/"
	nsMessages = "http://schemas.microsoft.com/exchange/services/2006/messages"
	nsTypes    = "http://schemas.microsoft.com/exchange/services/2006/types"
)

// The shapes that real servers were seen to send (ews.md, section 2).
var recordedPosts = map[string]string{
	"Exchange Online, prefix soap11": `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="` + nsSOAP + `"><soap11:Header>` +
		`<t:RequestServerVersion xmlns:m="` + nsMessages + `" Version="Exchange2010" xmlns:t="` + nsTypes + `" /></soap11:Header><soap11:Body>` +
		`<m:SendNotification xmlns:t="` + nsTypes + `" xmlns:m="` + nsMessages + `"><m:ResponseMessages>` +
		`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>` +
		`<t:SubscriptionId>GABtYWls+/=</t:SubscriptionId><t:PreviousWatermark>AQAAAE==</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>` +
		`<t:CreatedEvent><t:Watermark>AQ1=</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp><t:ItemId Id="AAMkItem1=" ChangeKey="CQ=="/>` +
		`<t:ParentFolderId Id="AAMkInbox=" ChangeKey="AQ=="/></t:CreatedEvent>` +
		`<t:NewMailEvent><t:Watermark>AQ2=</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp><t:ItemId Id="AAMkItem1=" ChangeKey="CQ=="/>` +
		`<t:ParentFolderId Id="AAMkInbox=" ChangeKey="AQ=="/></t:NewMailEvent>` +
		`<t:ModifiedEvent><t:Watermark>AQ3=</t:Watermark><t:TimeStamp>2026-11-21T10:00:01Z</t:TimeStamp><t:FolderId Id="AAMkInbox=" ChangeKey="AQ=="/>` +
		`<t:ParentFolderId Id="AAMkRoot=" ChangeKey="AQ=="/><t:UnreadCount>7</t:UnreadCount></t:ModifiedEvent>` +
		`</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>`,
	"Exchange 2007, prefix soap, header without prefix": `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="` + nsSOAP + `"><soap:Header>` +
		`<RequestServerVersion xmlns="` + nsMessages + `" Version="Exchange2007_SP1"/></soap:Header><soap:Body>` +
		`<SendNotification xmlns="` + nsMessages + `"><ResponseMessages><SendNotificationResponseMessage ResponseClass="Success">` +
		`<ResponseCode>NoError</ResponseCode><Notification><SubscriptionId xmlns="` + nsTypes + `">sub</SubscriptionId>` +
		`<StatusEvent xmlns="` + nsTypes + `"><Watermark>AQ=</Watermark></StatusEvent>` +
		`</Notification></SendNotificationResponseMessage></ResponseMessages></SendNotification></soap:Body></soap:Envelope>`,
	"prefix s, long forms, a move, a folder and an unknown event": `<s:Envelope xmlns:s="` + nsSOAP + `" xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `">
		<s:Body><m:SendNotification><m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass="Success">
		<m:ResponseCode>NoError</m:ResponseCode><m:Notification><t:SubscriptionId> sub </t:SubscriptionId>
		<t:MovedEvent><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp><t:ItemId Id="new" ChangeKey="c"></t:ItemId>
		<t:ParentFolderId Id="trash" ChangeKey="c"></t:ParentFolderId><t:OldItemId Id="old"></t:OldItemId><t:OldParentFolderId Id="inbox"></t:OldParentFolderId></t:MovedEvent>
		<t:FreeBusyChangedEvent><t:FolderId Id="calendar"></t:FolderId></t:FreeBusyChangedEvent>
		<t:ModifiedEvent><t:TimeStamp>yesterday</t:TimeStamp><t:FolderId Id="inbox"></t:FolderId><t:UnreadCount>-1</t:UnreadCount></t:ModifiedEvent>
		</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></s:Body></s:Envelope>`,
	"two response messages": `<s:Envelope xmlns:s="` + nsSOAP + `" xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `"><s:Body>` +
		`<m:SendNotification><m:ResponseMessages>` +
		`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>` +
		`<t:SubscriptionId>sub</t:SubscriptionId><t:MoreEvents>true</t:MoreEvents><t:DeletedEvent><t:ItemId Id="gone"/></t:DeletedEvent></m:Notification></m:SendNotificationResponseMessage>` +
		`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>` +
		`<t:SubscriptionId>sub</t:SubscriptionId><t:MoreEvents>false</t:MoreEvents><t:CopiedEvent><t:ItemId Id="copy"/><t:OldItemId Id="gone"/></t:CopiedEvent></m:Notification></m:SendNotificationResponseMessage>` +
		`</m:ResponseMessages></m:SendNotification></s:Body></s:Envelope>`,
	"events could not be read": `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="` + nsSOAP + `"><soap11:Header>` +
		`<t:RequestServerVersion xmlns:t="` + nsTypes + `" Version="Exchange2007_SP1"/></soap11:Header><soap11:Body>` +
		`<m:SendNotification xmlns:t="` + nsTypes + `" xmlns:m="` + nsMessages + `"><m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass="Error">` +
		`<m:MessageText>알림 이벤트를 읽지 못했습니다.</m:MessageText><m:ResponseCode>ErrorReadEventsFailed</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>` +
		`</m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>`,
}

func parseRecorded(t *testing.T, name string) ews.Notification {
	t.Helper()
	notification, err := ews.ParseNotification([]byte(recordedPosts[name]))
	if err != nil {
		t.Fatal(err)
	}
	return notification
}

func TestNewMailAsExchangeOnlineSendsItIsRead(t *testing.T) {
	t.Parallel()
	message := parseRecorded(t, "Exchange Online, prefix soap11").Messages[0]
	if message.ResponseClass != ews.ClassSuccess || message.ResponseCode != ews.NoError || message.MoreEvents ||
		message.SubscriptionID != "GABtYWls+/=" || message.PreviousWatermark != "AQAAAE==" || len(message.Events) != 3 {
		t.Fatalf("read %+v", message)
	}
	created := message.Events[0]
	want := ews.Event{
		Kind: ews.Created, ItemID: "AAMkItem1=", ParentFolderID: "AAMkInbox=",
		Timestamp: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
	}
	if created != want {
		t.Errorf("created event: %+v, want %+v", created, want)
	}
	if message.Events[1].Kind != ews.NewMail {
		t.Errorf("second event: %+v, want a new mail", message.Events[1])
	}
	folder := message.Events[2]
	if folder.Kind != ews.Modified || folder.FolderID != "AAMkInbox=" || folder.UnreadCount == nil || *folder.UnreadCount != 7 {
		t.Errorf("third event: %+v, want the modified Inbox with 7 unread", folder)
	}
}

func TestAHeartbeatWithoutPrefixesIsRead(t *testing.T) {
	t.Parallel()
	message := parseRecorded(t, "Exchange 2007, prefix soap, header without prefix").Messages[0]
	if message.SubscriptionID != "sub" || len(message.Events) != 1 || message.Events[0] != (ews.Event{Kind: ews.Status}) {
		t.Errorf("read %+v, want one status event", message)
	}
}

func TestAMoveIsReadAndUnknownEventsAndUnusableDetailsAreLeftOut(t *testing.T) {
	t.Parallel()
	events := parseRecorded(t, "prefix s, long forms, a move, a folder and an unknown event").Messages[0].Events
	if len(events) != 2 {
		t.Fatalf("read %d events, want the move and the folder: %+v", len(events), events)
	}
	move := events[0]
	if move.ItemID != "new" || move.OldItemID != "old" || move.ParentFolderID != "trash" || move.OldParentFolderID != "inbox" {
		t.Errorf("move: %+v", move)
	}
	if folder := events[1]; folder.UnreadCount != nil || !folder.Timestamp.IsZero() {
		t.Errorf("folder: %+v, want neither the negative count nor the odd time", folder)
	}
}

func TestSeveralMessagesInOnePostAreRead(t *testing.T) {
	t.Parallel()
	messages := parseRecorded(t, "two response messages").Messages
	if len(messages) != 2 || !messages[0].MoreEvents || messages[1].MoreEvents ||
		messages[0].Events[0].Kind != ews.Deleted || messages[1].Events[0].Kind != ews.Copied {
		t.Errorf("read %+v", messages)
	}
}

func TestAnErrorPostHasNeitherIDNorEvents(t *testing.T) {
	t.Parallel()
	message := parseRecorded(t, "events could not be read").Messages[0]
	if message.ResponseClass != ews.ClassError || message.ResponseCode != ews.ErrorReadEventsFailed ||
		message.SubscriptionID != "" || message.Events != nil {
		t.Errorf("read %+v", message)
	}
}

// post wraps the content of a Notification element.
func post(notification string) string {
	return `<s:Envelope xmlns:s="` + nsSOAP + `" xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `"><s:Body><m:SendNotification>` +
		`<m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>` +
		`<m:Notification>` + notification + `</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages>` +
		`</m:SendNotification></s:Body></s:Envelope>`
}

func TestMalformedPostsAreRefused(t *testing.T) {
	t.Parallel()
	const status = `<t:SubscriptionId>sub</t:SubscriptionId><t:StatusEvent/>`
	if _, err := ews.ParseNotification([]byte(post(status))); err != nil {
		t.Fatalf("the template of the cases is itself refused: %v", err)
	}
	cases := map[string]string{
		"nothing":                               ``,
		"no XML":                                `{"value":[]}`,
		"cut short":                             post(status)[:400],
		"a document type":                       `<!DOCTYPE x SYSTEM "http://192.0.2.1/x">` + post(status),
		"an entity of its own":                  `<!DOCTYPE x [<!ENTITY a "b">]>` + strings.Replace(post(status), ">sub<", ">&a;<", 1),
		"an unknown entity":                     strings.Replace(post(status), ">sub<", ">&nbsp;<", 1),
		"a processing instruction":              `<?xml-stylesheet href="x"?>` + post(status),
		"an XML declaration in the middle":      strings.Replace(post(status), "<t:StatusEvent/>", `<?xml version="1.0"?><t:StatusEvent/>`, 1),
		"two roots":                             post(status) + post(status),
		"text after the root":                   post(status) + "x",
		"a tree 65 deep":                        post(status + strings.Repeat("<t:a>", 60) + strings.Repeat("</t:a>", 60)),
		"a hundred thousand elements":           post(status + strings.Repeat("<t:a/>", 100_000)),
		"another root":                          `<m:SendNotification xmlns:m="` + nsMessages + `"/>`,
		"a SOAP 1.2 envelope":                   strings.Replace(post(status), nsSOAP, "http://www.w3.org/2003/05/soap-envelope", 1),
		"two bodies' content":                   strings.Replace(post(status), "<s:Body>", "<s:Body><m:x/>", 1),
		"another operation":                     strings.ReplaceAll(post(status), "SendNotification>", "GetItem>"),
		"the wrong namespace":                   strings.Replace(post(status), nsMessages, "https"+nsMessages[4:], 1),
		"no response message":                   strings.ReplaceAll(post(status), "SendNotificationResponseMessage", "Other"),
		"success without Notification":          strings.ReplaceAll(post(status), "m:Notification>", "m:Other>"),
		"no subscription id":                    post(`<t:StatusEvent/>`),
		"an empty subscription id":              post(`<t:SubscriptionId> </t:SubscriptionId>`),
		"a subscription id of 1,025 bytes":      post(`<t:SubscriptionId>` + strings.Repeat("a", 1025) + `</t:SubscriptionId>`),
		"a raw NUL in the subscription id":      post("<t:SubscriptionId>su\x00b</t:SubscriptionId>"),
		"an escaped NUL in the subscription id": post("<t:SubscriptionId>su&#0;b</t:SubscriptionId>"),
		"a line break in the subscription id":   post("<t:SubscriptionId>su\nb</t:SubscriptionId>"),
		"invalid UTF-8":                         post("<t:SubscriptionId>su\xffb</t:SubscriptionId>"),
		"an item id with a letter beyond ASCII": post(status + `<t:CreatedEvent><t:ItemId Id="ä"/></t:CreatedEvent>`),
		"an item id of 1,025 bytes":             post(status + `<t:CreatedEvent><t:ItemId Id="` + strings.Repeat("a", 1025) + `"/></t:CreatedEvent>`),
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			notification, err := ews.ParseNotification([]byte(body))
			if !errors.Is(err, ews.ErrMalformed) {
				t.Errorf("read %+v with error %v, want ErrMalformed", notification, err)
			}
		})
	}
}

func TestAByteOrderMarkIsNoFault(t *testing.T) {
	t.Parallel()
	if _, err := ews.ParseNotification([]byte("\xef\xbb\xbf" + recordedPosts["two response messages"])); err != nil {
		t.Error(err)
	}
}

func FuzzParseNotification(f *testing.F) {
	for _, body := range recordedPosts {
		f.Add([]byte(body))
	}
	f.Add([]byte(post(`<t:SubscriptionId>sub</t:SubscriptionId><t:StatusEvent/>`)))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		notification, err := ews.ParseNotification(body)
		checkAgainstEncodingXML(t, body, notification, err)
		if err != nil {
			if !errors.Is(err, ews.ErrMalformed) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		for _, message := range notification.Messages {
			checkStorable(t, message.SubscriptionID, message.PreviousWatermark)
			for _, event := range message.Events {
				checkStorable(t, event.ItemID, event.FolderID, event.ParentFolderID, event.OldItemID, event.OldParentFolderID)
				if event.UnreadCount != nil && *event.UnreadCount < 0 {
					t.Fatalf("a negative unread count")
				}
			}
		}
	})
}

// checkAgainstEncodingXML compares what was read with what is read if a comment follows, as it never does in a real post:
// that leaves it to encoding/xml.
func checkAgainstEncodingXML(t *testing.T, body []byte, read ews.Notification, err error) {
	t.Helper()
	want, wantErr := ews.ParseNotification(append(slices.Clip(body), "<!---->"...))
	if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(read, want) {
		t.Fatalf("read %+v with error %v,\nencoding/xml reads %+v with error %v", read, err, want, wantErr)
	}
}

// checkStorable checks what the journal relies on: ids of limited length in printable ASCII.
func checkStorable(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if len(id) > 1024 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("id %q was let through", id)
		}
	}
}
