package ewstest_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

func TestAFailedPostIsRepeatedAsDocumentedAndThenTheSubscriptionIsDropped(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	exchange := start(t, ewstest.Options{Clock: clock})
	url, _ := listener(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusServiceUnavailable) })
	subscribe(t, exchange, url)
	// Elapsed: 0, 0:30, 1, 2, 4, 8 minutes; 16 would be more than the status frequency of 15.
	waits := []time.Duration{30 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute}
	for i, wait := range waits {
		callback := awaitCallback(t, exchange, numbered(i+1))
		if callback.Attempt != i+1 || callback.Status != http.StatusServiceUnavailable || callback.Err == nil {
			t.Fatalf("post %d: attempt %d, status %d, error %v", i+1, callback.Attempt, callback.Status, callback.Err)
		}
		clock.Step(wait - time.Second)
		if got := len(exchange.Callbacks()); got != i+1 {
			t.Fatalf("%d posts a second before the time for number %d", got, i+2)
		}
		clock.Step(time.Second)
	}
	awaitCallback(t, exchange, numbered(6))
	ended := exchange.Subscriptions()[0].Ended
	if ended != ewstest.EndedByRetry {
		t.Errorf("after the sixth failure: %q, want %q", ended, ewstest.EndedByRetry)
	}
	if live := exchange.Heartbeat(alice); live != 0 {
		t.Errorf("%d live subscriptions", live)
	}
}

func TestAHeartbeatComesWhenNothingHasHappenedForTheStatusFrequency(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := start(t, ewstest.Options{Clock: clock, Calm: true})
	url, _ := listener(t, answerOK)
	subscribe(t, exchange, url)
	awaitCallback(t, exchange, numbered(1))
	clock.Step(10 * time.Minute)
	if _, err := exchange.Deliver(alice, ewstest.Mail{Subject: "x"}); err != nil {
		t.Fatal(err)
	}
	if mail := awaitCallback(t, exchange, numbered(2)); !slices.Contains(mail.Events, "NewMailEvent") {
		t.Fatalf("the second post holds %v", mail.Events)
	}
	clock.Step(14 * time.Minute) // 24 after the first, 14 after the second
	if got := len(exchange.Callbacks()); got != 2 {
		t.Fatalf("%d posts, want 2", got)
	}
	clock.Step(time.Minute)
	if third := awaitCallback(t, exchange, numbered(3)); !slices.Equal(third.Events, []string{"StatusEvent"}) || third.Reply != "OK" {
		t.Errorf("the third post holds %v, reply %q", third.Events, third.Reply)
	}
}

func TestUnsubscribeEndsTheSubscription(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	url, _ := listener(t, func(w http.ResponseWriter, number int) {
		ews.WriteReply(w, map[bool]ews.SubscriptionStatus{true: ews.OK, false: ews.Unsubscribe}[number == 1])
	})
	subscribe(t, exchange, url)
	awaitCallback(t, exchange, numbered(1))
	if live := exchange.Heartbeat(alice); live != 1 {
		t.Fatalf("%d live subscriptions, want 1", live)
	}
	if callback := awaitCallback(t, exchange, numbered(2)); callback.Reply != "Unsubscribe" || callback.Err != nil {
		t.Errorf("reply %q, error %v", callback.Reply, callback.Err)
	}
	if got := exchange.Subscriptions()[0].Ended; got != ewstest.EndedByReply {
		t.Errorf("ended: %q", got)
	}
}

func TestRepliesAreReadStrictly(t *testing.T) {
	t.Parallel()
	reply := func(change func(w http.ResponseWriter)) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Type", "text/xml; charset=utf-8")
			change(w)
		}
	}
	write := func(content string) func(http.ResponseWriter, int) {
		return reply(func(w http.ResponseWriter) { _, _ = w.Write([]byte(content)) })
	}
	cases := map[string]struct {
		handler func(http.ResponseWriter, int)
		want    string
	}{
		"status 202":    {reply(func(w http.ResponseWriter) { w.WriteHeader(202); _, _ = w.Write([]byte(ews.ReplyOK)) }), "status 202"},
		"a redirect":    {reply(func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(302) }), "status 302"},
		"an empty body": {write(""), "malformed SOAP"},
		"another type": {reply(func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/xml; charset=utf-8")
			_, _ = w.Write([]byte(ews.ReplyOK))
		}), "Content-Type"},
		"no charset": {reply(func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/xml")
			_, _ = w.Write([]byte(ews.ReplyOK))
		}), "Content-Type"},
		"chunked": {reply(func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte(ews.ReplyOK))
		}), "no Content-Length"},
		"compressed": {reply(func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte(ews.ReplyOK))
		}), "compressed"},
		"the types namespace":    {write(strings.ReplaceAll(ews.ReplyOK, "/messages", "/types")), "no SendNotificationResult"},
		"status without a space": {write(strings.ReplaceAll(ews.ReplyOK, "m:SubscriptionStatus", "SubscriptionStatus")), "no SubscriptionStatus"},
		"an unknown status":      {write(strings.ReplaceAll(ews.ReplyOK, ">OK<", ">ok<")), "no SubscriptionStatus"},
		"no reply at all":        {func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }, "no reply: EOF"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange := start(t, ewstest.Options{})
			url, _ := listener(t, c.handler)
			subscribe(t, exchange, url)
			callback := awaitCallback(t, exchange, numbered(1))
			if callback.Reply != "" || callback.Err == nil || !strings.Contains(callback.Err.Error(), c.want) {
				t.Errorf("reply %q, error %v, want one with %q", callback.Reply, callback.Err, c.want)
			}
		})
	}
}

func TestTheFirstPostCanComeBeforeOrAfterTheAnswerToSubscribe(t *testing.T) {
	t.Parallel()
	for first, before := range map[ewstest.FirstPost]bool{ewstest.FirstPostBeforeAnswer: true, ewstest.FirstPostAfterAnswer: false} {
		exchange := start(t, ewstest.Options{FirstPost: first})
		answered := make(chan struct{})
		url, _ := listener(t, func(w http.ResponseWriter, _ int) {
			if !before {
				<-answered // never comes if the answer waits for this post
			}
			answerOK(w, 0)
		})
		subscribe(t, exchange, url)
		if before && len(exchange.Callbacks()) != 1 {
			t.Error("Subscribe was answered before the first post")
		}
		close(answered)
		if callback := awaitCallback(t, exchange, numbered(1)); !slices.Equal(callback.Events, []string{"StatusEvent"}) {
			t.Errorf("the first post holds %v", callback.Events)
		}
	}
}

func TestOnePostIsOutstandingAtATimeAndLaterEventsWait(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	release := make(chan struct{})
	url, bodies := listener(t, func(w http.ResponseWriter, number int) {
		if number == 2 {
			<-release
		}
		answerOK(w, number)
	})
	subscribe(t, exchange, url)
	awaitCallback(t, exchange, numbered(1))
	<-bodies
	var ids []string
	for i := range 3 {
		id, err := exchange.Deliver(alice, ewstest.Mail{Subject: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		if i == 0 {
			<-bodies // the post that is held back
		}
	}
	if len(bodies) != 0 {
		t.Error("a second post was sent while the first is not answered")
	}
	close(release)
	for _, id := range ids {
		awaitCallback(t, exchange, func(c ewstest.Callback) bool { return slices.Contains(c.ItemIDs, id) && c.Reply == "OK" })
	}
}

func TestALostReplyMakesTheSamePostComeAgain(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := start(t, ewstest.Options{Clock: clock})
	exchange.LoseReplies(1)
	url, bodies := listener(t, answerOK)
	subscribe(t, exchange, url)
	if first := awaitCallback(t, exchange, numbered(1)); first.Err == nil || first.Status != http.StatusOK {
		t.Fatalf("status %d, error %v", first.Status, first.Err)
	}
	clock.Step(30 * time.Second)
	awaitCallback(t, exchange, func(c ewstest.Callback) bool { return c.Attempt == 2 && c.Reply == "OK" })
	if one, two := <-bodies, <-bodies; one != two {
		t.Errorf("posted\n%s\nand then\n%s", one, two)
	}
}

func TestALostAnswerToSubscribeLeavesASubscriptionBehind(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	url, _ := listener(t, answerOK)
	exchange.OnRequest(func(operation, user string) ewstest.Fault {
		return ewstest.Fault{LoseAnswer: operation == "Subscribe" && user == alice}
	})
	request, err := http.NewRequestWithContext(testContext(t), http.MethodPost, exchange.URL(), strings.NewReader(
		envelope("Exchange2010", subscribeBody(inboxIDs+allEvents+frequency+`<t:URL>`+url+`</t:URL>`))))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(alice, password)
	request.Header.Set("Content-Type", "text/xml")
	if response, err := client(t, exchange).Do(request); err == nil {
		response.Body.Close()
		t.Fatal("an answer came")
	}
	awaitCallback(t, exchange, func(c ewstest.Callback) bool { return c.Reply == "OK" })
	if request := exchange.Requests()[0]; request.Status != 0 || request.Operation != "Subscribe" {
		t.Errorf("recorded %+v", request)
	}
}

func TestAHeldRequestGoesOnWhenItIsReleased(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Calm: true})
	release := make(chan struct{})
	exchange.OnRequest(func(string, string) ewstest.Fault { close(release); return ewstest.Fault{Wait: release} })
	if status, _ := ask(t, exchange, envelope("Exchange2010", getInbox)); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestErrorPostsEndTheSubscription(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	url, bodies := listener(t, answerOK)
	subscribe(t, exchange, url)
	awaitCallback(t, exchange, numbered(1))
	<-bodies
	exchange.EndSubscriptions(alice, "ErrorReadEventsFailed")
	notification, err := ews.ParseNotification([]byte(<-bodies))
	if err != nil || notification.Messages[0].ResponseCode != ews.ErrorReadEventsFailed || notification.Messages[0].SubscriptionID != "" {
		t.Errorf("posted %+v, error %v", notification, err)
	}
	if got := exchange.Subscriptions()[0].Ended; got != ewstest.EndedByServer {
		t.Errorf("ended: %q", got)
	}
}

// story makes the same changes and returns all that was posted.
func story(t *testing.T, options ewstest.Options) (posted []string, log string) {
	t.Helper()
	var out lockedBuffer
	options.Clock = clocktesting.NewFakeClock(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	options.Logf = func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	options.FirstPost = ewstest.FirstPostBeforeAnswer
	exchange := start(t, options)
	url, _ := listener(t, answerOK)
	subscribe(t, exchange, url+"?f=sealed")
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange.WaitIdle(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := exchange.Deliver(alice, ewstest.Mail{Subject: "hello"})
	change(err)
	change(exchange.MarkRead(id))
	deleted, err := exchange.Delete(id)
	change(err)
	change(exchange.HardDelete(deleted)) // not in the Inbox any more: nothing is posted
	for _, callback := range exchange.Callbacks() {
		posted = append(posted, strings.ReplaceAll(string(callback.Body), url, ""))
	}
	exchange.Close()
	return posted, out.String()
}

func TestTheSameSeedMakesTheSameChoices(t *testing.T) {
	t.Parallel()
	one, _ := story(t, ewstest.Options{Seed: 7})
	two, _ := story(t, ewstest.Options{Seed: 7})
	if !slices.Equal(one, two) {
		t.Errorf("posted\n%s\nand then\n%s", strings.Join(one, "\n"), strings.Join(two, "\n"))
	}
	different := false
	for seed := range uint64(5) {
		other, _ := story(t, ewstest.Options{Seed: 8 + seed})
		different = different || len(other) != len(one)
	}
	if !different {
		t.Error("other seeds make the same number of posts")
	}
}

func TestEveryChangeIsAnnouncedWhateverTheSeed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		posted, log := story(t, ewstest.Options{Seed: seed + 1})
		var kinds []string
		for _, body := range posted {
			notification, err := ews.ParseNotification([]byte(body))
			if err != nil {
				t.Fatalf("seed %d: %v in %s", seed+1, err, body)
			}
			for _, message := range notification.Messages {
				for _, event := range message.Events {
					kinds = append(kinds, string(event.Kind))
				}
			}
		}
		// An item may be modified once more than a calm server would.
		calm := "StatusEvent CreatedEvent NewMailEvent ModifiedEvent ModifiedEvent ModifiedEvent MovedEvent ModifiedEvent"
		awkward := strings.Replace(calm, "NewMailEvent", "NewMailEvent ModifiedEvent", 1)
		if got := strings.Join(kinds, " "); got != calm && got != awkward {
			t.Errorf("seed %d posted %s", seed+1, got)
		}
		if !strings.Contains(log, fmt.Sprint("seed ", seed+1)) {
			t.Errorf("the seed %d is not in the log:\n%s", seed+1, log)
		}
		for _, secret := range []string{password, "sealed", "listener"} {
			if strings.Contains(log, secret) {
				t.Errorf("%q is in the log:\n%s", secret, log)
			}
		}
	}
}

func TestCompressionMakesHeartbeatsQuick(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Compression: 15 * 60 * 100}) // 15 minutes in 10 ms of the real clock
	url, _ := listener(t, answerOK)
	subscribe(t, exchange, url)
	if third := awaitCallback(t, exchange, numbered(3)); !slices.Equal(third.Events, []string{"StatusEvent"}) {
		t.Errorf("the third post holds %v", third.Events)
	}
}

func TestPostSendsAnythingAndReportsTheReply(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	url, bodies := listener(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusBadRequest) })
	callback := exchange.Post(testContext(t), url, []byte("garbage"))
	if callback.Status != http.StatusBadRequest || callback.Err == nil || <-bodies != "garbage" {
		t.Errorf("status %d, error %v", callback.Status, callback.Err)
	}
	if len(exchange.Callbacks()) != 0 {
		t.Error("it was recorded as a post of a subscription")
	}
}

func TestAWaitForSomethingThatNeverComesEnds(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := exchange.WaitCallback(ctx, numbered(1)); err == nil || !strings.Contains(err.Error(), "waiting for a callback, 0 seen") {
		t.Errorf("error %v", err)
	}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
