package cns

import (
	"encoding/json"
	"fmt"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
)

// request is the body of a request: what Apple or Google is to get, and for whom.
type request struct {
	Platform    push.Platform          `json:"platform"`
	DeviceToken string                 `json:"deviceToken"`
	AppID       string                 `json:"appId,omitempty"`
	Environment config.PushEnvironment `json:"environment,omitempty"`
	// APNs is for an iPhone, FCM for an Android phone.
	APNs *apnsRequest       `json:"apns,omitempty"`
	FCM  *messaging.Message `json:"fcm,omitempty"`
}

// apnsRequest is Apple's payload with what are header fields there.
type apnsRequest struct {
	PushType string `json:"pushType"`
	Priority int    `json:"priority"`
	// Expiration is in seconds since 1970; 0 is never stored.
	Expiration int64           `json:"expiration"`
	CollapseID string          `json:"collapseId,omitempty"`
	Payload    json.RawMessage `json:"payload"`
}

// compose returns the body for n to a device.
func compose(n push.Notification, d push.Device, c config.CNS, now time.Time) ([]byte, error) {
	content := request{Platform: d.Platform, DeviceToken: d.Token, AppID: d.AppID, Environment: c.Environment}
	if d.Platform != push.IOS {
		message, err := fcm.Compose(n, "")
		if err != nil {
			return nil, err
		}
		content.FCM = message
		return json.Marshal(content)
	}
	composed, err := apns.Compose(n, d.Token, d.AppID, now, push.MaxPayload)
	if err != nil {
		return nil, err
	}
	payload, ok := composed.Payload.([]byte)
	if !ok {
		return nil, fmt.Errorf("the payload is a %T, not JSON", composed.Payload)
	}
	content.APNs = &apnsRequest{
		PushType: string(composed.PushType), Priority: composed.Priority, CollapseID: composed.CollapseID, Payload: payload,
	}
	if !composed.Expiration.IsZero() {
		content.APNs.Expiration = composed.Expiration.Unix()
	}
	return json.Marshal(content)
}
