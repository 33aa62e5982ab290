package sns

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"firebase.google.com/go/v4/messaging"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
)

// The message attributes that Amazon turns into Apple's header fields (AWS, "Amazon SNS message attributes"). TTL is
// the only one whose name holds the environment.
const (
	attributePushType   = "AWS.SNS.MOBILE.APNS.PUSH_TYPE"
	attributePriority   = "AWS.SNS.MOBILE.APNS.PRIORITY"
	attributeTopic      = "AWS.SNS.MOBILE.APNS.TOPIC"
	attributeCollapseID = "AWS.SNS.MOBILE.APNS.COLLAPSE_ID"
)

const (
	// defaultKey must stand in every message whose structure is json. A device gets what stands under its platform.
	defaultKey  = "default"
	defaultText = "ens"
)

// compose returns the request for n to a device, but for its target.
func compose(n push.Notification, d push.Device, application config.PlatformApplication, now time.Time) (*sns.PublishInput, error) {
	var payload []byte
	var attributes map[string]types.MessageAttributeValue
	var err error
	if application.IsApple() {
		payload, attributes, err = composeApple(n, d, application, now)
	} else {
		payload, err = composeGoogle(n)
	}
	if err != nil {
		return nil, err
	}
	message, err := json.Marshal(map[string]string{defaultKey: defaultText, application.Platform: string(payload)})
	if err != nil {
		return nil, err
	}
	return &sns.PublishInput{
		Message: new(string(message)), MessageStructure: new("json"), MessageAttributes: attributes,
	}, nil
}

// composeApple returns the payload as Apple is to get it, and what would be header fields there.
func composeApple(n push.Notification, d push.Device, application config.PlatformApplication, now time.Time) ([]byte, map[string]types.MessageAttributeValue, error) {
	request, err := apns.Compose(n, d.Token, d.AppID, now, push.MaxPayload)
	if err != nil {
		return nil, nil, err
	}
	payload, ok := request.Payload.([]byte)
	if !ok {
		return nil, nil, fmt.Errorf("the payload is a %T, not JSON", request.Payload)
	}
	timeToLive := 0
	if !request.Expiration.IsZero() {
		timeToLive = int(request.Expiration.Sub(now).Seconds())
	}
	attributes := map[string]types.MessageAttributeValue{}
	for name, text := range map[string]string{
		attributePushType:   string(request.PushType),
		attributePriority:   strconv.Itoa(request.Priority),
		attributeTopic:      request.Topic,
		attributeCollapseID: request.CollapseID,
		"AWS.SNS.MOBILE." + application.Platform + ".TTL": strconv.Itoa(timeToLive),
	} {
		if text != "" {
			attributes[name] = types.MessageAttributeValue{DataType: new("String"), StringValue: new(text)}
		}
	}
	return payload, attributes, nil
}

// composeGoogle returns the message as Google is to get it. Amazon adds the device's token.
func composeGoogle(n push.Notification) ([]byte, error) {
	message, err := fcm.Compose(n, "")
	if err != nil {
		return nil, err
	}
	var content struct {
		V1 struct {
			Message *messaging.Message `json:"message"`
		} `json:"fcmV1Message"`
	}
	content.V1.Message = message
	return json.Marshal(content)
}
