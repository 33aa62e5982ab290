package apns

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sideshow/apns2"

	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	// category is what the app registered its actions under (protocol.md, "To the phone").
	category = "ENS_MAIL"
	// maxCollapseID is Apple's limit in bytes.
	maxCollapseID = 64
	// smallPayload is the limit after a 413: Apple counts differently from us then, so there is no point in being exact.
	smallPayload = push.MaxPayload / 2

	// storeFor is how long Apple keeps a notification for a phone that is off. After a day the mail is no news, and a
	// registration that was lost for a day is nudged again anyway.
	storeFor = 24 * time.Hour
)

// payload is what the phone gets.
type payload struct {
	APS aps            `json:"aps"`
	ENS push.Reference `json:"ens"`
}

type aps struct {
	Alert            *alert `json:"alert,omitempty"`
	Badge            *int   `json:"badge,omitempty"`
	Sound            string `json:"sound,omitempty"`
	MutableContent   int    `json:"mutable-content,omitempty"`
	ContentAvailable int    `json:"content-available,omitempty"`
	ThreadID         string `json:"thread-id,omitempty"`
	Category         string `json:"category,omitempty"`
}

type alert struct {
	Title    string `json:"title,omitempty"`
	Subtitle string `json:"subtitle,omitempty"`
	Body     string `json:"body,omitempty"`
}

// Compose returns the push for n to a device, its payload at most limit bytes long.
//
// Push type and priority follow Apple's "Sending notification requests to APNs": `alert` is for everything that the
// system shows or plays, a badge alone included, and only `alert` may have priority 10 (at once). A badge takes
// priority 5, which lets the system choose a moment that spares the battery. `background` wakes the app, must have
// priority 5 and may carry neither alert, badge nor sound.
//
// Apple keeps only one notification per device and app for a phone that is off. So a badge is not stored at all
// (expiration 0): it would drive out the mail that waits there, and the next badge repairs it.
func Compose(n push.Notification, token, topic string, now time.Time, limit int) (*apns2.Notification, error) {
	fitted, err := push.Fit(n, limit, func(n push.Notification) (int, error) {
		encoded, err := json.Marshal(payloadOf(n))
		return len(encoded), err
	})
	if err != nil {
		return nil, err
	}
	content := payloadOf(fitted)
	// apns2 marshals what it is given once more, with HTML escapes; encoding/json's own output passes unchanged, so
	// the size that was measured is the size that is sent.
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	request := &apns2.Notification{
		DeviceToken: token, Topic: topic, CollapseID: collapseID(n.CollapseID), Payload: encoded,
		PushType: apns2.PushTypeAlert, Priority: apns2.PriorityLow,
	}
	switch {
	case content.APS.ContentAvailable != 0:
		request.PushType, request.Expiration = apns2.PushTypeBackground, now.Add(storeFor)
	case content.APS.Alert != nil:
		request.Priority, request.Expiration = apns2.PriorityHigh, now.Add(storeFor)
	}
	return request, nil
}

// payloadOf encodes n. A mail that shows nothing sets the badge alone (N-05); if not even the count is known it wakes
// the app as a Resubscribe does, because a push without any content is refused.
func payloadOf(n push.Notification) payload {
	content := payload{ENS: n.Reference()}
	if n.Unread != nil && n.Kind != push.Resubscribe {
		content.APS.Badge = new(max(*n.Unread, 0))
	}
	switch {
	case !n.Silent():
		content.APS.Alert = &alert{Title: n.Title, Subtitle: n.Subtitle, Body: n.Body}
		content.APS.Sound = n.Sound
		content.APS.MutableContent = 1
		// One thread per account groups its mails on the lock screen.
		content.APS.ThreadID = n.UserID
		content.APS.Category = category
	case content.APS.Badge == nil:
		content.APS.ContentAvailable = 1
	}
	return content
}

// collapseID keeps an id that fits and replaces a longer one by its hash, which has exactly the permitted length.
func collapseID(id string) string {
	if len(id) <= maxCollapseID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}
