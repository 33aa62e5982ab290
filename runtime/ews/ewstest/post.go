package ewstest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

const (
	// Exchange's own time-out for a post is not documented; any sensible listener is far quicker.
	postTimeout = 30 * time.Second
	// A reply is 300 bytes.
	maxReplyBytes = 64 << 10

	replyOK          = "OK"
	replyUnsubscribe = "Unsubscribe"
)

// newCallbackClient follows no redirects and asks for no compression.
func newCallbackClient(roots *x509.CertPool, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:        dial,
			TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       postTimeout,
	}
}

// Post sends body to a webhook as Exchange would and reports what came back, without any subscription: for replays,
// forgeries and garbage. It is not in Callbacks.
func (s *Server) Post(ctx context.Context, url string, body []byte) Callback {
	callback := Callback{URL: url, Body: body}
	s.send(ctx, &callback)
	return callback
}

// post sends one post outside the order of the subscription's others and records it.
func (sub *subscription) post(ctx context.Context, body []byte, batch []event, attempt int) {
	sub.server.record(sub.exchange(ctx, body, batch, attempt))
}

// exchange sends one post of the subscription and reads the reply.
func (sub *subscription) exchange(ctx context.Context, body []byte, batch []event, attempt int) Callback {
	callback := Callback{
		SubscriptionID: sub.id, Mailbox: sub.address, Attempt: attempt, URL: sub.url, Body: body,
	}
	for _, e := range batch {
		callback.Events = append(callback.Events, e.kind)
		if e.about == "ItemId" {
			callback.ItemIDs = append(callback.ItemIDs, e.id)
		}
	}
	sub.server.send(ctx, &callback)
	if callback.Err == nil && sub.server.replyLost() {
		callback.Reply, callback.Err = "", errors.New("the reply was lost (LoseReplies)")
	}
	return callback
}

func (s *Server) record(callback Callback) {
	s.logf("ewstest: post to %s, attempt %d, %v: status %d, reply %q, error %v", callback.Mailbox, callback.Attempt,
		callback.Events, callback.Status, callback.Reply, callback.Err)
	s.callbackLog.AddNumbered(callback, func(c *Callback, number int) { c.Number = number })
}

// send posts with the headers that were recorded from Exchange Online: no User-Agent, SOAPAction without quotes.
func (s *Server) send(ctx context.Context, callback *Callback) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, callback.URL, bytes.NewReader(callback.Body))
	if err != nil {
		callback.Err = errors.New("the webhook's address cannot be used")
		return
	}
	request.Header.Set("Accept", "text/xml")
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	request.Header.Set("SOAPAction", soap.Messages+"/SendNotification")
	request.Header.Set("User-Agent", "") // an empty one is not sent
	response, err := s.callbacks.Load().Do(request)
	if err != nil {
		callback.Err = fmt.Errorf("no reply: %w", withoutURL(err))
		return
	}
	defer response.Body.Close()
	callback.Status = response.StatusCode
	callback.Reply, callback.Err = readReply(response)
}

// readReply is as strict as the real reader may be: what is not known to be accepted counts as a failure.
func readReply(response *http.Response) (string, error) {
	content, err := io.ReadAll(io.LimitReader(response.Body, maxReplyBytes+1))
	if err != nil || len(content) > maxReplyBytes {
		return "", errors.New("the reply is cut short or too long")
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the reply has status %d, want 200", response.StatusCode)
	}
	media, parameters, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || media != "text/xml" || !strings.EqualFold(parameters["charset"], "utf-8") {
		return "", errors.New("the reply's Content-Type is not text/xml; charset=utf-8")
	}
	if response.ContentLength < 0 || len(response.TransferEncoding) > 0 {
		return "", errors.New("the reply has no Content-Length")
	}
	if response.Header.Get("Content-Encoding") != "" {
		return "", errors.New("the reply is compressed")
	}
	body, err := soap.ReadBody(content)
	if err != nil {
		return "", fmt.Errorf("the reply: %w", err)
	}
	if !body.Is(soap.Messages, "SendNotificationResult") || len(body.Children) != 1 {
		return "", errors.New("the reply is no SendNotificationResult in the messages namespace")
	}
	status := body.Child(soap.Messages, "SubscriptionStatus").Text()
	if status != replyOK && status != replyUnsubscribe {
		return "", errors.New("the reply has no SubscriptionStatus OK or Unsubscribe in the messages namespace")
	}
	return status, nil
}

// body writes the post of a batch, sometimes as two response messages in one post.
func (sub *subscription) body(batch []event) []byte {
	parts := [][]event{batch}
	if len(batch) > 1 && !sub.server.options.Calm && sub.poster.random.IntN(4) == 0 {
		cut := 1 + sub.poster.random.IntN(len(batch)-1)
		parts = [][]event{batch[:cut], batch[cut:]}
	}
	var b strings.Builder
	b.WriteString(`<m:SendNotification><m:ResponseMessages>`)
	for i, part := range parts {
		b.WriteString(`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>` +
			`<m:Notification><t:SubscriptionId>` + sub.id + `</t:SubscriptionId>` +
			`<t:PreviousWatermark>` + watermark(sub.poster.watermark) + `</t:PreviousWatermark>` +
			`<t:MoreEvents>` + fmt.Sprint(i < len(parts)-1) + `</t:MoreEvents>`)
		for _, e := range part {
			if e.kind != statusEvent {
				sub.poster.watermark++
			}
			b.WriteString(e.xml(sub.poster.watermark))
		}
		b.WriteString(`</m:Notification></m:SendNotificationResponseMessage>`)
	}
	b.WriteString(`</m:ResponseMessages></m:SendNotification>`)
	dialect := recorded
	if !sub.server.options.Calm {
		dialect = postDialects[sub.poster.random.IntN(len(postDialects))]
	}
	return dialect.message(dialect.requestServerVersion(sub.version), b.String())
}

// xml writes an event in the schema's order.
func (e event) xml(mark uint64) string {
	var b strings.Builder
	b.WriteString(`<t:` + e.kind + `><t:Watermark>` + watermark(mark) + `</t:Watermark>`)
	if e.kind != statusEvent {
		b.WriteString(`<t:TimeStamp>` + e.at.UTC().Format(time.RFC3339) + `</t:TimeStamp>` +
			idXML(e.about, e.id, e.changeKey) + idXML("ParentFolderId", e.parent.id, e.parent.changeKey))
		if e.oldID != "" {
			b.WriteString(idXML("OldItemId", e.oldID, e.changeKey) + idXML("OldParentFolderId", e.oldParent.id, e.oldParent.changeKey))
		}
		if e.unread != nil {
			fmt.Fprintf(&b, `<t:UnreadCount>%d</t:UnreadCount>`, *e.unread)
		}
	}
	b.WriteString(`</t:` + e.kind + `>`)
	return b.String()
}

// errorBody is a post of class Error. Real ones have no Notification element, though the schema demands it.
func errorBody(version, code string) []byte {
	return recorded.message(recorded.requestServerVersion(version), `<m:SendNotification><m:ResponseMessages>`+
		`<m:SendNotificationResponseMessage ResponseClass="Error"><m:MessageText>Events could not be read.</m:MessageText>`+
		`<m:ResponseCode>`+soap.Escape(code)+`</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>`+
		`</m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification>`)
}

func idXML(name, id, changeKey string) string {
	return `<t:` + name + ` Id="` + id + `" ChangeKey="` + changeKey + `"/>`
}

// watermark is opaque to clients; ours is a number.
func watermark(number uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64([]byte("AAAA"), number))
}
