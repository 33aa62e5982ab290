// Package pushtest is what every push provider must do, as a test suite that each of them runs against the fake of its
// service.
package pushtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// Options are what a fixture's provider is made with.
type Options struct {
	// Timeout bounds a push; 0 is the provider's default.
	Timeout time.Duration
	// MaxConcurrent bounds the pushes at once; 0 is the provider's default.
	MaxConcurrent int
	// DialContext makes connections; nil for plain ones.
	DialContext egress.DialFunc
	// Route returns the address to configure in the place of the fake's.
	Route func(address string) string
}

// Apply has a provider made with the options.
func (o Options) Apply(s *push.Settings) {
	s.Timeout, s.MaxConcurrent, s.DialContext = o.Timeout, o.MaxConcurrent, o.DialContext
}

// Fixture is a provider with the fake it talks to. Start registers their closing with the test.
type Fixture struct {
	Provider push.Provider
	// NewDevice makes a phone that the fake knows.
	NewDevice func() push.Device
	// Unregister removes the app from a phone.
	Unregister func(push.Device)
	// Wait returns what a phone was sent, oldest first, as soon as it was sent n in all.
	Wait func(ctx context.Context, d push.Device, n int) ([]Received, error)
	// Fail lets the next n requests fail with an HTTP status and, if it is not 0, a Retry-After.
	Fail func(n, status int, retryAfter time.Duration)
	// Hang leaves all requests from now on without an answer.
	Hang func()
	// Slow lets every answer take this time.
	Slow func(time.Duration)
	// MostAtOnce is the largest number of requests that the fake has worked on at the same time.
	MostAtOnce func() int
}

// Received is a notification as the app gets it.
type Received struct {
	Title, Subtitle, Body string
	Unread                *int
	Reference             push.Reference
	// Size is what counts against the service's limit, in bytes.
	Size int
}

const (
	// patience is how long a test waits for what must happen; nothing takes nearly as long unless it is broken.
	patience = 20 * time.Second
	// short is a provider's time limit in the tests that use it up, slack what a busy machine may add.
	short = 2 * time.Second
	slack = 5 * time.Second
	// crowd is more pushes at once than a new connection may carry.
	crowd = 48
	// many is the requests that a sick service fails: more than any provider tries.
	many = 100
)

// Run runs the suite. Start makes a new fixture for each test.
func Run(t *testing.T, start func(*testing.T, Options) Fixture) {
	tests := map[string]func(*testing.T, func(*testing.T, Options) Fixture){
		"mail arrives with sender, subject, preview, count and reference": testMail,
		"texts of any language arrive unchanged":                          testLanguages,
		"texts that are too large are cut, the preview first":             testCut,
		"mail without texts shows nothing":                                testPolicyFour,
		"a badge shows nothing":                                           testBadge,
		"a resubscribe shows nothing and names nobody":                    testResubscribe,
		"a removed app is a dead token":                                   testDeadToken,
		"an app that is not served is a misconfiguration":                 testForeignApp,
		"a kind that does not exist is rejected":                          testUnknownKind,
		"a short failure is bridged":                                      testShortFailure,
		"a long failure is a retry, within the time limit":                testLongFailure,
		"a service that asks to wait is heard":                            testRetryAfter,
		"a service that hangs is a retry, within the time limit":          testHang,
		"a push ends with its context":                                    testContext,
		"many pushes at once arrive once each":                            testCrowd,
		"no more pushes run at once than permitted, and the others wait":  testBulkhead,
		"a push that waits for others to end waits within its time limit": testBulkheadFull,
		"a closed provider fails at once":                                 testClose,
		"closing ends pushes under way":                                   testCloseUnderWay,
		"a push goes through the tunnel of a proxy":                       testProxy,
		"a proxy that wants another password is a misconfiguration":       testProxyPassword,
		"a proxy that does not permit the service is a misconfiguration":  testProxyForbids,
		"a proxy that is away is a retry":                                 testProxyAway,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(t *testing.T, o Options) Fixture {
				if o.Route == nil {
					o.Route = func(address string) string { return address }
				}
				return start(t, o)
			})
		})
	}
}

// Mail is a notification with everything in it.
func Mail() push.Notification {
	return push.Notification{
		Kind: push.NewMail, Title: "Ada Lovelace", Subtitle: "Notes on the <Engine> & its \"cards\"",
		Body: "The Engine has no pretensions whatever to originate anything.", Unread: new(3), Sound: "default",
		MessageID:  "AAMkAGUzNjY4ZTI5LWYxZjItNGM4Zi1iZjA2LTdkOTg0NzM5ZTc2MQBGAAAAAAA=",
		UserID:     "1743604ea20cda831dc7aea285e7fdc011ca233caf0fa7d5d926916622dd182d",
		CollapseID: "mail-1",
	}
}

func testMail(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	got := f.deliver(t, Mail())
	want := Mail()
	if got.Title != want.Title || got.Subtitle != want.Subtitle || got.Body != want.Body {
		t.Errorf("texts = %q, %q, %q", got.Title, got.Subtitle, got.Body)
	}
	if got.Unread == nil || *got.Unread != *want.Unread {
		t.Errorf("unread = %v, want %d", got.Unread, *want.Unread)
	}
	if got.Reference != (push.Reference{MessageID: want.MessageID, UserID: want.UserID, Event: push.EventNewMail}) {
		t.Errorf("reference = %+v", got.Reference)
	}
}

func testLanguages(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Title, n.Subtitle, n.Body = "Γεώργιος 👨‍👩‍👧‍👦", "日本語の件名 مرحبا \u2028", "e\u0301 🇩🇪 नमस्ते\n\ttab"
	got := f.deliver(t, n)
	if got.Title != n.Title || got.Subtitle != n.Subtitle || got.Body != n.Body {
		t.Errorf("texts = %q, %q, %q", got.Title, got.Subtitle, got.Body)
	}
}

func testCut(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Body = strings.Repeat("e\u0301<👩‍🚀>", push.MaxPayload)
	got := f.deliver(t, n)
	if got.Title != n.Title || got.Subtitle != n.Subtitle {
		t.Errorf("sender or subject was cut although the preview could be: %q, %q", got.Title, got.Subtitle)
	}
	kept, marked := strings.CutSuffix(got.Body, "…")
	if !marked || kept == "" || !strings.HasPrefix(n.Body, kept) || !utf8.ValidString(kept) {
		t.Errorf("the preview is not a beginning of the whole one with an ellipsis: %q", got.Body)
	}
	// One more character would not have fitted, and the largest one has 16 bytes as JSON.
	if got.Size > push.MaxPayload || got.Size < push.MaxPayload-2*len("👩‍🚀…\\u003c") {
		t.Errorf("size = %d, want just below %d", got.Size, push.MaxPayload)
	}
}

func testPolicyFour(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Title, n.Subtitle, n.Body = "", "", ""
	got := f.deliver(t, n)
	if got.Title+got.Subtitle+got.Body != "" {
		t.Errorf("something is shown: %+v", got)
	}
	if got.Unread == nil || *got.Unread != *n.Unread || got.Reference.Event != push.EventNewMail {
		t.Errorf("got = %+v, want the count and the event", got)
	}
}

func testBadge(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Kind, n.Unread = push.Badge, new(0)
	n.Title, n.Subtitle, n.Body = "", "", ""
	got := f.deliver(t, n)
	if got.Unread == nil || *got.Unread != 0 {
		t.Errorf("unread = %v, want 0", got.Unread)
	}
	if got.Title+got.Subtitle+got.Body != "" || got.Reference != (push.Reference{UserID: n.UserID, Event: push.EventBadge}) {
		t.Errorf("got = %+v", got)
	}
}

func testResubscribe(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Kind = push.Resubscribe
	n.Title, n.Subtitle, n.Body = "", "", ""
	got := f.deliver(t, n)
	if got.Unread != nil || got.Title+got.Subtitle+got.Body != "" || got.Reference != (push.Reference{Event: push.EventResubscribe}) {
		t.Errorf("got = %+v", got)
	}
}

func testDeadToken(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	d := f.NewDevice()
	f.Unregister(d)
	f.refused(t, d, Mail(), push.DeadToken)
}

func testForeignApp(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	d := f.NewDevice()
	d.AppID = "com.example.foreign"
	f.refused(t, d, Mail(), push.Misconfigured)
}

func testUnknownKind(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	n := Mail()
	n.Kind = 0
	f.refused(t, f.NewDevice(), n, push.Rejected)
}

func testShortFailure(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	f.Fail(1, 503, 0)
	f.deliver(t, Mail())
}

func testLongFailure(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{Timeout: short})
	f.Fail(many, 503, 0)
	began := time.Now()
	refusal := f.refused(t, f.NewDevice(), Mail(), push.Retry)
	if refusal.Status != 503 {
		t.Errorf("status = %d, want the service's", refusal.Status)
	}
	checkPrompt(t, began, short)
}

func testRetryAfter(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	f.Fail(1, 503, time.Minute)
	began := time.Now()
	refusal := f.refused(t, f.NewDevice(), Mail(), push.Retry)
	if refusal.RetryAfter != time.Minute {
		t.Errorf("RetryAfter = %s, want what the service asked for", refusal.RetryAfter)
	}
	// Nothing can come of waiting, so the provider's own time limit is not used up.
	checkPrompt(t, began, 0)
}

func testHang(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{Timeout: short})
	f.Hang()
	began := time.Now()
	f.refused(t, f.NewDevice(), Mail(), push.Retry)
	checkPrompt(t, began, short)
}

// checkPrompt fails if more than limit and a little has passed.
func checkPrompt(t *testing.T, began time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(began); took > limit+slack {
		t.Errorf("took %s, the limit is %s", took, limit)
	}
}

func testContext(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	d := f.NewDevice()
	f.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), short/4)
	defer cancel()
	began := time.Now()
	if err := f.Provider.Push(ctx, d, Mail()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the context's", err)
	}
	checkPrompt(t, began, short/4)
	if err := f.Provider.Push(ctx, d, Mail()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: err = %v, want the context's", err)
	}
}

func testCrowd(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	d := f.NewDevice()
	push := func(i int) error {
		n := Mail()
		n.MessageID, n.CollapseID = fmt.Sprint("message ", i), fmt.Sprint("mail-", i)
		return f.Provider.Push(t.Context(), d, n)
	}
	for err := range atOnce(crowd, push) {
		if err != nil {
			t.Errorf("push: %v", err)
		}
	}
	seen := make(map[string]int)
	for _, got := range f.wait(t, d, crowd) {
		seen[got.Reference.MessageID]++
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s arrived %d times", id, times)
		}
	}
	if len(seen) != crowd {
		t.Errorf("%d of %d arrived", len(seen), crowd)
	}
}

func testBulkhead(t *testing.T, start func(*testing.T, Options) Fixture) {
	const permitted = 3
	f := start(t, Options{MaxConcurrent: permitted})
	d := f.NewDevice()
	f.Slow(2 * time.Millisecond)
	for err := range atOnce(crowd, func(int) error { return f.Provider.Push(t.Context(), d, Mail()) }) {
		if err != nil {
			t.Errorf("push: %v", err)
		}
	}
	if most := f.MostAtOnce(); most > permitted || most < 2 {
		t.Errorf("%d requests at once, want some but at most %d", most, permitted)
	}
}

func testBulkheadFull(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{MaxConcurrent: 1, Timeout: short})
	d := f.NewDevice()
	f.Hang()
	began := time.Now()
	for err := range atOnce(2, func(int) error { return f.Provider.Push(t.Context(), d, Mail()) }) {
		if push.OutcomeOf(err) != push.Retry {
			t.Errorf("err = %v, want a retry", err)
		}
	}
	// The second one waits for the first, but not beyond its own time limit.
	checkPrompt(t, began, short)
}

func testClose(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	f.deliver(t, Mail())
	if err := f.Provider.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	began := time.Now()
	f.refused(t, f.NewDevice(), Mail(), push.Retry)
	checkPrompt(t, began, short)
	if err := f.Provider.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func testCloseUnderWay(t *testing.T, start func(*testing.T, Options) Fixture) {
	f := start(t, Options{})
	d := f.NewDevice()
	f.deliver(t, Mail())
	f.Hang()
	results := atOnce(1, func(int) error { return f.Provider.Push(t.Context(), d, Mail()) })
	began := time.Now()
	if err := f.Provider.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := <-results; push.OutcomeOf(err) != push.Retry {
		t.Errorf("err = %v, want a retry", err)
	}
	checkPrompt(t, began, short)
}

// atOnce runs f n times at once and returns the results as they come; the channel is closed after the last.
func atOnce(n int, f func(int) error) <-chan error {
	results := make(chan error, n)
	begin := make(chan struct{})
	done := make(chan struct{})
	for i := range n {
		go func() {
			<-begin
			results <- f(i)
			done <- struct{}{}
		}()
	}
	close(begin)
	go func() {
		for range n {
			<-done
		}
		close(results)
	}()
	return results
}

// deliver pushes to a new phone and returns what arrives there.
func (f Fixture) deliver(t *testing.T, n push.Notification) Received {
	t.Helper()
	d := f.NewDevice()
	if err := f.Provider.Push(t.Context(), d, n); err != nil {
		t.Fatalf("Push: %v", err)
	}
	return f.wait(t, d, 1)[0]
}

func (f Fixture) wait(t *testing.T, d push.Device, n int) []Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	received, err := f.Wait(ctx, d, n)
	if err != nil {
		t.Fatal(err)
	}
	return received
}

// refused pushes, fails unless the outcome is want, and fails if the error tells what it must not.
func (f Fixture) refused(t *testing.T, d push.Device, n push.Notification, want push.Outcome) push.Error {
	t.Helper()
	err := f.Provider.Push(t.Context(), d, n)
	refusal, ok := errors.AsType[*push.Error](err)
	if !ok || refusal.Outcome != want {
		t.Fatalf("err = %v, want the outcome %s", err, want)
	}
	CheckDiscreet(t, err.Error(), d, n)
	return *refusal
}

// CheckDiscreet fails if text, an error's or a log's, holds the device's token or any text of the notification.
func CheckDiscreet(t *testing.T, text string, d push.Device, n push.Notification) {
	t.Helper()
	for name, private := range map[string]string{
		"device token": d.Token, "sender": n.Title, "subject": n.Subtitle, "preview": n.Body, "message id": n.MessageID, "user": n.UserID,
	} {
		if private != "" && strings.Contains(text, private) {
			t.Errorf("it tells the %s: %s", name, text)
		}
	}
}
