package fcm

import (
	"encoding/json"
	"strconv"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/ens-operator/ens-operator/runtime/push"
)

// The keys of a data message (protocol.md, "To the phone").
const (
	keyTitle    = "title"
	keySubtitle = "subtitle"
	keyBody     = "body"
	keyUnread   = "unread"
	keyENS      = "ens"
)

const (
	priorityHigh   = "high"
	priorityNormal = "normal"
	// storeFor is how long Google keeps a message for a phone that is off: after a day it is no news.
	storeFor = 24 * time.Hour
	// Google keeps at most four collapse keys per phone, so only what replaces itself has one: the newest count and
	// one request to register are all that a phone needs. A mail has none; the app replaces its notification by the
	// message id.
	collapseBadge       = "ens-badge"
	collapseResubscribe = "ens-resubscribe"
)

// Compose returns the message for n to a device, its data at most push.MaxPayload bytes long, counted as keys and
// values.
//
// A message has no notification part, so the app draws what the phone shows. High priority, which wakes a sleeping
// phone, is for what is shown at once: Google demotes apps that use it for anything else.
func Compose(n push.Notification, token string) (*messaging.Message, error) {
	fitted, err := push.Fit(n, push.MaxPayload, func(n push.Notification) (int, error) {
		data, err := dataOf(n)
		size := 0
		for key, value := range data {
			size += len(key) + len(value)
		}
		return size, err
	})
	if err != nil {
		return nil, err
	}
	data, err := dataOf(fitted)
	if err != nil {
		return nil, err
	}
	android := &messaging.AndroidConfig{Priority: priorityNormal, TTL: new(storeFor)}
	switch {
	case n.Kind == push.Badge:
		android.CollapseKey = collapseBadge
	case n.Kind == push.Resubscribe:
		android.CollapseKey = collapseResubscribe
	case !n.Silent():
		android.Priority = priorityHigh
	}
	return &messaging.Message{Token: token, Data: data, Android: android}, nil
}

// dataOf encodes n. What is not known or not to be shown is left out.
func dataOf(n push.Notification) (map[string]string, error) {
	reference, err := json.Marshal(n.Reference())
	if err != nil {
		return nil, err
	}
	data := map[string]string{keyENS: string(reference)}
	if n.Unread != nil && n.Kind != push.Resubscribe {
		data[keyUnread] = strconv.Itoa(max(*n.Unread, 0))
	}
	if n.Kind != push.NewMail {
		return data, nil
	}
	for key, text := range map[string]string{keyTitle: n.Title, keySubtitle: n.Subtitle, keyBody: n.Body} {
		if text != "" {
			data[key] = text
		}
	}
	return data, nil
}
