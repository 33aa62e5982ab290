package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
)

const (
	// overloadFactor is how much more is offered than can be done.
	overloadFactor = 3
	// goalGoodput is the part of its capacity that the runtime must keep up meanwhile.
	goalGoodput = 0.9
	// overloadInFlight is how many events are under way where the capacity is measured: enough that a quota of CPU, which is
	// given out ten times a second, is used up each time.
	overloadInFlight = 2048
	// calmFactor is what is offered before and after.
	calmFactor = 0.5
	// The retries of a post, after its first try: 30 s, then twice as long each time, up to the time between two heartbeats.
	firstRetry = 30 * time.Second
	frequency  = 15 * time.Minute
	// maxConnections bounds the posts that Exchange has under way at once: more than the runtime lets in.
	maxConnections = 4096
	// late is when a post was not offered at its time, because the generator did not come to it.
	late = time.Second
)

// offering offers events at fixed times, whatever becomes of them, as Exchange does: one post of a subscription at a time, what
// failed again later, and what came meanwhile afterwards.
type offering struct {
	scene *scene
	turns *driver
	// hurry is how much quicker everything about Exchange goes here: its retries, its heartbeats, and the age of a mail.
	hurry time.Duration
	boxes []box
	// slots bounds the posts under way, idle are the connections that none has, the one that was used last on top.
	slots  chan struct{}
	idleMu sync.Mutex
	idle   []*exchange.Connection
	// open are the subscriptions of which something is not taken yet.
	open atomic.Int64
	// failed is the first post that could not be made at all.
	failed atomic.Pointer[error]

	mu     sync.Mutex
	tallys []*tally
}

// tally is what became of the posts of one phase.
type tally struct {
	began time.Time
	// answered are the times from a post, each try for itself, to its answer OK.
	answered *meter.Samples
	// watched are those of the users for whom watches is true, if there is such a function.
	watched *meter.Samples
	watches func(exchange.Mailbox) bool
	// offered are the tries, late those that were made late; taken are those that were answered OK, by kind, shed those that were
	// answered 503, ended the subscriptions that Exchange has given up.
	offered, late, shed, ended atomic.Int64
	taken                      [kinds]atomic.Int64
}

// kinds is how many kinds of posts there are.
const kinds = int(exchange.Read) + 1

// box is a subscription as Exchange has it.
type box struct {
	mu      sync.Mutex
	waiting []occurrence
	posting bool
}

// occurrence is what has happened in a mailbox.
type occurrence struct {
	post exchange.Post
	due  time.Time
}

func newOffering(x *scene, hurry int) *offering {
	o := &offering{scene: x, turns: newDriver(x), hurry: time.Duration(hurry), boxes: make([]box, x.users.size+1), slots: make(chan struct{}, maxConnections)}
	o.phase()
	return o
}

// close ends all connections, when nothing is posted any more.
func (o *offering) close() {
	for _, c := range o.idle {
		c.Close()
	}
}

// connection takes one that is idle, or a new one. The caller gives it back.
func (o *offering) connection() (c *exchange.Connection, back func()) {
	o.slots <- struct{}{}
	o.idleMu.Lock()
	defer o.idleMu.Unlock()
	if last := len(o.idle) - 1; last >= 0 {
		c, o.idle = o.idle[last], o.idle[:last]
	} else {
		c = exchange.NewConnection(o.scene.address)
	}
	return c, func() {
		o.idleMu.Lock()
		o.idle = append(o.idle, c)
		o.idleMu.Unlock()
		<-o.slots
	}
}

// done waits until everything that has happened is taken.
func (o *offering) done(ctx context.Context) error {
	for o.open.Load() > 0 {
		select {
		case <-time.After(10 * time.Millisecond): //nolint:mnd // often enough for seconds
		case <-ctx.Done():
			return fmt.Errorf("posts of %d users are still not taken: %w", o.open.Load(), ctx.Err())
		}
	}
	return nil
}

// phase begins a new tally.
func (o *offering) phase() *tally { return o.watch(nil) }

// watch begins a phase in which the answers to some users' posts are kept apart.
func (o *offering) watch(whom func(exchange.Mailbox) bool) *tally {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := &tally{began: time.Now(), answered: &meter.Samples{}, watched: &meter.Samples{}, watches: whom}
	o.tallys = append(o.tallys, t)
	return t
}

func (o *offering) tally() *tally {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tallys[len(o.tallys)-1]
}

// keep has events happen at a rate for a time.
func (o *offering) keep(ctx context.Context, perSecond float64, duration time.Duration, choose func(*rand.Rand) exchange.Kind) error {
	random := rand.New(rand.NewPCG(uint64(duration), 1))
	began := time.Now()
	for i := range int(perSecond * duration.Seconds()) {
		due := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		mailbox, done := o.turns.next()
		o.happen(mailbox, choose(random), due)
		done()
	}
	if failed := o.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// happen has something happen in a mailbox.
func (o *offering) happen(mailbox exchange.Mailbox, kind exchange.Kind, due time.Time) {
	p := exchange.Post{Mailbox: mailbox, Kind: kind}
	count := &o.scene.ledger.counts[mailbox]
	switch kind {
	case exchange.NewMail:
		p.Mail, _ = o.scene.ledger.send(due)
		p.Unread = int(count.Add(1))
	case exchange.Read:
		p.Mail = o.scene.ledger.next.Load()
		if count.Load() == 0 {
			p.Unread = 1
		}
		count.Store(int32(p.Unread)) //nolint:gosec // 0 or 1
	case exchange.Heartbeat:
	}
	b := &o.boxes[mailbox]
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == exchange.Heartbeat && b.posting {
		return // it is posted when nothing is
	}
	b.waiting = append(b.waiting, occurrence{p, due})
	if !b.posting {
		b.posting = true
		o.open.Add(1)
		go o.post(b)
	}
}

// post posts what waits in a mailbox until nothing does.
func (o *offering) post(b *box) {
	defer o.open.Add(-1)
	for {
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.posting = false
			b.mu.Unlock()
			return
		}
		next := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.mu.Unlock()
		o.deliver(next)
	}
}

// deliver posts one event until it is taken.
func (o *offering) deliver(event occurrence) {
	first := event.due
	if behind := time.Now(); behind.Sub(first) > late {
		first = behind // it waited for another of the same mailbox
	}
	for elapsed := time.Duration(0); ; {
		due := first.Add(elapsed)
		time.Sleep(time.Until(due))
		c, back := o.connection()
		t := o.tally()
		began := time.Now()
		if began.Sub(due) > late {
			t.late.Add(1)
		}
		// As old as Exchange would say that it is.
		event.post.At = began.Add(-o.hurry * began.Sub(event.due))
		t.offered.Add(1)
		reply, err := c.Post(o.scene.users.targets[event.post.Mailbox], event.post)
		back()
		switch {
		case err == nil && reply.OK:
			t.answered.Add(time.Since(due))
			if t.watches != nil && t.watches(event.post.Mailbox) {
				t.watched.Add(time.Since(due))
			}
			t.taken[event.post.Kind].Add(1)
			return
		case err == nil && reply.Unsubscribe:
			err = errors.New("a living subscription was ended")
			o.failed.CompareAndSwap(nil, &err)
			return
		case err == nil && reply.Status != 503: //nolint:mnd // what is shed
			err = fmt.Errorf("a post was answered %d", reply.Status)
			o.failed.CompareAndSwap(nil, &err)
			return
		}
		t.shed.Add(1) // an answer that does not come is one that fails, too
		if elapsed *= 2; elapsed == 0 {
			elapsed = firstRetry / o.hurry
		}
		if elapsed > frequency/o.hurry {
			t.ended.Add(1)
			return
		}
	}
}

// beatAll posts a heartbeat for each mailbox at a rate. With it comes what is owed: it would have come by itself within the
// time between two.
func (o *offering) beatAll(ctx context.Context, perSecond float64) error {
	for mailbox := 1; mailbox < len(o.boxes); mailbox++ {
		select {
		case <-time.After(time.Duration(float64(time.Second) / perSecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
		o.happen(exchange.Mailbox(mailbox), exchange.Heartbeat, time.Now())
	}
	return o.done(ctx)
}

// dayKind draws what happens at the peak of a day.
func dayKind(random *rand.Rand) exchange.Kind {
	switch n := random.IntN(peakHeartbeats + 2*peakMails); {
	case n < peakHeartbeats:
		return exchange.Heartbeat
	case n < peakHeartbeats+peakMails:
		return exchange.NewMail
	default:
		return exchange.Read
	}
}
