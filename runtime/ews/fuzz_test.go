package ews

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

func fuzzSeed(operation, class, content string) []byte {
	return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><m:` + operation +
		`Response xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">` +
		`<m:ResponseMessages><m:` + operation + `ResponseMessage ResponseClass="` + class + `">` + content +
		`</m:` + operation + `ResponseMessage></m:ResponseMessages></m:` + operation + `Response></s:Body></s:Envelope>`)
}

// FuzzResponses reads what it makes up as the answer to every operation. It stands inside the package because a server
// and a connection around each input would make the coverage, which steers the fuzzer, depend on the scheduler.
func FuzzResponses(f *testing.F) {
	f.Add(http.StatusOK, fuzzSeed("GetFolder", "Success", `<m:ResponseCode>NoError</m:ResponseCode><m:Folders><t:Folder><t:FolderId Id="AAMk"/><t:UnreadCount>3</t:UnreadCount></t:Folder></m:Folders>`))
	f.Add(http.StatusOK, fuzzSeed("Subscribe", "Success", `<m:ResponseCode>NoError</m:ResponseCode><m:SubscriptionId>Jw==</m:SubscriptionId><m:Watermark>AQ==</m:Watermark>`))
	f.Add(http.StatusOK, fuzzSeed("GetItem", "Success", `<m:ResponseCode>NoError</m:ResponseCode><m:Items><t:Message><t:ItemId Id="AAMk"/><t:Subject>s</t:Subject>`+
		`<t:DateTimeReceived>2026-11-21T10:00:00Z</t:DateTimeReceived><t:From><t:Mailbox><t:Name>Bob</t:Name><t:EmailAddress>b@example.com</t:EmailAddress></t:Mailbox></t:From><t:IsRead>true</t:IsRead></t:Message></m:Items>`))
	f.Add(http.StatusOK, fuzzSeed("FindItem", "Success", `<m:ResponseCode>NoError</m:ResponseCode><m:RootFolder TotalItemsInView="1"><t:Items><t:Message><t:ItemId Id="AAMk"/>`+
		`<t:ItemClass>REPORT.IPM.Note.IPNRN</t:ItemClass><t:DateTimeReceived>2026-11-21T10:00:00Z</t:DateTimeReceived><t:IsRead>false</t:IsRead></t:Message></t:Items></m:RootFolder>`))
	f.Add(http.StatusOK, fuzzSeed("ResolveNames", "Warning", `<m:ResponseCode>ErrorNameResolutionMultipleResults</m:ResponseCode><m:ResolutionSet><t:Resolution><t:Mailbox><t:Name>A</t:Name></t:Mailbox>`+
		`<t:Contact><t:EmailAddresses><t:Entry Key="EmailAddress1">SMTP:a@example.com</t:Entry></t:EmailAddresses><t:Alias>a</t:Alias></t:Contact></t:Resolution></m:ResolutionSet>`))
	f.Add(http.StatusInternalServerError, []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>a:ErrorServerBusy</faultcode><detail>`+
		`<t:MessageXml xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><t:Value Name="BackOffMilliseconds">178510</t:Value></t:MessageXml></detail></s:Fault></s:Body></s:Envelope>`))
	session := &Session{client: &Client{address: "https://mail.example.com/EWS/Exchange.asmx"}}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		response := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {string(body[:min(len(body), 20)])}}}
		for _, operation := range []Operation{OpFindItem, OpGetFolder, OpGetItem, OpResolveNames, OpSubscribe} {
			if err := readAny(session, operation, response, body); err != nil {
				checkFuzzed(t, err)
			}
		}
	})
}

// readAny reads body as the answer to operation and returns the error of the call or of an item.
func readAny(session *Session, operation Operation, response *http.Response, body []byte) error {
	elements, err := session.read(operation, response, body)
	if err != nil {
		return err
	}
	switch operation {
	case OpGetFolder:
		inbox, err := session.parseInbox(elements)
		return errors.Join(err, checkID(inbox.ID))
	case OpFindItem:
		found, err := session.parseNewest(elements)
		for _, message := range found {
			err = errors.Join(err, checkID(message.ItemID))
		}
		return err
	case OpSubscribe:
		id, err := session.parseSubscription(elements)
		return errors.Join(err, checkID(id))
	case OpResolveNames:
		_, err := session.parseResolutions(elements)
		return err
	default:
		messages, err := session.parseMessages(elements, make([]string, len(elements)))
		for _, message := range messages {
			err = errors.Join(err, message.Err)
		}
		return err
	}
}

// checkFuzzed checks that an error is of the kind that callers rely on.
func checkFuzzed(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.BackOff < 0 || e.BackOff > time.Hour {
		t.Fatalf("error %#v", err)
	}
	if text := err.Error(); text == "" || strings.ContainsRune(string(e.Code), '@') {
		t.Fatalf("error text %q", text)
	}
}

// FuzzDeviceStatuses reads what it makes up as a SEG's answer about the devices.
func FuzzDeviceStatuses(f *testing.F) {
	f.Add("6C30D0304E7A4EE795494DEB0F465B72:200")
	f.Add("a:200, b:403,a:403")
	f.Add(":200,c:,d:-1,e:99999")
	f.Fuzz(func(t *testing.T, value string) {
		statuses := deviceStatuses([]string{value})
		for id := range statuses {
			if !sendable(id) || id != strings.ToLower(id) || !strings.Contains(strings.ToLower(value), id) {
				t.Errorf("the id %q", id)
			}
		}
		for id := range deviceStatuses([]string{value, "added:200"}) {
			if _, before := statuses[id]; id != "added" && !before {
				t.Errorf("%q came from nowhere", id)
			}
		}
		if deviceStatuses([]string{"refused:403", value, "refused:200"})["refused"] {
			t.Error("a refusal was overruled")
		}
	})
}

// FuzzTransactionID reads what it makes up as a SEG's name for a transaction.
func FuzzTransactionID(f *testing.F) {
	f.Add("544ef2b7-9ca3-4009-b116-8a9f6513f2c7")
	f.Add("{544ef2b7-9ca3-4009-b116-8a9f6513f2c7}")
	f.Fuzz(func(t *testing.T, text string) {
		if id := transactionID(text); strings.Trim(id, "0123456789abcdefABCDEF-") != "" {
			t.Errorf("%q was taken", id)
		}
	})
}

// FuzzPreview cuts what it makes up as the text of a mail.
func FuzzPreview(f *testing.F) {
	f.Add(" a\r\n\tb\u00a0")
	f.Add(strings.Repeat("a", 255) + "😀")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, text string) {
		preview := previewOf(text)
		if units := len(utf16.Encode([]rune(preview))); units > previewUnits {
			t.Errorf("%d units", units)
		}
		whole := strings.Join(strings.Fields(text), " ")
		if utf8.ValidString(text) && !strings.HasPrefix(whole, preview) {
			t.Errorf("%q is not the beginning of %q", preview, whole)
		}
	})
}
