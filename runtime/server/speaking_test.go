package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// speaking starts a tenant with one registered iPhone, and ends its subscription at Exchange: from here on the test speaks
// for Exchange, by the function that is returned, which waits until what it has said is dealt with.
func speaking(t *testing.T, o runtimetest.Options) (x *runtimetest.Tenant, token string, say func(events ...string)) {
	t.Helper()
	o.Exchange.Calm = true
	x = runtimetest.New(t, o)
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	s := x.Exchange.Subscriptions()[0]
	x.Exchange.EndSubscriptions(alice, "")
	return x, phone.DeviceToken, func(events ...string) {
		t.Helper()
		if c := x.Exchange.Post(runtimetest.Context(t), s.URL, post(s.ID, events...)); c.Reply != "OK" {
			t.Fatalf("a post is answered %d %q: %v", c.Status, c.Reply, c.Err)
		}
		settled(t, x)
	}
}

// badgesOf are the counts that the phone was told.
func badgesOf(x *runtimetest.Tenant, token string) (counts []int) {
	for _, n := range x.APNs.Notifications(token) {
		if n.APS.Badge != nil {
			counts = append(counts, *n.APS.Badge)
		}
	}
	return counts
}

func TestACountThatIsUnchangedIsNotPushed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setting config.UnchangedBadges
		want    []int
	}{
		"unless set":         {"", []int{1, 2}},
		"set to be left out": {config.UnchangedSuppress, []int{1, 2}},
		"set to be sent":     {config.UnchangedSend, []int{1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, token, say := speaking(t, runtimetest.Options{Configure: func(c *config.Config) { c.Notifications.UnchangedBadges = test.setting }})
			say(folderHasOneUnread)
			say(folderHasOneUnread)
			say(strings.Replace(folderHasOneUnread, "<t:UnreadCount>1<", "<t:UnreadCount>2<", 1))
			if got := badgesOf(x, token); !slices.Equal(got, test.want) {
				t.Errorf("the phone was told %v, want %v", got, test.want)
			}
		})
	}
}

func TestACountThatThePostBringsIsNotAskedFor(t *testing.T) {
	t.Parallel()
	x, token, say := speaking(t, runtimetest.Options{})
	before := len(x.Exchange.Requests())
	say(strings.Replace(folderHasOneUnread, "<t:UnreadCount>1<", "<t:UnreadCount>7<", 1))
	if got := badgesOf(x, token); !slices.Equal(got, []int{7}) {
		t.Errorf("the phone was told %v, want 7", got)
	}
	if n := len(x.Exchange.Requests()) - before; n != 0 {
		t.Errorf("Exchange was asked %d times for a count that it had told", n)
	}
	say(folderChanged) // without its count, which nobody but Exchange knows
	if got := badgesOf(x, token); !slices.Equal(got, []int{7, 0}) {
		t.Errorf("the phone was told %v, want 7 and 0", got)
	}
	asked := x.Exchange.Requests()[before:]
	if !slices.ContainsFunc(asked, func(r ewstest.Request) bool { return r.Operation == "GetFolder" }) {
		t.Errorf("Exchange was asked %v", asked)
	}
}

func TestAMailThatIsMovedOrDeletedLowersTheBadge(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(x *runtimetest.Tenant, item string) error{
		"moved to the deleted items": func(x *runtimetest.Tenant, item string) error {
			_, err := x.Exchange.Delete(item)
			return err
		},
		"deleted for good": func(x *runtimetest.Tenant, item string) error { return x.Exchange.HardDelete(item) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			runtimetest.MustRegister(t, phone, 7)
			first := deliver(t, x, lunch)
			deliver(t, x, lunch)
			settled(t, x)
			if badge := x.APNs.Screen(phone.DeviceToken).Badge; badge != 2 {
				t.Fatalf("the badge is %d after two mails", badge)
			}
			if err := remove(x, first); err != nil {
				t.Fatal(err)
			}
			settled(t, x)
			if badge := x.APNs.Screen(phone.DeviceToken).Badge; badge != 1 {
				t.Errorf("the badge is %d, want 1", badge)
			}
			if n := len(alertsOf(x, phone)); n != 2 {
				t.Errorf("%d alerts were shown for two mails", n)
			}
		})
	}
}

func TestAMailInAnotherFolderIsNotTold(t *testing.T) {
	t.Parallel()
	x, token, say := speaking(t, runtimetest.Options{})
	moved, err := x.Exchange.Delete(deliver(t, x, lunch)) // under its new id it can be fetched
	if err != nil {
		t.Fatal(err)
	}
	say(strings.Replace(mailThatIsGone, "AAMkGone=", moved, 1))
	say(strings.Replace(mailThatIsGone, "AAMkGone=", deliver(t, x, ewstest.Mail{FromName: "Carol", Subject: "Second"}), 1))
	var titles []string
	for _, n := range x.APNs.Notifications(token) {
		if n.APS.Alert != nil {
			titles = append(titles, n.APS.Alert.Title)
		}
	}
	if !slices.Equal(titles, []string{"Carol"}) {
		t.Errorf("shown are %q, want the mail in the Inbox alone", titles)
	}
}
