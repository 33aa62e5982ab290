package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// post is a SendNotification with these events.
func post(subscriptionID string, events ...string) []byte {
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Body>`+
		`<m:SendNotification xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">`+
		`<m:ResponseMessages><m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>`+
		`<m:Notification><t:SubscriptionId>%s</t:SubscriptionId><t:PreviousWatermark>AQ==</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>%s`+
		`</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>`,
		subscriptionID, strings.Join(events, ""))
}

const (
	stillThere = `<t:StatusEvent><t:Watermark>AQ==</t:Watermark></t:StatusEvent>`
	// folderChanged is the Inbox's own event, with and without its count: both are legal.
	folderChanged = `<t:ModifiedEvent><t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-11-21T12:00:00Z</t:TimeStamp>` +
		`<t:FolderId Id="AAMkInbox="/><t:ParentFolderId Id="AAMkRoot="/></t:ModifiedEvent>`
	folderHasOneUnread = `<t:ModifiedEvent><t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-11-21T12:00:00Z</t:TimeStamp>` +
		`<t:FolderId Id="AAMkInbox="/><t:ParentFolderId Id="AAMkRoot="/><t:UnreadCount>1</t:UnreadCount></t:ModifiedEvent>`
	mailThatIsGone = `<t:NewMailEvent><t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-11-21T12:00:00Z</t:TimeStamp>` +
		`<t:ItemId Id="AAMkGone="/><t:ParentFolderId Id="AAMkInbox="/></t:NewMailEvent>`
)

func TestACountThatLaterEventsMadeOldIsNotShown(t *testing.T) {
	t.Parallel()
	tests := map[string][][]string{
		"in one post":                {{folderHasOneUnread, folderChanged}},
		"in two posts that queue up": {{folderHasOneUnread}, {folderChanged}},
	}
	for name, posts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}})
			x.Start(t)
			ctx := runtimetest.Context(t)
			phone := x.Phone(alice, push.IOS)
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			item := deliver(t, x, lunch)
			if _, err := x.APNs.Wait(ctx, phone.DeviceToken, 1); err != nil {
				t.Fatal(err)
			}
			// From here on the test speaks for Exchange: the mail is read, and no post has told so yet.
			s := x.Exchange.Subscriptions()[0]
			x.Exchange.EndSubscriptions(alice, "")
			if err := x.Exchange.MarkRead(item); err != nil {
				t.Fatal(err)
			}
			begun, release := held(x)
			say := func(events ...string) {
				if c := x.Exchange.Post(ctx, s.URL, post(s.ID, events...)); c.Reply != "OK" {
					t.Fatalf("a post is answered %d %q: %v", c.Status, c.Reply, c.Err)
				}
			}
			say(mailThatIsGone)
			<-begun // the user is being worked on, what comes now queues up
			for _, events := range posts {
				say(events...)
			}
			release()
			runtimetest.Eventually(t, func() string {
				if badge := x.APNs.Screen(phone.DeviceToken).Badge; badge != 0 {
					return fmt.Sprintf("the badge is %d", badge)
				}
				return ""
			})
		})
	}
}
