package ewstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"k8s.io/utils/clock"
)

const statusEvent = "StatusEvent"

// Why a subscription ended.
const (
	EndedByReply  = "unsubscribed by a reply"
	EndedByRetry  = "dropped after failed posts"
	EndedByServer = "ended by the server"
)

// The retries after a failed post: elapsed times since the first try, doubling, as long as they do not exceed
// StatusFrequency (ews.md, section 2; protocol.md, Callback semantics).
const firstRetry = 30 * time.Second

// Subscription is a push subscription as it stands.
type Subscription struct {
	ID string
	// Mailbox is the address of the mailbox.
	Mailbox string
	// URL is the webhook's address. It holds the sealed credential: do not print it.
	URL             string
	StatusFrequency time.Duration
	// Ended is why the subscription ended, empty while it lives.
	Ended string
}

// subscription is a Subscription at work. Fields after the blank line are guarded by Server.mu, except that poster
// belongs to the goroutine that posts.
type subscription struct {
	server    *Server
	id        string
	box       *mailbox
	address   string // of box
	url       string
	frequency time.Duration
	version   string
	watched   []*folder
	kinds     []string

	queue []event
	// owed says that a post is under way or due again, or that the first one has not begun.
	owed   bool
	ended  string
	wake   chan struct{} // has room for one
	cancel context.CancelFunc
	poster poster
}

// poster is the state of the goroutine that posts: one post at a time.
type poster struct {
	random    *rand.Rand
	watermark uint64
	heartbeat clock.Timer
	// first is closed when the first post has been answered or has failed.
	first chan struct{}
}

// Subscriptions returns all subscriptions that ever were, in order.
func (s *Server) Subscriptions() []Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Subscription
	for _, sub := range s.subscriptions {
		all = append(all, sub.describe())
	}
	return all
}

// WaitSubscription returns the first subscription that matches, whenever it was or will be made or end.
func (s *Server) WaitSubscription(ctx context.Context, match func(Subscription) bool) (Subscription, error) {
	return s.subscriptionLog.Wait(ctx, "subscription", match)
}

// WaitIdle returns when everything that has happened has been posted and answered.
func (s *Server) WaitIdle(ctx context.Context) error {
	for {
		// These are asked for first: whatever makes the server idle later closes one of them.
		_, posted := s.callbackLog.From(0)
		_, ended := s.subscriptionLog.From(0)
		if s.idle() {
			return nil
		}
		select {
		case <-posted:
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("waiting until all is posted: %w", ctx.Err())
		}
	}
}

func (s *Server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool {
		return sub.ended == "" && (sub.owed || len(sub.queue) > 0)
	})
}

// Heartbeat makes the mailbox's live subscriptions send a StatusEvent now and returns how many there are.
func (s *Server) Heartbeat(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := 0
	for _, sub := range s.live(s.mailbox(address)) {
		sub.enqueue(event{kind: statusEvent})
		live++
	}
	return live
}

// EndSubscriptions ends the mailbox's subscriptions as Exchange does when it has lost events: with one post of class
// Error, e.g. ErrorReadEventsFailed, that names no subscription. An empty code ends them silently, as a restart does.
func (s *Server) EndSubscriptions(address, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.live(s.mailbox(address)) {
		sub.end(EndedByServer)
		if code != "" && s.ctx.Err() == nil {
			s.posts.Go(func() { sub.post(s.ctx, errorBody(sub.version, code), nil, 1) })
		}
	}
}

// live returns the box's subscriptions that have not ended; s.mu is held.
func (s *Server) live(box *mailbox) []*subscription {
	var live []*subscription
	for _, sub := range s.subscriptions {
		if sub.box == box && sub.ended == "" {
			live = append(live, sub)
		}
	}
	return live
}

// announce tells the box's subscriptions; s.mu is held.
func (s *Server) announce(box *mailbox, events ...event) {
	for _, sub := range s.live(box) {
		var heard []event
		for _, e := range events {
			if slices.Contains(sub.kinds, e.kind) && slices.ContainsFunc(sub.watched, e.concerns) {
				heard = append(heard, e)
			}
		}
		if len(heard) > 0 {
			sub.enqueue(heard...)
		}
	}
}

// start makes a subscription; s.mu is held. It posts when run is called.
func (s *Server) start(sub *subscription) {
	number := uint64(len(s.subscriptions) + 1)
	sub.server = s
	sub.id = s.newSubscriptionID()
	sub.owed = true
	sub.wake = make(chan struct{}, 1)
	sub.poster = poster{random: s.randomFor(number), watermark: number << 20, first: make(chan struct{})}
	s.subscriptions = append(s.subscriptions, sub)
	s.subscriptionLog.Add(sub.describe())
}

// enqueue adds events to the next post; s.mu is held.
func (sub *subscription) enqueue(events ...event) {
	sub.queue = append(sub.queue, events...)
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// end marks the subscription as ended; s.mu is held.
func (sub *subscription) end(why string) {
	if sub.ended != "" {
		return
	}
	sub.ended = why
	sub.queue = nil
	if sub.cancel != nil {
		sub.cancel()
	}
	sub.server.subscriptionLog.Add(sub.describe())
	sub.server.logf("ewstest: a subscription of %s has ended: %s", sub.address, why)
}

func (sub *subscription) describe() Subscription {
	return Subscription{
		ID: sub.id, Mailbox: sub.address, URL: sub.url, StatusFrequency: sub.frequency, Ended: sub.ended,
	}
}

// run starts the goroutine that posts: a StatusEvent at once, then what happens, and a StatusEvent when nothing has
// happened for StatusFrequency.
func (sub *subscription) run() {
	s := sub.server
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.ended != "" || s.ctx.Err() != nil {
		cancel()
		sub.firstDone()
		return
	}
	sub.cancel = cancel
	sub.queue = slices.Insert(sub.queue, 0, event{kind: statusEvent})
	sub.poster.heartbeat = s.options.Clock.NewTimer(s.scaled(sub.frequency))
	s.posts.Go(func() {
		defer cancel()
		defer sub.firstDone()
		defer func() { sub.poster.heartbeat.Stop() }()
		for sub.step(ctx) {
		}
	})
}

// step posts what is queued or waits for something to post. It is false when the subscription has ended.
func (sub *subscription) step(ctx context.Context) bool {
	if batch := sub.take(); len(batch) > 0 {
		return sub.deliver(ctx, batch)
	}
	select {
	case <-ctx.Done():
		return false
	case <-sub.wake:
	case <-sub.poster.heartbeat.C():
		return sub.deliver(ctx, []event{{kind: statusEvent}})
	}
	return true
}

// take removes the events of the next post from the queue: all of them, or only some.
func (sub *subscription) take() []event {
	s := sub.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.ended != "" || len(sub.queue) == 0 {
		return nil
	}
	n := len(sub.queue)
	if !s.options.Calm && sub.poster.random.IntN(2) == 0 {
		n = 1 + sub.poster.random.IntN(n)
	}
	batch := slices.Clone(sub.queue[:n])
	sub.queue = sub.queue[n:]
	sub.owed = true
	return batch
}

// deliver posts a batch until it is answered or the time for retries is over. It is false when the subscription has
// ended.
func (sub *subscription) deliver(ctx context.Context, batch []event) bool {
	start := sub.poster.watermark
	body := sub.body(batch)
	for attempt, elapsed := 1, time.Duration(0); ; attempt++ {
		next := 2 * elapsed
		if attempt == 1 {
			next = firstRetry
		}
		retry, alive := sub.attempt(ctx, body, batch, attempt, next, next-elapsed)
		if retry == nil {
			return alive
		}
		select {
		case <-ctx.Done():
			retry.Stop()
			return false
		case <-retry.C():
		}
		elapsed = next
		if more := sub.takeSometimes(); len(more) > 0 {
			// Events that came meanwhile go with the repeated ones, from the same watermark on.
			batch = append(batch, more...)
			sub.poster.watermark = start
			body = sub.body(batch)
		}
	}
}

func (sub *subscription) takeSometimes() []event {
	if sub.server.options.Calm || sub.poster.random.IntN(2) == 0 {
		return nil
	}
	return sub.take()
}

// attempt posts once. If the post failed and may be repeated at next, it returns the timer of the retry.
func (sub *subscription) attempt(ctx context.Context, body []byte, batch []event, attempt int, next, delay time.Duration) (retry clock.Timer, alive bool) {
	s := sub.server
	callback := sub.exchange(ctx, body, batch, attempt)
	if ctx.Err() != nil {
		return nil, false
	}
	s.mu.Lock()
	switch {
	case callback.Reply == replyUnsubscribe:
		sub.end(EndedByReply)
	case callback.Err == nil:
		sub.poster.heartbeat.Stop()
		sub.poster.heartbeat = s.options.Clock.NewTimer(s.scaled(sub.frequency))
		sub.owed = false
		alive = true
	case next > sub.frequency:
		sub.end(EndedByRetry)
	default:
		retry, alive = s.options.Clock.NewTimer(s.scaled(delay)), true
	}
	s.record(callback) // with the state that follows from it, so that nobody sees one without the other
	s.mu.Unlock()
	if attempt == 1 {
		sub.firstDone()
	}
	return retry, alive
}

func (sub *subscription) firstDone() {
	select {
	case <-sub.poster.first:
	default:
		close(sub.poster.first)
	}
}

// newSubscriptionID has the layout of real ones: a server name, a GUID, a time (ews.md, section 1); s.mu is held.
func (s *Server) newSubscriptionID() string {
	return fmt.Sprintf("JwBmYWtl%s", s.randomBase64(subscriptionIDBytes))
}

const subscriptionIDBytes = 61
