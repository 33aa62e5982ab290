package ews

import (
	"io"
	"net/http"
	"strconv"
)

// SubscriptionStatus is what a reply to SendNotification tells Exchange to do with the subscription.
type SubscriptionStatus int

// The two answers there are.
const (
	// OK keeps the subscription.
	OK SubscriptionStatus = iota
	// Unsubscribe ends it; there is no other way to (ews.md, section 0).
	Unsubscribe
)

// The replies, byte for byte (ews.md, section 2). SubscriptionStatus stands in the messages namespace.
const (
	replyStart = `<?xml version="1.0" encoding="utf-8"?>` +
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
		`<m:SendNotificationResult xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"><m:SubscriptionStatus>`
	replyEnd = `</m:SubscriptionStatus></m:SendNotificationResult></s:Body></s:Envelope>`

	ReplyOK          = replyStart + "OK" + replyEnd
	ReplyUnsubscribe = replyStart + "Unsubscribe" + replyEnd
)

// WriteReply answers a post as Exchange wants it: 200, text/xml, a Content-Length, no compression. Anything else counts
// as a failure there, and a few of them cost the subscription. A middleware that compresses must not stand before w.
func WriteReply(w http.ResponseWriter, status SubscriptionStatus) {
	reply := ReplyOK
	if status == Unsubscribe {
		reply = ReplyUnsubscribe
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, reply) // if Exchange has hung up it will post again
}
