package ews_test

import (
	"compress/gzip"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews"
)

func pinNothing(err error) func([][]byte, [][]*x509.Certificate) error {
	return func([][]byte, [][]*x509.Certificate) error { return err }
}

// endless writes until the client has had enough.
func endless(w http.ResponseWriter, _ *http.Request) {
	block := []byte(strings.Repeat("a", 64<<10))
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// bomb expands to far more than a client may read.
func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	compressor := gzip.NewWriter(w)
	block := []byte(strings.Repeat("a", 1<<20))
	for range 64 {
		if _, err := compressor.Write(block); err != nil {
			return
		}
	}
	_ = compressor.Close()
}

// answers serves whatever body was set last, with status 200 or 500.
type answers struct {
	body   atomic.Pointer[[]byte]
	status atomic.Int64
}

func (a *answers) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(int(a.status.Load()))
	_, _ = w.Write(*a.body.Load())
}

func (a *answers) set(status int, body []byte) {
	a.body.Store(&body)
	a.status.Store(int64(status))
}

func respond(operation, attributes, content string) []byte {
	return []byte(`<s:Envelope xmlns:s="` + nsSOAP + `"><s:Header/><s:Body><m:` + operation + `Response xmlns:m="` + nsMessages + `" xmlns:t="` + nsTypes + `">` +
		`<m:ResponseMessages><m:` + operation + `ResponseMessage ` + attributes + `>` + content + `</m:` + operation + `ResponseMessage></m:ResponseMessages>` +
		`</m:` + operation + `Response></s:Body></s:Envelope>`)
}

const success = `ResponseClass="Success"`

func TestBackOffInsideAResponseMessageIsRead(t *testing.T) {
	t.Parallel()
	var a answers
	server := httptest.NewTLSServer(&a)
	t.Cleanup(server.Close)
	session, ctx := sessionAt(t, server), testContext(t)
	busy := `<m:MessageText>alice@example.com ist zu schnell</m:MessageText><m:ResponseCode>ErrorServerBusy</m:ResponseCode>` +
		`<m:DescriptiveLinkKey>0</m:DescriptiveLinkKey><m:MessageXml><t:Value Name="Policy">x</t:Value><t:Value Name="BackOffMilliseconds">297749</t:Value></m:MessageXml>`
	a.set(http.StatusOK, respond("GetFolder", `ResponseClass="Error"`, busy))
	_, err := session.Inbox(ctx, "")
	wantError(t, err, ews.ErrServerBusy, false, 297749*time.Millisecond, "it asks to wait 4m58s")
	if strings.Contains(err.Error(), "alice") {
		t.Errorf("the error repeats the server's text: %v", err)
	}
	a.set(http.StatusOK, respond("GetItem", `ResponseClass="Error"`, busy))
	messages, err := session.Messages(ctx, []string{"AAMk1"}, ews.Fields{})
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	wantError(t, messages[0].Err, ews.ErrServerBusy, false, 297749*time.Millisecond, "answered ErrorServerBusy to GetItem")
}

func TestAnswersWithoutWhatWasAskedForAreErrors(t *testing.T) {
	t.Parallel()
	folder := func(content string) []byte {
		return respond("GetFolder", success, `<m:ResponseCode>NoError</m:ResponseCode><m:Folders>`+content+`</m:Folders>`)
	}
	const id = `<t:FolderId Id="AAMk"/>`
	cases := map[string][]byte{
		"no folder":                       folder(``),
		"no folder id":                    folder(`<t:Folder><t:UnreadCount>1</t:UnreadCount></t:Folder>`),
		"a folder id with control bytes":  folder(`<t:Folder><t:FolderId Id="a&#10;b"/><t:UnreadCount>1</t:UnreadCount></t:Folder>`),
		"no unread count":                 folder(`<t:Folder>` + id + `</t:Folder>`),
		"a negative unread count":         folder(`<t:Folder>` + id + `<t:UnreadCount>-1</t:UnreadCount></t:Folder>`),
		"an unread count beyond 32 bits":  folder(`<t:Folder>` + id + `<t:UnreadCount>4294967296</t:UnreadCount></t:Folder>`),
		"the answer to another operation": respond("GetItem", success, ``),
		"a document type":                 append([]byte(`<!DOCTYPE html>`), folder(`<t:Folder>`+id+`<t:UnreadCount>1</t:UnreadCount></t:Folder>`)...),
		"nothing":                         nil,
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a answers
			a.set(http.StatusOK, body)
			server := httptest.NewTLSServer(&a)
			t.Cleanup(server.Close)
			folder, err := sessionAt(t, server).Inbox(testContext(t), "")
			if !errors.Is(err, ews.ErrResponse) {
				t.Errorf("read %+v with error %v, want ErrResponse", folder, err)
			}
		})
	}
}

func TestACodeThatIsNoCodeIsNotRepeated(t *testing.T) {
	t.Parallel()
	var a answers
	a.set(http.StatusOK, respond("GetFolder", `ResponseClass="Error"`, `<m:ResponseCode>alice@example.com</m:ResponseCode>`))
	server := httptest.NewTLSServer(&a)
	t.Cleanup(server.Close)
	_, err := sessionAt(t, server).Inbox(testContext(t), "")
	wantError(t, err, nil, false, 0, "answered Unrecognized to GetFolder")
}
