package server_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const alice = "alice@example.com"

var lunch = ewstest.Mail{FromName: "Bob Builder", FromAddress: "bob@example.com", Subject: "Lunch on Friday?", Preview: "Shall we meet at noon?"}

// deliver lets a mail arrive.
func deliver(t *testing.T, x *runtimetest.Tenant, m ewstest.Mail) (itemID string) {
	t.Helper()
	id, err := x.Exchange.Deliver(alice, m)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// heard waits until Exchange has had its first post of the mailbox answered.
func heard(t *testing.T, x *runtimetest.Tenant, reply string) {
	t.Helper()
	_, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Reply == reply })
	if err != nil {
		t.Fatalf("Exchange was never answered %s: %v", reply, err)
	}
}

func TestAMailReachesBothPhonesOfItsUser(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	ctx := runtimetest.Context(t)
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)

	registered := runtimetest.MustRegister(t, iphone, 7)
	if registered.Fields["subscriptionId"] == "" || registered.Fields["deviceRef"] == nil || registered.Fields["checkInSeconds"] != 1800.0 {
		t.Errorf("the answer lacks what the contract adds: %v", registered.Fields)
	}
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)

	item := deliver(t, x, lunch)
	alerts, err := x.APNs.Wait(ctx, iphone.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	aps := alerts[0].APS
	if aps.Alert == nil || aps.Alert.Title != lunch.FromName || aps.Alert.Subtitle != lunch.Subject {
		t.Errorf("the iPhone shows %+v", aps.Alert)
	}
	if aps.Alert != nil && aps.Alert.Body != "" {
		t.Errorf("policy 1 must not show the preview, but shows %q", aps.Alert.Body)
	}
	if aps.Badge == nil || *aps.Badge != 1 {
		t.Errorf("the badge is %v, want 1", aps.Badge)
	}
	data, err := x.FCM.Wait(ctx, android.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := data[0].Data; got["title"] != lunch.FromName || got["subtitle"] != lunch.Subject || got["unread"] != "1" {
		t.Errorf("the Android phone got %v", got)
	}

	if err := x.Exchange.MarkRead(item); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		if x.APNs.Screen(iphone.DeviceToken).Badge != 0 {
			return "the badge is not cleared after the mail was read"
		}
		return ""
	})

	unregister(t, iphone, 25)
	unregister(t, android, 24)
	x.Exchange.Heartbeat(alice)
	heard(t, x, "Unsubscribe")
	if n := len(alertsOf(x, iphone)); n != 1 {
		t.Errorf("the iPhone was shown %d alerts for one mail", n)
	}
}

func waitFresh(t *testing.T, phone *boxertest.Phone) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		answer, err := phone.Status(t.Context())
		if err != nil {
			return err.Error()
		}
		if answer.Code != 17 || answer.Fields["lastCallback"] == nil {
			return "the first callback has not been recorded"
		}
		return ""
	})
}

func unregister(t *testing.T, phone *boxertest.Phone, code int) {
	t.Helper()
	answer, err := phone.Unregister(t.Context())
	if err != nil || answer.Status != http.StatusOK || answer.Code != code {
		t.Fatalf("unregister was answered %d/%d, want 200/%d: %v", answer.Status, answer.Code, code, err)
	}
}

// alertsOf are the notifications that showed something.
func alertsOf(x *runtimetest.Tenant, phone *boxertest.Phone) (titles []string) {
	for _, n := range x.APNs.Notifications(phone.DeviceToken) {
		if n.APS.Alert != nil {
			titles = append(titles, n.APS.Alert.Title)
		}
	}
	return titles
}

func TestNothingIsShownForMailThatIsReadOrGoneBeforeItIsFetched(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(x *runtimetest.Tenant, item string) error{
		"read": func(x *runtimetest.Tenant, item string) error { return x.Exchange.MarkRead(item) },
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
			heard(t, x, "OK")

			begun, release := held(x)
			item := deliver(t, x, lunch)
			<-begun
			if err := change(x, item); err != nil {
				t.Fatal(err)
			}
			release()
			settled(t, x)
			deliver(t, x, ewstest.Mail{FromName: "Carol", Subject: "Second"}) // which shows that mail is told at all
			settled(t, x)
			if got := alertsOf(x, phone); !slices.Equal(got, []string{"Carol"}) {
				t.Errorf("shown are %q, want the second mail alone", got)
			}
		})
	}
}

func TestPoliciesCutWhatIsShown(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// policy is the device's, ceiling the tenant's.
		policy  int
		ceiling int32
		want    *[3]string
		// fields are those of the mail's contents that Exchange is asked for.
		fields []string
	}{
		"0 shows sender, subject and preview":                      {0, 0, &[3]string{lunch.FromName, lunch.Subject, lunch.Preview}, []string{"item:Preview", "item:Subject", "message:From", "message:Sender"}},
		"1 shows sender and subject":                               {1, 0, &[3]string{lunch.FromName, lunch.Subject, ""}, []string{"item:Subject", "message:From", "message:Sender"}},
		"2 shows the sender":                                       {2, 0, &[3]string{lunch.FromName, "", ""}, []string{"message:From", "message:Sender"}},
		"3 shows that there is a new message":                      {3, 0, &[3]string{"New message", "", ""}, nil},
		"4 sets the badge only":                                    {4, 0, nil, nil},
		"0 under a ceiling of 1 shows sender and subject":          {0, 1, &[3]string{lunch.FromName, lunch.Subject, ""}, []string{"item:Subject", "message:From", "message:Sender"}},
		"0 under a ceiling of 3 shows that there is a new message": {0, 3, &[3]string{"New message", "", ""}, nil},
		"0 under a ceiling of 4 sets the badge only":               {0, 4, nil, nil},
		"3 under a ceiling of 1 is as strict as the device asks":   {3, 1, &[3]string{"New message", "", ""}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Notifications.PolicyCeiling = test.ceiling }})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			phone.Extra = map[string]any{"notificationPolicy": test.policy}
			runtimetest.MustRegister(t, phone, 7)
			deliver(t, x, lunch)
			got, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1)
			if err != nil {
				t.Fatal(err)
			}
			aps := got[0].APS
			if aps.Badge == nil || *aps.Badge != 1 {
				t.Errorf("the badge is %v, want 1", aps.Badge)
			}
			switch {
			case test.want == nil && aps.Alert != nil:
				t.Errorf("something is shown: %+v", *aps.Alert)
			case test.want != nil && (aps.Alert == nil || [3]string{aps.Alert.Title, aps.Alert.Subtitle, aps.Alert.Body} != *test.want):
				t.Errorf("shown is %+v, want %q", aps.Alert, *test.want)
			}
			if asked := contentsAskedFor(x); !slices.Equal(asked, test.fields) {
				t.Errorf("Exchange was asked for %v of the mail's contents, want %v", asked, test.fields)
			}
		})
	}
}

// contentsAskedFor are the parts of a mail's contents that Exchange was asked for, each once.
func contentsAskedFor(x *runtimetest.Tenant) (fields []string) {
	for _, request := range x.Exchange.Requests() {
		if request.Operation == "GetItem" {
			fields = append(fields, request.Fields...)
		}
	}
	slices.Sort(fields)
	about := []string{"item:DateTimeReceived", "item:ItemClass", "item:ParentFolderId", "message:IsRead"}
	return slices.DeleteFunc(slices.Compact(fields), func(field string) bool { return slices.Contains(about, field) })
}
