package ewstest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

func TestUnreadCountsFollowTheMail(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	want := func(count int) {
		t.Helper()
		if got := exchange.Unread(alice); got != count {
			t.Fatalf("%d unread, want %d", got, count)
		}
	}
	want(0)
	first, err := exchange.Deliver(alice, ewstest.Mail{Subject: "one"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := exchange.Deliver(alice, ewstest.Mail{Subject: "two"})
	if err != nil {
		t.Fatal(err)
	}
	want(2)
	if err := exchange.MarkRead(first); err != nil {
		t.Fatal(err)
	}
	want(1)
	deleted, err := exchange.Delete(second)
	if err != nil || deleted == second {
		t.Fatalf("deleted to %q, error %v; a move must change the id", deleted, err)
	}
	want(0)
	back, err := exchange.Move(deleted, "inbox")
	if err != nil {
		t.Fatal(err)
	}
	want(1)
	if err := exchange.HardDelete(back); err != nil {
		t.Fatal(err)
	}
	want(0)
	if err := exchange.MarkRead(back); err == nil {
		t.Error("a mail that is gone was marked as read")
	}
	if _, err := exchange.Deliver("nobody@example.com", ewstest.Mail{}); err == nil || exchange.Unread("nobody@example.com") != -1 {
		t.Error("there is a mailbox that was never added")
	}
}

func TestPreviewsEndAfter256UnitsButNotInsideACharacter(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Calm: true})
	for name, preview := range map[string][2]string{
		"exactly 256":                       {strings.Repeat("a", 256), strings.Repeat("a", 256)},
		"one more":                          {strings.Repeat("a", 257), strings.Repeat("a", 256)},
		"a character of two units at 256":   {strings.Repeat("a", 255) + "😀b", strings.Repeat("a", 255)},
		"a character of two units till 256": {strings.Repeat("a", 254) + "😀b", strings.Repeat("a", 254) + "😀"},
	} {
		id, err := exchange.Deliver(alice, ewstest.Mail{Preview: preview[0]})
		if err != nil {
			t.Fatal(err)
		}
		_, answer := ask(t, exchange, envelope("Exchange2013", strings.Replace(getItem("item:Preview"), "AAMk", id, 1)))
		if !strings.Contains(answer, "<t:Preview>"+preview[1]+"</t:Preview>") {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

func TestASlowAnswerComesAndItsRequestCanBeWaitedFor(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Compression: 3600 * 1000}) // an hour in a millisecond
	exchange.OnRequest(func(string, string) ewstest.Fault { return ewstest.Fault{Delay: time.Hour} })
	if status, _ := ask(t, exchange, envelope("Exchange2010", getInbox)); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	request, err := exchange.WaitRequest(testContext(t), func(r ewstest.Request) bool { return r.User == alice })
	if err != nil || request.Operation != "GetFolder" || request.Code != "NoError" || request.Number != 1 {
		t.Errorf("recorded %+v, error %v", request, err)
	}
}

func TestTheEndOfASubscriptionCanBeWaitedFor(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	url, _ := listener(t, answerOK)
	subscribe(t, exchange, url)
	go exchange.EndSubscriptions(alice, "")
	ended, err := exchange.WaitSubscription(testContext(t), func(s ewstest.Subscription) bool { return s.Ended != "" })
	if err != nil || ended.Ended != ewstest.EndedByServer || ended.URL != url || ended.Mailbox != alice {
		t.Errorf("ended: %q, error %v", ended.Ended, err)
	}
}
