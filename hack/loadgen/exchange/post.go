package exchange

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"
)

// Post is what Exchange tells a webhook.
type Post struct {
	Mailbox Mailbox
	// Mail is the number of the mail that it is about.
	Mail uint64
	Kind Kind
	// Unread is the Inbox's count afterwards.
	Unread int
	At     time.Time
}

// Kind says what has happened.
type Kind int

// The kinds.
const (
	// Heartbeat: nothing has happened (StatusEvent).
	Heartbeat Kind = iota
	// NewMail: a mail has come (Created, NewMail and the folder's Modified in one post).
	NewMail
	// Read: a mail was read elsewhere (the item's Modified and the folder's, with another count).
	Read
)

const (
	postBegin = `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/">` +
		`<soap11:Header><t:RequestServerVersion xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"` +
		` Version="Exchange2010_SP2" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" /></soap11:Header><soap11:Body>` +
		`<m:SendNotification xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"` +
		` xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:ResponseMessages>` +
		`<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Notification><t:SubscriptionId>`
	postEnd = `</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>`
)

// The change keys of one post differ by these numbers.
const (
	changeOfCreated = iota
	changeOfNew
	changeOfInbox
	changeOfRoot
)

// Append adds the post's body to b.
func (p Post) Append(b []byte) []byte {
	b = append(b, postBegin...)
	b = append(b, p.Mailbox.SubscriptionID()...)
	b = append(b, `</t:SubscriptionId><t:PreviousWatermark>`...)
	mark := p.firstWatermark()
	b = appendWatermark(b, mark)
	b = append(b, `</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>`...)
	switch p.Kind {
	case Heartbeat:
		b = append(b, `<t:StatusEvent><t:Watermark>`...)
		b = appendWatermark(b, mark)
		b = append(b, `</t:Watermark></t:StatusEvent>`...)
	case NewMail:
		b = p.appendItem(b, "CreatedEvent", mark+1, changeOfCreated)
		b = p.appendItem(b, "NewMailEvent", mark+2, changeOfNew)
		b = p.appendFolder(b, mark+3)
	case Read:
		b = p.appendItem(b, "ModifiedEvent", mark+1, changeOfCreated)
		b = p.appendFolder(b, mark+2)
	}
	return append(b, postEnd...)
}

// eventsPerMail is how far a mail moves the mailbox's watermark on.
const eventsPerMail = 8

func (p Post) firstWatermark() uint64 { return p.Mail * eventsPerMail }

// appendItem writes an event about the mail.
func (p Post) appendItem(b []byte, event string, mark uint64, change int) []byte {
	b = p.appendBegin(b, event, mark)
	b = appendID(b, "ItemId", p.Mailbox.ItemID(p.Mail), changeKey(p.Mailbox, p.Mail*eventsPerMail+uint64(change)))
	b = appendID(b, "ParentFolderId", p.Mailbox.InboxID(), changeKey(p.Mailbox, changeOfInbox))
	return appendEnd(b, event)
}

// appendFolder writes the event about the Inbox, with its count.
func (p Post) appendFolder(b []byte, mark uint64) []byte {
	b = p.appendBegin(b, "ModifiedEvent", mark)
	b = appendID(b, "FolderId", p.Mailbox.InboxID(), changeKey(p.Mailbox, p.Mail*eventsPerMail+changeOfInbox))
	b = appendID(b, "ParentFolderId", id(kindRoot, p.Mailbox, 0), changeKey(p.Mailbox, changeOfRoot))
	b = append(b, `<t:UnreadCount>`...)
	b = strconv.AppendInt(b, int64(p.Unread), 10)
	b = append(b, `</t:UnreadCount>`...)
	return appendEnd(b, "ModifiedEvent")
}

func (p Post) appendBegin(b []byte, event string, mark uint64) []byte {
	b = append(append(append(b, `<t:`...), event...), `><t:Watermark>`...)
	b = appendWatermark(b, mark)
	b = append(b, `</t:Watermark><t:TimeStamp>`...)
	b = p.At.UTC().AppendFormat(b, time.RFC3339)
	return append(b, `</t:TimeStamp>`...)
}

func appendEnd(b []byte, event string) []byte {
	return append(append(append(b, `</t:`...), event...), '>')
}

func appendID(b []byte, name, id, changeKey string) []byte {
	b = append(append(append(b, `<t:`...), name...), ` Id="`...)
	b = append(append(b, id...), `" ChangeKey="`...)
	return append(append(b, changeKey...), `"/>`...)
}

// appendWatermark writes a watermark, which is opaque to clients.
func appendWatermark(b []byte, mark uint64) []byte {
	return base64.StdEncoding.AppendEncode(b, binary.BigEndian.AppendUint64([]byte("AAAA"), mark))
}
