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

// tellLimit is how long a notification may take until it counts as lost.
const tellLimit = time.Minute

var errUntold = errors.New("a notification did not reach the provider within " + tellLimit.String())

// driver does what Exchange does for many mailboxes. Whose turn it is goes round through all of them, in no order, but for
// those to whom something is happening already.
type driver struct {
	scene *scene
	turns []exchange.Mailbox
	turn  atomic.Int64
	busy  []atomic.Bool
	// target are the mailboxes' webhooks, connect makes a connection to them for a worker.
	target  func(exchange.Mailbox) exchange.Target
	connect func(worker int) *exchange.Connection
	// atRate is how many events of a rate may be under way at once.
	atRate int
	// forgiving says that a post without an answer is made again as one that was shed, and counted in unanswered.
	forgiving  bool
	unanswered atomic.Int64
	// quit, if there is one, ends the waiting for the time to post again.
	quit <-chan struct{}
	// answered are the times from a post to its answer.
	answered *meter.Samples
	// posted are the posts that were answered OK, shed those that Exchange would have to make again.
	posted, shed atomic.Int64
}

func newDriver(x *scene) *driver {
	among := x.busy
	if among.count == 0 {
		among = span{first: 1, count: x.users.size}
	}
	d := &driver{
		scene: x, turns: make([]exchange.Mailbox, among.count), busy: make([]atomic.Bool, x.users.size+1), answered: &meter.Samples{},
		target:  func(m exchange.Mailbox) exchange.Target { return x.users.targets[m] },
		connect: func(worker int) *exchange.Connection { return exchange.NewConnection(x.webhook(worker)) },
		atRate:  maxWaiting,
	}
	for i, at := range rand.Perm(among.count) {
		d.turns[i] = among.first + exchange.Mailbox(at)
	}
	return d
}

// next is whose turn it is. Nobody else gets the same until done is called.
func (d *driver) next() (mailbox exchange.Mailbox, done func()) {
	for tries := 1; ; tries++ {
		mailbox = d.turns[int(d.turn.Add(1)-1)%len(d.turns)]
		if d.busy[mailbox].CompareAndSwap(false, true) {
			return mailbox, func() { d.busy[mailbox].Store(false) }
		}
		if tries%len(d.turns) == 0 {
			time.Sleep(time.Millisecond) // something is happening to all of them
		}
	}
}

// event is one thing that happens to a mailbox, as of a time, with its consequences. It returns when the phone has been told.
type event func(ctx context.Context, d *driver, c *exchange.Connection, at time.Time) error

// heartbeat is Exchange's word that the subscription lives.
func heartbeat(_ context.Context, d *driver, c *exchange.Connection, at time.Time) error {
	mailbox, done := d.next()
	defer done()
	return d.post(c, exchange.Post{Mailbox: mailbox, Kind: exchange.Heartbeat, At: at}, at)
}

// newMail is a mail that comes.
func newMail(ctx context.Context, d *driver, c *exchange.Connection, at time.Time) error {
	mailbox, done := d.next()
	defer done()
	number, told := d.scene.ledger.send(at)
	unread := d.scene.ledger.counts[mailbox].Add(1)
	if err := d.post(c, exchange.Post{Mailbox: mailbox, Mail: number, Kind: exchange.NewMail, Unread: int(unread), At: at}, at); err != nil {
		return err
	}
	return wait(ctx, told)
}

// read is a mail that is read elsewhere, which changes the badge.
func read(ctx context.Context, d *driver, c *exchange.Connection, at time.Time) error {
	mailbox, done := d.next()
	defer done()
	count := &d.scene.ledger.counts[mailbox]
	unread := int32(0)
	if count.Load() == 0 { // there is none: it was marked as unread
		unread = 1
	}
	count.Store(unread)
	told := d.scene.ledger.awaitBadge(mailbox)
	if err := d.post(c, exchange.Post{Mailbox: mailbox, Mail: d.scene.ledger.next.Load(), Kind: exchange.Read, Unread: int(unread), At: at}, at); err != nil {
		return err
	}
	return wait(ctx, told)
}

func wait(ctx context.Context, told <-chan struct{}) error {
	timer := time.NewTimer(tellLimit)
	defer timer.Stop()
	select {
	case <-told:
		return nil
	case <-timer.C:
		return errUntold
	case <-ctx.Done():
		return ctx.Err()
	}
}

// post posts and takes note of the answer. What is shed is posted again after a while, as Exchange does.
func (d *driver) post(c *exchange.Connection, p exchange.Post, at time.Time) error {
	for pause := retryAfter; ; pause *= 2 {
		reply, err := c.Post(d.target(p.Mailbox), p)
		switch {
		case err != nil && !d.forgiving:
			return err
		case err != nil:
			d.unanswered.Add(1)
		case reply.OK:
			d.answered.Add(time.Since(at))
			d.posted.Add(1)
			return nil
		case reply.Unsubscribe:
			return errors.New("a living subscription was ended")
		}
		d.shed.Add(1)
		if pause > lastRetry {
			return fmt.Errorf("%w; the last answer was %d, the last failure %v", errGivenUp, reply.Status, err) //nolint:errorlint // mostly nil
		}
		select {
		case <-time.After(pause):
		case <-d.quit:
			return context.Canceled
		}
		at = time.Now()
	}
}

var errGivenUp = errors.New("a post was not taken until Exchange would have given up")

// Exchange tries again after 30 s, then after twice as long each time, until it gives up. Here it is ten times as quick.
const (
	retryAfter = 3 * time.Second
	lastRetry  = 96 * time.Second
)

// flood has as many events under way at once as are asked for, for a time: as much as is possible.
func (d *driver) flood(ctx context.Context, inFlight int, duration time.Duration, choose func(*rand.Rand) event) error {
	until := time.Now().Add(duration)
	return d.workers(inFlight, func(c *exchange.Connection, random *rand.Rand) error {
		for time.Now().Before(until) && ctx.Err() == nil {
			if err := choose(random)(ctx, d, c, time.Now()); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// maxWaiting bounds the events that are under way at once at a rate.
const maxWaiting = 1024

// keep makes events at a rate, whatever becomes of them; each counts from when it was due.
func (d *driver) keep(ctx context.Context, perSecond float64, duration time.Duration, choose func(*rand.Rand) event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	due := make(chan time.Time, maxWaiting)
	go func() {
		defer close(due)
		began := time.Now()
		for i := range int(perSecond * duration.Seconds()) {
			at := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
			time.Sleep(time.Until(at))
			select {
			case due <- at:
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.workers(d.atRate, func(c *exchange.Connection, random *rand.Rand) error {
		for at := range due {
			if err := choose(random)(ctx, d, c, at); err != nil {
				cancel()
				return err
			}
		}
		return nil
	})
}

// workers runs a function with a connection of its own as often as asked for, all at once.
func (d *driver) workers(count int, run func(*exchange.Connection, *rand.Rand) error) error {
	failures := make([]error, count)
	var group sync.WaitGroup
	for i := range count {
		group.Go(func() {
			c := d.connect(i)
			defer c.Close()
			failures[i] = run(c, rand.New(rand.NewPCG(uint64(i), 1)))
		})
	}
	group.Wait()
	for _, err := range failures { // one is enough: the others are like it
		if err != nil {
			return err
		}
	}
	return nil
}

func always(e event) func(*rand.Rand) event { return func(*rand.Rand) event { return e } }

// The peak of a day of 1,000,000 users, a second (issue: 60 mails a day each, five times as many at the peak; a heartbeat in
// 15 minutes). A mail is read later.
const (
	peakHeartbeats = 1_111
	peakMails      = 3_470
)

// day draws events as they come at the peak of a day.
func day(random *rand.Rand) event {
	switch n := random.IntN(peakHeartbeats + 2*peakMails); {
	case n < peakHeartbeats:
		return heartbeat
	case n < peakHeartbeats+peakMails:
		return newMail
	default:
		return read
	}
}
