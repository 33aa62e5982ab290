package ews

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// MaxNotificationBytes is the largest post that a listener should read (protocol.md, General). A burst of a thousand
// events is about 700 kB.
const MaxNotificationBytes = 4 << 20

// Ids of Exchange are at most about 350 characters of base64; what is longer came from somebody else.
const maxIDBytes = 1024

// usualEvents is how many most posts have: one new mail makes three (ews.md, section 2).
const usualEvents = 3

// ErrMalformed is returned, wrapped, for a post that is not a SendNotification that Exchange could have sent.
var ErrMalformed = errors.New("malformed notification")

// Notification is what one post says. Exchange may put several messages into one post.
type Notification struct {
	Messages []NotificationMessage
}

// NotificationMessage is about one subscription.
type NotificationMessage struct {
	// ResponseClass is Success, Warning or Error.
	ResponseClass ResponseClass
	// ResponseCode is NoError or why the subscription is gone, e.g. ErrorReadEventsFailed.
	ResponseCode ResponseCode
	// SubscriptionID is opaque, printable ASCII, at most 1,024 bytes. It is empty in an Error message, which has
	// neither id nor events.
	SubscriptionID string
	// PreviousWatermark is the watermark of the last event before these.
	PreviousWatermark string
	// MoreEvents says that Exchange has more than fitted and will post again.
	MoreEvents bool
	Events     []Event
}

// ResponseClass is the outcome of a response message.
type ResponseClass string

// The classes.
const (
	ClassSuccess ResponseClass = "Success"
	ClassWarning ResponseClass = "Warning"
	ClassError   ResponseClass = "Error"
)

// EventKind is what happened in the mailbox.
type EventKind string

// The kinds; elements of other names are skipped.
const (
	// Status is the heartbeat (W-06).
	Status   EventKind = "StatusEvent"
	NewMail  EventKind = "NewMailEvent"
	Created  EventKind = "CreatedEvent"
	Modified EventKind = "ModifiedEvent"
	Moved    EventKind = "MovedEvent"
	Copied   EventKind = "CopiedEvent"
	Deleted  EventKind = "DeletedEvent"
)

// Event is one thing that happened. All but Status are about an item or a folder, so one of ItemID and FolderID is set.
type Event struct {
	Kind EventKind
	// ItemID and FolderID are the id after the event: a move changes it.
	ItemID, FolderID string
	// ParentFolderID is the folder it is in after the event.
	ParentFolderID string
	// OldItemID and OldParentFolderID are set for Moved and Copied.
	OldItemID, OldParentFolderID string
	// UnreadCount is the folder's count that Exchange sends with some Modified events (W-11); nil if it did not.
	UnreadCount *int
	// Timestamp is zero if Exchange sent none or one that cannot be read.
	Timestamp time.Time
}

// ParseNotification reads a SendNotification post (MS-OXWSPSNTIF). The caller limits the size of body, see
// MaxNotificationBytes.
//
// Any prefix is understood, headers and unknown events are skipped. A document type declaration, a processing
// instruction, an unknown entity, a tree deeper than 64 and ids with anything but printable ASCII or over 1,024 bytes
// make the whole post ErrMalformed. A detail that only one event lacks does not: Exchange would repeat the post and then
// drop the subscription.
func ParseNotification(body []byte) (Notification, error) {
	reader := soap.Borrow()
	defer reader.Return()
	content, err := reader.ReadBody(body)
	if err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !content.Is(soap.Messages, "SendNotification") {
		return Notification{}, fmt.Errorf("%w: the body is not a SendNotification", ErrMalformed)
	}
	var notification Notification
	for _, element := range children(content.Child(soap.Messages, "ResponseMessages")) {
		if !element.Is(soap.Messages, "SendNotificationResponseMessage") {
			continue
		}
		message, err := parseNotificationMessage(element)
		if err != nil {
			return Notification{}, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		notification.Messages = append(notification.Messages, message)
	}
	if len(notification.Messages) == 0 {
		return Notification{}, fmt.Errorf("%w: no response message", ErrMalformed)
	}
	return notification, nil
}

func parseNotificationMessage(element *soap.Element) (NotificationMessage, error) {
	message := NotificationMessage{
		ResponseClass: responseClass(element),
		ResponseCode:  parseResponseCode(element.Child(soap.Messages, "ResponseCode").Text()),
	}
	notification := element.Child(soap.Messages, "Notification")
	if notification == nil {
		if message.ResponseClass != ClassError {
			return message, errors.New("a message without error has no Notification element")
		}
		return message, nil // as real servers send it, though the schema says otherwise (ews.md, section 0)
	}
	var err error
	if message.SubscriptionID, err = text(notification, "SubscriptionId"); err != nil {
		return message, err
	}
	if message.SubscriptionID == "" {
		return message, errors.New("no SubscriptionId")
	}
	if message.PreviousWatermark, err = text(notification, "PreviousWatermark"); err != nil {
		return message, err
	}
	message.MoreEvents = boolean(notification.Child(soap.Types, "MoreEvents"))
	message.Events, err = parseEvents(notification)
	return message, err
}

func parseEvents(notification *soap.Element) ([]Event, error) {
	var events []Event
	for _, element := range notification.Children {
		if element.Name.Space != soap.Types {
			continue
		}
		switch kind := EventKind(element.Name.Local); kind {
		case Status, NewMail, Created, Modified, Moved, Copied, Deleted:
			if events == nil {
				events = make([]Event, 0, usualEvents)
			}
			events = append(events, Event{Kind: kind})
			if err := events[len(events)-1].parse(element); err != nil {
				return nil, err
			}
		}
	}
	return events, nil
}

// parse fills in what the element of an event's kind says.
func (e *Event) parse(element *soap.Element) error {
	for _, field := range [...]struct {
		name string
		id   *string
	}{
		{"ItemId", &e.ItemID},
		{"FolderId", &e.FolderID},
		{"ParentFolderId", &e.ParentFolderID},
		{"OldItemId", &e.OldItemID},
		{"OldParentFolderId", &e.OldParentFolderID},
	} {
		id := element.Child(soap.Types, field.name).Attribute("Id")
		if err := checkID(id); err != nil {
			return fmt.Errorf("%s of a %s: %w", field.name, e.Kind, err)
		}
		*field.id = id
	}
	e.UnreadCount = unreadCount(element.Child(soap.Types, "UnreadCount").Text())
	e.Timestamp = timestamp(element.Child(soap.Types, "TimeStamp").Text())
	return nil
}

// unreadCount is nil if text is no count.
func unreadCount(text string) *int {
	if text == "" { // most often: spares an error that nobody reads
		return nil
	}
	count, err := strconv.ParseInt(text, 10, 32)
	if err != nil || count < 0 {
		return nil
	}
	return new(int(count))
}

// timestamp is zero if text is none.
func timestamp(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// text returns the text of the child name in the types namespace, checked like an id.
func text(parent *soap.Element, name string) (string, error) {
	value := parent.Child(soap.Types, name).Text()
	if err := checkID(value); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// checkID keeps what reaches the journal to a strict alphabet and length (protocol.md, rule 7). Exchange's ids are
// base64; other servers' are printable too.
func checkID(id string) error {
	if len(id) > maxIDBytes {
		return fmt.Errorf("%d bytes, want at most %d", len(id), maxIDBytes)
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return fmt.Errorf("byte %#02x in an id", id[i])
		}
	}
	return nil
}

func responseClass(element *soap.Element) ResponseClass {
	switch class := ResponseClass(element.Attribute("ResponseClass")); class {
	case ClassSuccess, ClassWarning:
		return class
	default:
		return ClassError
	}
}

func boolean(element *soap.Element) bool {
	value := element.Text()
	return value == "true" || value == "1"
}

func children(element *soap.Element) []*soap.Element {
	if element == nil {
		return nil
	}
	return element.Children
}
