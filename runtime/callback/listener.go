// Package callback is Exchange's side of the runtime: it takes the posts, answers them quickly, and tells the phones.
//
// A post is authenticated by its URL, looked up, written to the journal and answered; only then is the mail fetched and
// pushed (architecture.md, rule 1). listener.go is the part before the answer, processor.go the part after it.
package callback

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
	"github.com/ens-operator/ens-operator/runtime/tracing"
)

const (
	// pendingGrace is how long the posts of an attempt are accepted whose Subscribe has not been answered
	// (protocol.md, Subscriptions and generations).
	pendingGrace = 2 * time.Minute
	// maxInFlight bounds the posts that are being read and answered at once; more are shed, and Exchange tries again.
	maxInFlight = 2048
	// usualPost is the size up to which memory is taken for a post before it has come: one of some twenty events.
	usualPost = 16 << 10
	// shedRetryAfter is what a post that is shed is told; Exchange has a rhythm of its own.
	shedRetryAfter = "30"
)

// Listener serves `pushnotificationlistener` (W-01 to W-12).
type Listener struct {
	tenant    func() *tenant.Tenant
	store     *store.Store
	processor *Processor
	clock     clock.WithTickerAndDelayedExecution
	log       *slog.Logger
	metrics   *Metrics
	owner     store.Owner
	steps     step.Hook
	fit       func() bool
	inFlight  chan struct{}
	taking    chan struct{}
	signs     *signs
}

// Options are the parts of Listener and Processor. Tenant is asked for each post, because it may be reloaded.
type Options struct {
	Tenant  func() *tenant.Tenant
	Store   *store.Store
	Clock   clock.WithTickerAndDelayedExecution
	Logger  *slog.Logger
	Metrics *Metrics
	// Fit says whether the database is known to be the tenant's, and our keys those of its data. As long as it is not, no post
	// is judged: what seems forged may only be ours to open.
	Fit func() bool
	// Owner is this replica in the journal.
	Owner store.Owner
	// Steps is told of each step; nil tells nobody.
	Steps step.Hook
}

// NewListener makes a Listener that gives its work to processor.
func NewListener(o Options, processor *Processor) *Listener {
	return &Listener{
		tenant: o.Tenant, store: o.Store, processor: processor, clock: o.Clock, log: o.Logger, metrics: o.Metrics,
		owner: o.Owner, steps: o.Steps, fit: o.Fit, inFlight: make(chan struct{}, maxInFlight), taking: make(chan struct{}, maxTaking),
		signs: processor.signs,
	}
}

// ServeHTTP implements http.Handler.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		// What an administrator sees who tests from the Exchange server whether we can be reached (P-12).
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "The listener for Exchange's push notifications is reachable.\n")
		return
	}
	l.metrics.received.Inc()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		l.fail(r.Context(), w, http.StatusMethodNotAllowed)
		return
	}
	select {
	case l.inFlight <- struct{}{}:
		defer func() { <-l.inFlight }()
	default:
		w.Header().Set("Retry-After", shedRetryAfter)
		l.fail(r.Context(), w, http.StatusServiceUnavailable)
		return
	}
	ctx := r.Context() // the store bounds what the answer waits for: Exchange counts an unanswered post against the user
	now := l.clock.Now()
	alive, err := l.receive(ctx, w, r, now)
	l.answer(ctx, w, err)
	if alive != 0 {
		_ = http.NewResponseController(w).Flush() // Exchange does not wait for what follows
		l.steps.Reached(step.PostAnswered)
		l.signs.note(alive, now) // not a moment later: who tells what came with it records the same time
	}
}

// Close records the signs of life that are not on record yet. Nothing may be served any more.
func (l *Listener) Close() { l.signs.close() }

func (l *Listener) answered(ctx context.Context, answer string) {
	l.metrics.answered(answer)
	tracing.Conclude(ctx, answer)
}

// fail answers what Exchange counts as a failure and tries again.
func (l *Listener) fail(ctx context.Context, w http.ResponseWriter, status int) {
	text := http.StatusText(status)
	l.answered(ctx, text)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text))) // all of it in one write
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// outdatedError says that a post is of a subscription that is not the user's current one.
type outdatedError struct {
	// subscriptionID is the one that posted, empty if it did not say.
	subscriptionID string
}

// Error implements error.
func (*outdatedError) Error() string { return "the subscription is not the user's current one" }

// The reasons for an answer that is neither OK nor Unsubscribe.
var (
	errTooLarge = errors.New("the post is too large")
	errOurFault = errors.New("the subscription cannot be opened")
	errUnfit    = errors.New("this replica does not work with the database yet")
	errBusy     = errors.New("more has happened than can be worked on; Exchange will post again soon")
)

// answer turns the outcome of a post into what Exchange is told. Only what is forged or outdated ends a subscription;
// a fault of ours never does (protocol.md, rules 1 and 2).
func (l *Listener) answer(ctx context.Context, w http.ResponseWriter, err error) {
	outdated, isOutdated := errors.AsType[*outdatedError](err)
	switch {
	case err == nil:
		l.answered(ctx, "OK")
		ews.WriteReply(w, ews.OK)
	case isOutdated:
		enslog.SubscriptionOutdated.Log(ctx, l.log, outdated.subscriptionID)
		l.answered(ctx, "Unsubscribe")
		ews.WriteReply(w, ews.Unsubscribe)
		enslog.UnsubscribeSent.Log(ctx, l.log, outdated.subscriptionID)
		enslog.UnsubscribeProcessed.Log(ctx, l.log)
	case errors.Is(err, credential.ErrForged):
		l.log.InfoContext(ctx, "Sent Unsubscribe response to Exchange", "reason", err)
		l.answered(ctx, "Unsubscribe")
		ews.WriteReply(w, ews.Unsubscribe)
	case errors.Is(err, ews.ErrMalformed):
		l.log.WarnContext(ctx, "A post of a known subscription is malformed", "error", err)
		l.fail(ctx, w, http.StatusBadRequest)
	case errors.Is(err, errTooLarge):
		l.fail(ctx, w, http.StatusRequestEntityTooLarge)
	case errors.Is(err, errBusy):
		l.log.DebugContext(ctx, "A post is left to Exchange", "reason", err)
		w.Header().Set("Retry-After", shedRetryAfter)
		l.fail(ctx, w, http.StatusServiceUnavailable)
	default:
		if errors.Is(err, errOurFault) || errors.Is(err, credential.ErrUnknownKey) {
			l.metrics.faults.Inc()
		}
		l.log.ErrorContext(ctx, "A post could not be taken; Exchange will try again", "error", err)
		w.Header().Set("Retry-After", shedRetryAfter)
		l.fail(ctx, w, http.StatusServiceUnavailable)
	}
}

// receive does everything before the answer. Its error says what to answer, alive is the user whose subscription has been
// shown to be alive, 0 if none.
func (l *Listener) receive(ctx context.Context, w http.ResponseWriter, r *http.Request, now time.Time) (alive int64, err error) {
	l.steps.Reached(step.PostReceived)
	if !l.fit() {
		return 0, errUnfit
	}
	t := l.tenant()
	hook, err := t.Keyring.ParseWebhook(r.URL.RawQuery)
	if err != nil {
		return 0, err
	}
	l.steps.Reached(step.PostAuthenticated)
	content := posts.Get().(*bytes.Buffer)
	defer returnPost(content)
	if err := readPost(content, w, r); err != nil {
		return 0, err
	}
	body := content.Bytes() // what is read of it is copied
	recent := recentEvents(body, now)
	if recent && l.processor.full(hook.UserID, t.Config.Endpoints) {
		return 0, errBusy
	}
	if tellsEvents(body) {
		done, err := l.begin(ctx)
		if err != nil {
			return 0, err
		}
		defer done()
	}
	subscription, err := l.find(ctx, hook, body, now)
	if err != nil {
		return 0, err
	}
	l.steps.Reached(step.PostLookedUp)
	notification, err := ews.ParseNotification(body)
	if err != nil {
		return 0, err
	}
	l.steps.Reached(step.PostParsed)
	return l.accept(ctx, t, hook, subscription, notification, recent, now)
}

// accept hands over what a post of a known subscription tells. recent says that Exchange would post it again soon.
func (l *Listener) accept(
	ctx context.Context, t *tenant.Tenant, hook credential.Webhook, s store.Subscription, n ews.Notification, recent bool, now time.Time,
) (alive int64, err error) {
	in, lost := read(n)
	old := outdated(s, n, now)
	if !old && !lost && !l.needsCredential(hook.UserID, s, in) {
		l.logEvents(ctx, n)
		return hook.UserID, nil
	}
	c, standing, newer, err := open(t, hook, s)
	if err != nil {
		return 0, errors.Join(errOurFault, err)
	}
	l.steps.Reached(step.PostOpened)
	brought := &work{
		tenant: t, userID: hook.UserID, generation: hook.Generation, user: hex.EncodeToString(s.UserHash[:]),
		mailboxID: s.MailboxID, endpoint: s.Endpoint, credential: c, standing: standing, newer: newer, owed: s.Owed,
	}
	if old {
		if err := l.takeLast(ctx, in, brought); err != nil {
			return 0, err
		}
		return 0, outdatedPost(n)
	}
	if in.changed && recent {
		release, ok := l.processor.reserve(brought.userID, brought.endpoint)
		if !ok {
			brought.credential.Wipe()
			return brought.userID, errBusy
		}
		defer release()
	}
	l.logEvents(ctx, n)
	if !lost {
		brought.heard = now
	}
	if err := l.take(ctx, in, lost, brought); err != nil || lost {
		return 0, err
	}
	return hook.UserID, nil // the work is the processor's now
}

// needsCredential says whether there is something to do for a user, or may be before long. A heartbeat brings nothing to do as a
// rule, and what is not needed is not opened.
func (l *Listener) needsCredential(userID int64, s store.Subscription, in intents) bool {
	return in.changed || s.Owed || s.Update != "" || l.processor.busy(userID)
}

// find looks up the subscription that a webhook names.
func (l *Listener) find(ctx context.Context, hook credential.Webhook, body []byte, now time.Time) (store.Subscription, error) {
	subscription, err := l.store.Subscription(ctx, hook.UserID, hook.Generation, now)
	if err != nil {
		return store.Subscription{}, err
	}
	if subscription.Found {
		requestid.Identify(ctx, hex.EncodeToString(subscription.UserHash[:]))
	}
	if !subscription.Found || subscription.FillerHash != hook.FillerHash() {
		unknown, _ := ews.ParseNotification(body) // only to say in the log which subscription it was
		return store.Subscription{}, outdatedPost(unknown)
	}
	return subscription, nil
}

// posts are memory that posts are read into.
var posts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func returnPost(content *bytes.Buffer) {
	if content.Cap() <= 2*(usualPost+bytes.MinRead) { // one that grows takes twice as much
		content.Reset()
		posts.Put(content)
	}
}

func readPost(content *bytes.Buffer, w http.ResponseWriter, r *http.Request) error {
	// As large as is announced, if that is believable, and with what ReadFrom wants to have free at the end.
	content.Grow(int(min(max(r.ContentLength, 0), usualPost)) + bytes.MinRead)
	_, err := content.ReadFrom(http.MaxBytesReader(w, r.Body, ews.MaxNotificationBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return errTooLarge
	}
	return err
}

// takeLast takes the mails that an outdated subscription still tells of. They may have come before the current one was
// made: nobody else tells of them.
func (l *Listener) takeLast(ctx context.Context, in intents, w *work) error {
	maps.DeleteFunc(in.keys, func(key store.Key, _ bool) bool { return key.Kind != store.NewMail })
	if len(in.keys) == 0 {
		w.credential.Wipe()
		return nil
	}
	if !w.standing.usable(l.clock.Now()) { // the current one's next post brings a better credential
		w.credential.Wipe()
		if _, err := l.write(ctx, in, w, 0); err != nil {
			return err
		}
		l.metrics.leave(len(in.keys))
		return nil
	}
	w.outdated = true
	return l.take(ctx, intents{keys: in.keys}, false, w)
}

// outdatedPost is the error of a post of an outdated subscription.
func outdatedPost(n ews.Notification) error {
	if len(n.Messages) == 0 {
		return &outdatedError{}
	}
	return &outdatedError{subscriptionID: n.Messages[0].SubscriptionID}
}

// logEvents logs the kinds of events in a post, each once (W-06).
func (l *Listener) logEvents(ctx context.Context, n ews.Notification) {
	if !l.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for _, message := range n.Messages {
		logged := map[ews.EventKind]bool{}
		for _, event := range message.Events {
			if logged[event.Kind] {
				continue
			}
			logged[event.Kind] = true
			enslog.EventReceived.Log(ctx, l.log, string(event.Kind), message.SubscriptionID)
			if event.Kind == ews.Status {
				enslog.StatusReceived.Log(ctx, l.log)
			}
		}
	}
}

// outdated is the contract's rule for Unsubscribe.
func outdated(s store.Subscription, n ews.Notification, now time.Time) bool {
	switch s.State {
	case store.Pending:
		return now.Sub(s.CreatedAt) > pendingGrace
	case store.Active:
		for _, message := range n.Messages {
			if message.SubscriptionID != "" && message.SubscriptionID != s.SubscriptionID {
				return true
			}
		}
		return false
	default:
		return true
	}
}

// take writes the journal and hands the work over. The credential is the processor's from then on. lost says that Exchange
// says that the subscription is gone.
func (l *Listener) take(ctx context.Context, in intents, lost bool, w *work) (err error) {
	if w.claims, err = l.write(ctx, in, w, w.tenant.Config.Callback.Lease()); err != nil {
		w.credential.Wipe()
		return err
	}
	intended := len(in.keys)
	if in.counted && len(w.claims) == 0 { // whoever is at the mail, or has been, may know another count
		in.keys = map[store.Key]bool{{Kind: store.Badge}: true}
		intended++
		if w.claims, err = l.write(ctx, in, w, w.tenant.Config.Callback.Lease()); err != nil {
			w.credential.Wipe()
			return err
		}
	}
	l.metrics.intend(intended, len(w.claims))
	l.metrics.claim(w.claims, fromPost)
	w.changed, w.unread, w.lost, w.activity = in.changed, in.unread, lost, requestid.From(ctx)
	w.span = trace.SpanFromContext(ctx)
	l.processor.submit(w)
	return nil
}

// write writes the journal and claims its rows for as long as the lease, if it is not 0.
func (l *Listener) write(ctx context.Context, in intents, w *work, lease time.Duration) ([]store.Claim, error) {
	if len(in.keys) == 0 {
		return nil, nil
	}
	// From here on Exchange may hang up: a row that is in the journal must also be worked on.
	ctx = context.WithoutCancel(ctx)
	now := l.clock.Now()
	entries := make([]store.Entry, 0, len(in.keys))
	for key := range in.keys {
		key.UserID = w.userID
		entries = append(entries, store.Entry{
			Key: key, Generation: w.generation, Owner: l.owner, Now: now, LeaseUntil: now.Add(lease),
		})
	}
	l.steps.Reached(step.JournalDue)
	writing, span := tracing.Start(ctx, "journal write", tracing.Count.Int(len(entries)))
	claims, err := l.store.Write(writing, entries)
	tracing.End(span, err)
	if err == nil {
		l.steps.Reached(step.JournalWritten)
	}
	return claims, err
}
