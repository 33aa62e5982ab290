package ews

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// Fields are the parts of a mail to fetch; only those that the notification policy shows (E-21).
type Fields struct {
	Sender, Subject bool
	// Preview is the first 256 UTF-16 units of the text. Servers before Exchange 2013 have none: the text itself is
	// fetched and cut, unless it is too long, when the preview stays empty.
	Preview bool
}

// Message is one mail, or why it is not here. Fields that were not asked for are empty.
type Message struct {
	// ItemID is the id that was asked for.
	ItemID string
	// Found is false if the item is gone (read, moved by a rule or deleted: nothing unusual) or if Err is set.
	Found bool
	// Err is an *Error if this item alone failed.
	Err error
	// ParentFolderID is the folder it is in now.
	ParentFolderID string
	IsRead         bool
	// Receipt says that it only reports that a mail of the user's was delivered or read. (One that was not delivered is
	// worth knowing: its report is a mail like any other.)
	Receipt bool
	// ReceivedAt is zero if the server does not tell.
	ReceivedAt time.Time
	// SenderName and SenderAddress are those of From, else of Sender. The address is empty if it is no SMTP address.
	SenderName, SenderAddress string
	Subject, Preview          string
}

// Messages fetches several items in one call, in the order of itemIDs. An item that is gone or failed does not fail the
// call.
func (s *Session) Messages(ctx context.Context, itemIDs []string, fields Fields) ([]Message, error) {
	if len(itemIDs) == 0 {
		return nil, nil
	}
	wanted := exchange2010SP2
	if fields.Preview {
		wanted = exchange2013
	}
	compose := func(v version) string { return itemsBody(itemIDs, fields, v) }
	defer s.forget()
	elements, v, err := s.call(ctx, OpGetItem, wanted, compose)
	if errors.Is(err, errTooLarge) && fields.Preview && v < exchange2013 {
		// Some text is enormous. Better a notification without preview than none.
		fields.Preview = false
		elements, _, err = s.call(ctx, OpGetItem, exchange2010SP2, compose)
	}
	if err != nil {
		return nil, err
	}
	return s.parseMessages(elements, itemIDs)
}

func (s *Session) parseMessages(elements []*soap.Element, itemIDs []string) ([]Message, error) {
	if len(elements) != len(itemIDs) {
		return nil, s.failure(OpGetItem, http.StatusOK,
			fmt.Errorf("%w: %d response messages for %d items", ErrResponse, len(elements), len(itemIDs)))
	}
	messages := make([]Message, len(itemIDs))
	for i, element := range elements {
		messages[i] = s.parseMessage(element)
		messages[i].ItemID = itemIDs[i]
	}
	return messages, nil
}

// What the request for items takes about, in bytes: the properties with what stands around them, and each item.
const (
	shapeSize = 1 << 10
	itemSize  = 256
)

func itemsBody(itemIDs []string, fields Fields, v version) string {
	var b strings.Builder
	b.Grow(shapeSize + len(itemIDs)*itemSize)
	b.WriteString(`<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>`)
	if fields.Preview && v < exchange2013 {
		b.WriteString(`<t:BodyType>Text</t:BodyType>`)
	}
	b.WriteString(`<t:AdditionalProperties>`)
	for _, property := range properties(fields, v) {
		b.WriteString(`<t:FieldURI FieldURI="`)
		b.WriteString(property)
		b.WriteString(`"/>`)
	}
	b.WriteString(`</t:AdditionalProperties></m:ItemShape><m:ItemIds>`)
	for _, id := range itemIDs {
		b.WriteString(`<t:ItemId Id="`)
		b.WriteString(soap.Escape(id))
		b.WriteString(`"/>`)
	}
	b.WriteString(`</m:ItemIds></m:GetItem>`)
	return b.String()
}

func properties(fields Fields, v version) []string {
	all := []string{"item:ParentFolderId", "item:ItemClass", "item:DateTimeReceived", "message:IsRead"}
	if fields.Subject {
		all = append(all, "item:Subject")
	}
	if fields.Sender {
		all = append(all, "message:From", "message:Sender")
	}
	if fields.Preview && v >= exchange2013 {
		all = append(all, "item:Preview")
	}
	if fields.Preview && v < exchange2013 {
		all = append(all, "item:Body")
	}
	return all
}

// isReceipt tells by the class of an item: REPORT, the class of the mail that is reported about, and the kind of report.
// DR is delivered, IPNRN read, IPNNRN deleted unread; NDR, not delivered, is none of them.
func isReceipt(class string) bool {
	kind, _, dotted := strings.Cut(class, ".")
	if !dotted || !strings.EqualFold(kind, "REPORT") {
		return false
	}
	switch strings.ToUpper(class[strings.LastIndexByte(class, '.'):]) {
	case ".DR", ".IPNRN", ".IPNNRN":
		return true
	}
	return false
}

// parseMessage reads one response message. The item's element may be Message, MeetingRequest, PostItem, …
func (s *Session) parseMessage(element *soap.Element) Message {
	if err := s.messageError(OpGetItem, element); err != nil {
		if errors.Is(err, ErrItemNotFound) {
			return Message{}
		}
		return Message{Err: err}
	}
	item := element.Child(soap.Messages, "Items").First()
	if item == nil {
		return Message{Err: s.failure(OpGetItem, http.StatusOK, fmt.Errorf("%w: no item", ErrResponse))}
	}
	return parseItem(item)
}

// parseItem reads the properties of an item that are there.
func parseItem(item *soap.Element) Message {
	message := Message{
		Found:          true,
		ParentFolderID: item.Child(soap.Types, "ParentFolderId").Attribute("Id"),
		IsRead:         boolean(item.Child(soap.Types, "IsRead")),
		Receipt:        isReceipt(item.Child(soap.Types, "ItemClass").Text()),
		Subject:        item.Child(soap.Types, "Subject").Text(),
		Preview:        item.Child(soap.Types, "Preview").Text(),
		ReceivedAt:     timestamp(item.Child(soap.Types, "DateTimeReceived").Text()),
	}
	if body := item.Child(soap.Types, "Body"); body != nil {
		message.Preview = previewOf(body.Text())
	}
	mailbox := item.Child(soap.Types, "From").Child(soap.Types, "Mailbox")
	if mailbox == nil {
		mailbox = item.Child(soap.Types, "Sender").Child(soap.Types, "Mailbox")
	}
	message.SenderName = mailbox.Child(soap.Types, "Name").Text()
	if routing := mailbox.Child(soap.Types, "RoutingType").Text(); routing == "" || strings.EqualFold(routing, routingSMTP) {
		message.SenderAddress = mailbox.Child(soap.Types, "EmailAddress").Text()
	}
	return message
}
