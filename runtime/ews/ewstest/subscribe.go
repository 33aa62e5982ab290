package ewstest

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// maxWebhookURL is the longest webhook URL that Exchange takes (ews.md, section 0).
const maxWebhookURL = 2082

// subscribe makes a push subscription. It runs with s.mu held, which it gives up while the first post is under way.
func (s *Server) subscribe(c *call, _ int) *answer {
	request := c.body.Child(soap.Messages, "PushSubscriptionRequest")
	sub, code := s.newSubscription(c, request)
	if code != "" {
		return failed("Subscribe", code, "")
	}
	before := s.options.FirstPost == FirstPostBeforeAnswer || s.options.FirstPost == FirstPostDrawn && s.awkwardly()
	s.start(sub)
	a := responses("Subscribe", "NoError", responseMessage("Subscribe", "Success", "NoError",
		`<m:SubscriptionId>`+sub.id+`</m:SubscriptionId><m:Watermark>`+watermark(sub.poster.watermark)+`</m:Watermark>`))
	if !before {
		a.after = sub.run
		return a
	}
	s.mu.Unlock()
	sub.run()
	sub.awaitFirst(c.request.Context())
	s.mu.Lock()
	return a
}

// awaitFirst waits until the first post has been answered or has failed.
func (sub *subscription) awaitFirst(ctx context.Context) {
	select {
	case <-sub.poster.first:
	case <-ctx.Done():
	case <-sub.server.ctx.Done():
	}
}

// newSubscription reads the request; code is why it is refused.
func (s *Server) newSubscription(c *call, request *soap.Element) (sub *subscription, code string) {
	address := request.Child(soap.Types, "URL").Text()
	if !acceptableWebhook(address) {
		return nil, "ErrorInvalidPushSubscriptionUrl"
	}
	sub = &subscription{box: c.user, address: c.user.Address, url: address, version: c.version}
	if code := s.watch(sub, c.user, request); code != "" {
		return nil, code
	}
	for _, kind := range request.Child(soap.Types, "EventTypes").Children {
		sub.kinds = append(sub.kinds, kind.Text())
	}
	minutes, err := strconv.Atoi(request.Child(soap.Types, "StatusFrequency").Text())
	if err != nil {
		return nil, "ErrorInvalidSubscriptionRequest" // the schema has been checked before
	}
	sub.frequency = time.Duration(minutes) * time.Minute
	if len(s.live(c.user)) >= s.options.MaxSubscriptions {
		return nil, "ErrorExceededSubscriptionCount"
	}
	return sub, ""
}

// watch finds the folders: those named, or all, but not both, and only the user's own (ews.md, section 1).
func (s *Server) watch(sub *subscription, user *mailbox, request *soap.Element) (code string) {
	all := slices.Contains([]string{"true", "1"}, request.Attribute("SubscribeToAllFolders"))
	ids := request.Child(soap.Types, "FolderIds")
	if all == (ids != nil) {
		return "ErrorInvalidSubscriptionRequest"
	}
	if all {
		sub.watched = user.folders()
		return ""
	}
	for _, element := range ids.Children {
		box, folder, code := s.openFolder(user, element)
		if code != "" {
			return code
		}
		if box != user {
			return "ErrorSubscriptionDelegateAccessNotSupported"
		}
		sub.watched = append(sub.watched, folder)
	}
	return ""
}

func acceptableWebhook(address string) bool {
	if address == "" || len(address) > maxWebhookURL {
		return false
	}
	target, err := url.Parse(address)
	return err == nil && target.Host != "" && (target.Scheme == "http" || target.Scheme == "https")
}
