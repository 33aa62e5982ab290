package ews

import (
	"net/http"
	"strings"
	"testing"
)

// The hot messages, as Exchange 2016 writes them: ids are as long as real ones, nothing is between tags.
var (
	sampleID = "AAMkAGI1" + strings.Repeat("Y2ZkNjc4LTVhMzUtNGE0", 7) + "AAA="

	sampleHeartbeat = samplePost(`<t:StatusEvent><t:Watermark>AQAAAExYVWVlUkVTRUFhT3c9PQ==</t:Watermark></t:StatusEvent>`)
	sampleNewMail   = samplePost(sampleEvent("CreatedEvent", "ItemId", "") + sampleEvent("NewMailEvent", "ItemId", "") +
		sampleEvent("ModifiedEvent", "FolderId", `<t:UnreadCount>7</t:UnreadCount>`))
	sampleItem = `<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>` +
		`<h:ServerVersionInfo MajorVersion="15" MinorVersion="1" MajorBuildNumber="2507" MinorBuildNumber="6" Version="V2017_07_11"` +
		` xmlns:h="http://schemas.microsoft.com/exchange/services/2006/types" xmlns="http://schemas.microsoft.com/exchange/services/2006/types"` +
		` xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/></s:Header>` +
		`<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">` +
		`<m:GetItemResponse xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">` +
		`<m:ResponseMessages><m:GetItemResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Items><t:Message>` +
		`<t:ItemId Id="` + sampleID + `" ChangeKey="CQAAABYAAAB1"/><t:ParentFolderId Id="` + sampleID + `" ChangeKey="AQAAAA=="/>` +
		`<t:ItemClass>IPM.Note</t:ItemClass><t:Subject>Lunch &amp; more</t:Subject><t:DateTimeReceived>2026-11-21T10:00:00Z</t:DateTimeReceived>` +
		`<t:Preview>Shall we meet at noon? The table is booked for four, and there is a garden.&#xD;
See &lt;https://example.com/table&gt;</t:Preview>` +
		sampleMailbox("Sender") + sampleMailbox("From") + `<t:IsRead>false</t:IsRead></t:Message></m:Items>` +
		`</m:GetItemResponseMessage></m:ResponseMessages></m:GetItemResponse></s:Body></s:Envelope>`
)

func samplePost(events string) string {
	return `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Header>` +
		`<t:RequestServerVersion xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" Version="Exchange2010_SP2"` +
		` xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" /></soap11:Header><soap11:Body>` +
		`<m:SendNotification xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">` +
		`<m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification>` +
		`<t:SubscriptionId>` + sampleID + `</t:SubscriptionId><t:PreviousWatermark>AQAAAExYVWVlUkVTRUFhT3c9PQ==</t:PreviousWatermark>` +
		`<t:MoreEvents>false</t:MoreEvents>` + events + `</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages>` +
		`</m:SendNotification></soap11:Body></soap11:Envelope>`
}

func sampleEvent(kind, about, more string) string {
	return `<t:` + kind + `><t:Watermark>AQAAAExYVWVlUkVTRUFhT3c9PQ==</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp>` +
		`<t:` + about + ` Id="` + sampleID + `" ChangeKey="CQAAABYAAAB1"/><t:ParentFolderId Id="` + sampleID + `" ChangeKey="AQAAAA=="/>` +
		more + `</t:` + kind + `>`
}

func sampleMailbox(element string) string {
	return `<t:` + element + `><t:Mailbox><t:Name>Bob Baker</t:Name><t:EmailAddress>bob@example.com</t:EmailAddress>` +
		`<t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox></t:` + element + `>`
}

// hot are the messages that most of the runtime's time for XML goes to, and how each is read. What that may allocate is in the
// baseline of make bench-hot: the tree's four (text, elements, attributes, children), and what becomes of it.
var hot = []struct {
	name, message string
	read          func(testing.TB, []byte)
}{
	{"heartbeat", sampleHeartbeat, readPost},    // the list of messages, that of events
	{"new mail", sampleNewMail, readPost},       // and the unread count
	{"answer to GetItem", sampleItem, readItem}, // subject and preview, whose entities are replaced, the list of messages
}

func readPost(t testing.TB, body []byte) {
	if _, err := ParseNotification(body); err != nil {
		t.Fatal(err)
	}
}

func readItem(t testing.TB, content []byte) {
	elements, err := sampleSession.read(OpGetItem, sampleResponse, content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sampleSession.parseMessages(elements, sampleIDs); err != nil {
		t.Fatal(err)
	}
}

var (
	sampleSession  = &Session{client: &Client{}}
	sampleResponse = &http.Response{StatusCode: http.StatusOK}
	sampleIDs      = []string{sampleID}
)

// BenchmarkHotMessages reads each as it comes. make bench-hot holds what it allocates.
func BenchmarkHotMessages(b *testing.B) { readHot(b, "") }

// BenchmarkMessagesByEncodingXML is for comparison: a comment at the end leaves each to encoding/xml.
func BenchmarkMessagesByEncodingXML(b *testing.B) { readHot(b, "<!---->") }

func readHot(b *testing.B, end string) {
	b.Helper()
	for _, m := range hot {
		b.Run(m.name, func(b *testing.B) {
			content := []byte(m.message + end)
			b.ReportAllocs()
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				m.read(b, content)
			}
		})
	}
}
