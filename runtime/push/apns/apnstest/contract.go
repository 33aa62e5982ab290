package apnstest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2/hpack"
)

// Apple's limits ("Sending notification requests to APNs").
const (
	maxPayload    = 4096
	maxCollapseID = 64
	// minToken and maxToken bound a device token, in bytes.
	minToken = 32
	maxToken = 100

	reasonTooManyUpdates = "TooManyProviderTokenUpdates"
)

// refusal is an answer other than 200.
type refusal struct {
	status    int
	reason    string
	timestamp time.Time
	// why explains it in the log, without anything of the push.
	why string
}

func refuse(status int, reason, why string) *refusal {
	return &refusal{status: status, reason: reason, why: why}
}

func badRequest(reason, why string) *refusal { return refuse(http.StatusBadRequest, reason, why) }

// received is a request as it came in.
type received struct {
	fields []hpack.HeaderField
	body   []byte
	// size is the body's true length; body is cut.
	size int
}

// values returns all values of a header field, whose names are lower-case in HTTP/2.
func (r *received) values(name string) []string {
	var values []string
	for _, field := range r.fields {
		if field.Name == name {
			values = append(values, field.Value)
		}
	}
	return values
}

func (r *received) value(name string) string {
	if values := r.values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// token returns the device token in the path, or how to refuse.
func (r *received) token() (string, *refusal) {
	if r.value(":method") != http.MethodPost {
		return "", refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "the method is not POST")
	}
	token, found := strings.CutPrefix(r.value(":path"), "/3/device/")
	if !found {
		return "", refuse(http.StatusNotFound, "BadPath", "the path is not /3/device/<token>")
	}
	if token == "" {
		return "", badRequest("MissingDeviceToken", "no device token in the path")
	}
	raw, err := hex.DecodeString(token)
	if err != nil || len(raw) < minToken || len(raw) > maxToken {
		return "", badRequest("BadDeviceToken", "the device token is not the hex form of 32 to 100 bytes")
	}
	return token, nil
}

// notification reads the header fields and the payload as Apple does, or says how to refuse.
func (r *received) notification() (Notification, *refusal) {
	for _, name := range []string{"apns-topic", "apns-push-type", "apns-priority", "apns-expiration", "apns-collapse-id", "apns-id", "authorization"} {
		if len(r.values(name)) > 1 {
			return Notification{}, badRequest("DuplicateHeaders", name+" stands twice")
		}
	}
	n := Notification{
		ID: r.value("apns-id"), Topic: r.value("apns-topic"), PushType: r.value("apns-push-type"),
		CollapseID: r.value("apns-collapse-id"), Priority: priorityHigh, Expiration: NoExpiration,
	}
	if n.ID == "" {
		n.ID = uuid.NewString()
	} else if _, err := uuid.Parse(n.ID); err != nil {
		return n, badRequest("BadMessageId", "apns-id is not a UUID")
	}
	if n.Topic == "" {
		return n, badRequest("MissingTopic", "no apns-topic")
	}
	if len(n.CollapseID) > maxCollapseID {
		return n, badRequest("BadCollapseId", "apns-collapse-id is longer than 64 bytes")
	}
	if text := r.value("apns-expiration"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds < 0 {
			return n, badRequest("BadExpirationDate", "apns-expiration is not a number of seconds")
		}
		n.Expiration = seconds
	}
	if text := r.value("apns-priority"); text != "" {
		n.Priority, _ = strconv.Atoi(text)
	}
	if n.Priority != priorityHigh && n.Priority != priorityNormal && n.Priority != priorityLow {
		return n, badRequest("BadPriority", "apns-priority is not 10, 5 or 1")
	}
	return n, r.readPayload(&n)
}

// The priorities.
const (
	priorityHigh   = 10
	priorityNormal = 5
	priorityLow    = 1
)

// readPayload reads the body and checks it against the push type.
func (r *received) readPayload(n *Notification) *refusal {
	switch {
	case r.size == 0:
		return badRequest("PayloadEmpty", "no body")
	case r.size > maxPayload:
		return refuse(http.StatusRequestEntityTooLarge, "PayloadTooLarge", "the payload is longer than 4096 bytes")
	}
	var document map[string]json.RawMessage
	if json.Unmarshal(r.body, &document) != nil || len(document["aps"]) == 0 {
		return badRequest("PayloadEmpty", "the body is not a JSON object with aps")
	}
	aps := json.NewDecoder(bytes.NewReader(document["aps"]))
	aps.DisallowUnknownFields()
	if err := aps.Decode(&n.APS); err != nil {
		// Apple ignores what it does not know; the fake helps to find what is misspelled.
		return badRequest("PayloadEmpty", "aps has a field of an unknown name or a wrong type")
	}
	n.Payload = r.body
	return checkPushType(n)
}

// checkPushType is Apple's rule of what goes with what.
func checkPushType(n *Notification) *refusal {
	visible := n.APS.Alert != nil || n.APS.Badge != nil || n.APS.Sound != ""
	switch n.PushType {
	case "alert":
		if !visible {
			return badRequest("InvalidPushType", "push type alert without alert, badge or sound")
		}
	case "background":
		if n.Priority != priorityNormal {
			return badRequest("BadPriority", "push type background needs priority 5")
		}
		if visible || n.APS.ContentAvailable != 1 {
			return badRequest("InvalidPushType", "push type background is for content-available alone")
		}
	default:
		return badRequest("InvalidPushType", "apns-push-type is neither alert nor background")
	}
	if n.APS.Badge != nil && *n.APS.Badge < 0 {
		return badRequest("PayloadEmpty", "the badge is negative")
	}
	return nil
}

// Judge reads a push as Apple's server does that somebody else passes on, and returns it, or why Apple would refuse it.
// Header holds the header fields by their lower-case names.
func Judge(header map[string]string, payload []byte) (Notification, error) {
	passed := &received{body: payload, size: len(payload)}
	for name, value := range header {
		passed.fields = append(passed.fields, hpack.HeaderField{Name: name, Value: value})
	}
	n, refused := passed.notification()
	if refused != nil {
		return Notification{}, errors.New(refused.reason + ": " + refused.why)
	}
	return n, nil
}
