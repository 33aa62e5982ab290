package apns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/pushtest"
)

func TestWhatApplesServerGets(t *testing.T) {
	t.Parallel()
	short := push.Notification{
		Kind: push.NewMail, Title: "Ada", Subtitle: "Cards", Body: "See <attached>", Unread: new(3), Sound: "default",
		MessageID: "AAMk=", UserID: "1743", CollapseID: "mail-1",
	}
	with := func(change func(*push.Notification)) push.Notification {
		n := short
		change(&n)
		return n
	}
	const day = int64(24 * 60 * 60)
	tests := map[string]struct {
		n          push.Notification
		payload    string
		pushType   string
		priority   int
		expiration int64
	}{
		"mail": {
			n: short,
			payload: `{"aps":{"alert":{"title":"Ada","subtitle":"Cards","body":"See \u003cattached\u003e"},"badge":3,"sound":"default",` +
				`"mutable-content":1,"thread-id":"1743","category":"ENS_MAIL"},"ens":{"messageId":"AAMk=","userId":"1743","event":"newMail"}}`,
			pushType: "alert", priority: 10, expiration: day,
		},
		"mail of an unknown count, silently, with the sender alone": {
			n: with(func(n *push.Notification) { n.Subtitle, n.Body, n.Sound, n.Unread = "", "", "", nil }),
			payload: `{"aps":{"alert":{"title":"Ada"},"mutable-content":1,"thread-id":"1743","category":"ENS_MAIL"},` +
				`"ens":{"messageId":"AAMk=","userId":"1743","event":"newMail"}}`,
			pushType: "alert", priority: 10, expiration: day,
		},
		"mail under policy 4 is a badge": {
			n:        with(func(n *push.Notification) { n.Title, n.Subtitle, n.Body = "", "", "" }),
			payload:  `{"aps":{"badge":3},"ens":{"messageId":"AAMk=","userId":"1743","event":"newMail"}}`,
			pushType: "alert", priority: 5, expiration: 0,
		},
		"mail under policy 4 of an unknown count wakes the app": {
			n:        with(func(n *push.Notification) { n.Title, n.Subtitle, n.Body, n.Unread = "", "", "", nil }),
			payload:  `{"aps":{"content-available":1},"ens":{"messageId":"AAMk=","userId":"1743","event":"newMail"}}`,
			pushType: "background", priority: 5, expiration: day,
		},
		"badge": {
			n:        push.Notification{Kind: push.Badge, Unread: new(0), UserID: "1743"},
			payload:  `{"aps":{"badge":0},"ens":{"userId":"1743","event":"badge"}}`,
			pushType: "alert", priority: 5, expiration: 0,
		},
		"resubscribe": {
			n:        push.Notification{Kind: push.Resubscribe, Unread: new(9), UserID: "1743"},
			payload:  `{"aps":{"content-available":1},"ens":{"event":"resubscribe"}}`,
			pushType: "background", priority: 5, expiration: day,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, clock := atTime(t, time.Minute)
			d := w.phone()
			w.push(t, d, test.n)
			got := w.last(t, d)
			if string(got.Payload) != test.payload {
				t.Errorf("payload\n got %s\nwant %s", got.Payload, test.payload)
			}
			expiration := test.expiration
			if expiration != 0 {
				expiration += clock.Now().Unix()
			}
			if got.PushType != test.pushType || got.Priority != test.priority || got.Expiration != expiration {
				t.Errorf("push type %s, priority %d, expiration %d; want %s, %d, %d",
					got.PushType, got.Priority, got.Expiration, test.pushType, test.priority, expiration)
			}
			if got.Topic != topic || got.CollapseID != test.n.CollapseID {
				t.Errorf("topic %q, collapse id %q", got.Topic, got.CollapseID)
			}
		})
	}
}

func TestALongCollapseIDStillTellsMailsApart(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	for _, id := range []string{"a", "b", "a"} {
		mail := pushtest.Mail()
		mail.Title, mail.CollapseID = id, strings.Repeat("x", 100)+id
		w.push(t, d, mail)
	}
	if screen := w.apple.Screen(d.Token); len(screen.Alerts) != 2 || screen.Badge != 3 {
		t.Errorf("screen = %+v, want one alert for each of two mails", screen)
	}
}

func TestTheOnlyTopicServesDevicesThatNameNone(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	d := w.phone()
	d.AppID = ""
	w.push(t, d, pushtest.Mail())

	two := start(t, apnstest.Options{Calm: true}, func(o *apns.Options) { o.Config.Topics = []string{topic, "com.example.other"} })
	d = two.phone()
	d.AppID = ""
	if err := two.Push(t.Context(), d, pushtest.Mail()); push.OutcomeOf(err) != push.Misconfigured {
		t.Errorf("with two topics: err = %v, want a misconfiguration", err)
	}
}

func TestANotificationThatFitsInNoWayIsRejected(t *testing.T) {
	t.Parallel()
	w := start(t, apnstest.Options{Calm: true}, nil)
	mail := pushtest.Mail()
	mail.MessageID = strings.Repeat("x", push.MaxPayload)
	if err := w.Push(t.Context(), w.phone(), mail); push.OutcomeOf(err) != push.Rejected {
		t.Errorf("err = %v, want a rejection", err)
	}
}
