package snstest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

const (
	// maxMessage is Amazon's limit for a message in bytes.
	maxMessage = 256 << 10
	// maxTTL is the longest time to live: 28 days, as Google keeps messages.
	maxTTL = 28 * 24 * 60 * 60
)

// Notification is what a phone gets: of Apple or of Google.
type Notification struct {
	// Apple is nil for an Android phone. Its Expiration is the time to live in seconds, apnstest.NoExpiration without.
	Apple *apnstest.Notification
	// Google is nil for an iPhone.
	Google *fcmtest.Message
}

// Notifications returns what a phone was sent, in order.
func (s *Server) Notifications(token string) []Notification { return s.received.List(token) }

// Wait returns like Notifications as soon as the phone was sent n in all, or when ctx ends.
func (s *Server) Wait(ctx context.Context, token string, n int) ([]Notification, error) {
	return s.received.Wait(ctx, token, n)
}

// published is the answer to Publish.
type published struct {
	XMLName   struct{} `xml:"PublishResult"`
	MessageID string   `xml:"MessageId"`
}

func (s *Server) publish(form url.Values) (any, *refusal) {
	target := s.endpoints[form.Get("TargetArn")]
	text, err := messageFor(form, target)
	switch {
	case target == nil && s.whim():
		return nil, invalid("TargetArn", "No endpoint found for the target arn specified")
	case target == nil:
		return nil, refuse(http.StatusNotFound, "NotFound", "Endpoint does not exist")
	case target.app.disabled:
		return nil, refuse(http.StatusBadRequest, "PlatformApplicationDisabled", "the application is disabled")
	case !target.enabled:
		return nil, refuse(http.StatusBadRequest, "EndpointDisabled", "Endpoint is disabled")
	case err != nil:
		return nil, err
	}
	n, err := judge(form, target, text)
	if err != nil {
		return nil, err
	}
	s.stats.Accepted++
	if s.gone[target.token] {
		// Apple or Google says so after Amazon has accepted.
		target.enabled = false
	} else if s.options.Observe != nil {
		s.options.Observe(target.token, n)
	} else {
		s.received.Add(target.token, n)
	}
	return published{MessageID: uuid.NewString()}, nil
}

// messageFor returns the part of the message that is for the target's platform.
func messageFor(form url.Values, target *endpoint) (string, *refusal) {
	message := form.Get("Message")
	var parts map[string]string
	switch {
	case form.Has("TopicArn") || form.Has("PhoneNumber"):
		return "", invalid("TargetArn", "only one of TopicArn, TargetArn and PhoneNumber may be given")
	case message == "":
		return "", invalid("Message", "Empty message")
	case len(message) > maxMessage:
		return "", invalid("Message", "Message too long")
	case form.Get("MessageStructure") != "json":
		return "", invalid("MessageStructure", "the fake takes json only")
	case json.Unmarshal([]byte(message), &parts) != nil:
		return "", invalid("Message Structure", "JSON message body failed to parse")
	case parts["default"] == "":
		return "", invalid("Message Structure", "No default entry in JSON message body")
	case target == nil:
		return "", nil
	case parts[target.app.platform] == "":
		// Amazon would send the default text, which no app of ours understands.
		return "", invalid("Message Structure", "no entry for the platform")
	}
	return parts[target.app.platform], nil
}

// judge reads what Apple or Google would get.
func judge(form url.Values, target *endpoint, text string) (Notification, *refusal) {
	attributes := entries(form, "MessageAttributes", "Name", "Value.StringValue")
	for n := range len(attributes) {
		if form.Get("MessageAttributes.entry."+strconv.Itoa(n+1)+".Value.DataType") != "String" {
			return Notification{}, refuse(http.StatusBadRequest, "ParameterValueInvalid", "a message attribute is no String")
		}
	}
	if target.app.platform == FCM {
		return judgeGoogle(attributes, target, text)
	}
	header := map[string]string{}
	for attribute, field := range map[string]string{
		"AWS.SNS.MOBILE.APNS.PUSH_TYPE":                  "apns-push-type",
		"AWS.SNS.MOBILE.APNS.PRIORITY":                   "apns-priority",
		"AWS.SNS.MOBILE.APNS.TOPIC":                      "apns-topic",
		"AWS.SNS.MOBILE.APNS.COLLAPSE_ID":                "apns-collapse-id",
		"AWS.SNS.MOBILE." + target.app.platform + ".TTL": "apns-expiration",
	} {
		if value, given := attributes[attribute]; given {
			header[field] = value
			delete(attributes, attribute)
		}
	}
	if header["apns-topic"] == "" {
		header["apns-topic"] = "the application's"
	}
	if seconds, given := header["apns-expiration"]; given && !isTTL(seconds) {
		return Notification{}, refuse(http.StatusBadRequest, "ParameterValueInvalid", "the time to live is no number of seconds")
	}
	if len(attributes) > 0 {
		return Notification{}, refuse(http.StatusBadRequest, "ParameterValueInvalid", "a message attribute is misspelled or another platform's")
	}
	n, err := apnstest.Judge(header, []byte(text))
	if err != nil {
		return Notification{}, invalid("Message", err.Error())
	}
	return Notification{Apple: &n}, nil
}

func isTTL(text string) bool {
	seconds, err := strconv.Atoi(text)
	return err == nil && seconds >= 0 && seconds <= maxTTL
}

func judgeGoogle(attributes map[string]string, target *endpoint, text string) (Notification, *refusal) {
	if len(attributes) > 0 {
		return Notification{}, refuse(http.StatusBadRequest, "ParameterValueInvalid", "a message attribute is misspelled or another platform's")
	}
	var content struct {
		V1 map[string]map[string]any `json:"fcmV1Message"`
	}
	if err := json.Unmarshal([]byte(text), &content); err != nil || content.V1["message"] == nil {
		return Notification{}, invalid("Message", "the entry for GCM is not a fcmV1Message")
	}
	message := content.V1["message"]
	if _, given := message["token"]; given {
		return Notification{}, invalid("Message", "the token is Amazon's to add")
	}
	message["token"] = target.token
	passed, err := json.Marshal(content.V1)
	if err != nil {
		return Notification{}, invalid("Message", "the entry for GCM cannot be passed on")
	}
	m, err := fcmtest.Judge(passed)
	if err != nil {
		return Notification{}, invalid("Message", err.Error())
	}
	return Notification{Google: &m}, nil
}
