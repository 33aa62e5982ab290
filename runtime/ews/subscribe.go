package ews

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// What Exchange accepts (ews.md, sections 0 and 1).
const (
	// MaxWebhookURLBytes is the longest webhook URL that Exchange does not refuse.
	MaxWebhookURLBytes = 2082
	minStatusFrequency = time.Minute
	maxStatusFrequency = 24 * time.Hour
)

// subscribedEvents is what the Inbox is watched for (protocol.md, To EWS). Status events come without being asked for.
var subscribedEvents = []EventKind{NewMail, Created, Modified, Moved, Deleted, Copied}

// SubscribeRequest is what Subscribe asks for.
type SubscribeRequest struct {
	// URL is the webhook, at most MaxWebhookURLBytes. It must be served before Subscribe is called: the first post may
	// come before Subscribe returns.
	URL string
	// StatusFrequency is the heartbeat, 1 minute to 24 hours, in whole minutes (H-01).
	StatusFrequency time.Duration
}

// Subscribe makes a push subscription on the user's own Inbox alone (W-13) and returns its id. It does not try again:
// every attempt needs a webhook URL of its own, since one whose answer was lost may have succeeded. See Transient.
func (s *Session) Subscribe(ctx context.Context, request SubscribeRequest) (subscriptionID string, err error) {
	if err := request.check(); err != nil {
		return "", err
	}
	defer s.forget()
	messages, _, err := s.call(ctx, OpSubscribe, exchange2010SP2, always(request.body()))
	if err != nil {
		return "", err
	}
	return s.parseSubscription(messages)
}

func (s *Session) parseSubscription(messages []*soap.Element) (subscriptionID string, err error) {
	message, err := s.only(OpSubscribe, messages)
	if err != nil {
		return "", err
	}
	id := message.Child(soap.Messages, "SubscriptionId").Text()
	if checkID(id) != nil || id == "" {
		return "", s.failure(OpSubscribe, http.StatusOK, fmt.Errorf("%w: no usable SubscriptionId", ErrResponse))
	}
	return id, nil
}

func (r SubscribeRequest) check() error {
	if r.URL == "" || len(r.URL) > MaxWebhookURLBytes {
		return fmt.Errorf("subscribing: the webhook URL has %d characters, Exchange takes 1 to %d; shorten the tenant's callbackURL",
			len(r.URL), MaxWebhookURLBytes)
	}
	if r.StatusFrequency < minStatusFrequency || r.StatusFrequency > maxStatusFrequency || r.StatusFrequency%time.Minute != 0 {
		return fmt.Errorf("subscribing: the status frequency is %s, Exchange takes 1 to 1440 whole minutes", r.StatusFrequency)
	}
	return nil
}

// body has the elements in the schema's order, which Exchange insists on.
func (r SubscribeRequest) body() string {
	var events strings.Builder
	for _, kind := range subscribedEvents {
		events.WriteString("<t:EventType>" + string(kind) + "</t:EventType>")
	}
	return `<m:Subscribe><m:PushSubscriptionRequest>` +
		`<t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds>` +
		`<t:EventTypes>` + events.String() + `</t:EventTypes>` +
		`<t:StatusFrequency>` + strconv.Itoa(int(r.StatusFrequency/time.Minute)) + `</t:StatusFrequency>` +
		`<t:URL>` + soap.Escape(r.URL) + `</t:URL>` +
		`</m:PushSubscriptionRequest></m:Subscribe>`
}

// only returns the one response message that a call about one thing has, unless it is an error.
func (s *Session) only(operation Operation, messages []*soap.Element) (*soap.Element, error) {
	if len(messages) != 1 {
		return nil, s.failure(operation, http.StatusOK, fmt.Errorf("%w: %d response messages, want 1", ErrResponse, len(messages)))
	}
	if err := s.messageError(operation, messages[0]); err != nil {
		return nil, err
	}
	return messages[0], nil
}
