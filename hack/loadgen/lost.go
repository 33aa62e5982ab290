package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// What happens to whom in the set lost. Times of the runtime's clock pass lostSpeed times as fast as real ones.
const (
	lostSpeed = 20
	// lostUsers is one user of so many of the storm: this is about what happens, not how fast.
	lostUsers = 10
	// fewestLost is how many users it takes to have a password among the changes and others enough.
	fewestLost = 60
	// lostPart and changedPart are one of so many users: those whose subscription Exchange forgets, and those whose password
	// changes. If as many as a tenth of those who are asked for were refused, the runtime would hold the server guilty.
	lostPart, changedPart = 3, 50
	// changeEvery is how far apart passwords change.
	changeEvery = 250 * time.Millisecond
	// heartbeatEvery is how often Exchange posts for a user whose password has changed.
	heartbeatEvery = time.Second
	// mailEvery is how far apart the mails lie of a user whose password has changed, by the quick clock: a credential that was
	// refused once is tried again after five minutes, and refused for good then.
	mailEvery = 6 * time.Minute
	// lostLimit is how long all of it may take.
	lostLimit = 4 * time.Minute
	// mostLogins is how often a password that is not valid any more may be presented: the account may be locked by more.
	mostLogins = 2
)

// accident is something that happened to a user whose phone has to register again.
type accident struct {
	mailbox  exchange.Mailbox
	password string
	// before is the webhook of the subscription at that time, at when it happened, by the quick clock.
	before exchange.Target
	at     time.Time
	// missed is the mail that came meanwhile.
	missed exchange.Listed
	nudged atomic.Bool
	// again is closed when the phone has registered again.
	again chan struct{}
	err   error
}

// losses are all accidents.
type losses struct {
	run    *run
	phones *phones
	of     map[exchange.Mailbox]*accident
	// untilNudged are the times by the quick clock.
	untilNudged meter.Samples
	// needless are nudges of users to whom nothing has happened.
	needless atomic.Int64
	// quiet says that no mail is to come any more.
	quiet atomic.Bool
	mu    sync.Mutex
	// latest are the latest webhooks.
	latest map[exchange.Mailbox]exchange.Target
}

// lost has Exchange forget subscriptions and users change their passwords, while all others get their mail. Their phones know
// of it by the runtime alone.
func lost(ctx context.Context, s settings, r *report, progress io.Writer) error {
	s.users = max(s.users/lostUsers, fewestLost)
	l := &losses{of: map[exchange.Mailbox]*accident{}, latest: map[exchange.Mailbox]exchange.Target{}}
	first := newGreeter(4 * s.users) //nolint:mnd // attempts whose answer was lost are among them
	s.arrangement = arrangement{
		speed:     lostSpeed,
		configure: func(c *config.Config) { c.Notifications.StatusFrequencyMinutes, c.KeyPool = 1, config.KeyPool{} },
		newest:    l.newest,
		subscribed: func(m exchange.Mailbox, t exchange.Target) {
			l.mu.Lock()
			l.latest[m] = t
			l.mu.Unlock()
			first.due <- greeting{m, t}
		},
	}
	x, err := setScene(ctx, s, progress)
	defer x.close()
	if err != nil {
		return err
	}
	b := &run{scene: x, settings: s, report: r, progress: progress}
	if err := errors.Join(b.reference(), x.start(ctx)); err != nil {
		return err
	}
	l.run, l.phones = b, newPhones(x)
	for m := exchange.Mailbox(1); int(m) <= s.users/lostPart+s.users/changedPart; m++ {
		l.of[m] = &accident{mailbox: m, password: m.Password(), before: x.users.targets[m], again: make(chan struct{})}
	}
	x.ledger.nudged = l.nudge
	go first.greet(x.address)
	if err := l.happen(ctx); err != nil {
		return b.explain(errors.Join(err, l.phones.fault(), first.close()))
	}
	if err := first.close(); err != nil {
		return b.explain(err)
	}
	return l.report()
}

// happen lets it happen, until all phones have registered again and been told what they missed.
func (l *losses) happen(ctx context.Context) error {
	b := l.run
	ctx, stop := context.WithTimeout(ctx, lostLimit)
	defer stop()
	others := newDriver(b.scene)
	for m := range l.of {
		others.busy[m].Store(true) // for good: what happens to them happens here
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	const ratePart = 2 // everybody else is posted about every two seconds, 40 of the runtime's
	living := make(chan error, 1)
	go func() {
		err := others.keep(ctx, float64(b.settings.users/ratePart), lostLimit, l.everyday)
		if err != nil {
			cancel(err)
		}
		living <- err
	}()
	changed := exchange.Mailbox(b.settings.users / changedPart)
	say(b.progress, "Exchange forgets %d subscriptions, and %d users change their passwords", len(l.of)-int(changed), changed)
	for m := changed + 1; int(m) <= len(l.of); m++ {
		l.forget(l.of[m])
	}
	var changes sync.WaitGroup
	for m := exchange.Mailbox(1); m <= changed; m++ {
		changes.Go(func() { l.of[m].err = l.change(ctx, l.of[m]) })
		time.Sleep(changeEvery)
	}
	changes.Wait()
	for _, a := range l.of {
		select {
		case <-a.again:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", l.missing(), errors.Join(context.Cause(ctx), a.err))
		}
		if a.err != nil {
			return a.err
		}
	}
	say(b.progress, "All have registered again")
	if err := errors.Join(l.afterwards(others), b.settle(ctx)); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	cancel(nil)
	if err := <-living; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// missing says who has not registered again.
func (l *losses) missing() string {
	var forgotten, changed, asked int
	for _, a := range l.of {
		select {
		case <-a.again:
			continue
		default:
		}
		if a.missed.Mail != 0 {
			forgotten++
		} else {
			changed++
		}
		if a.nudged.Load() {
			asked++
		}
	}
	return fmt.Sprintf("%d whose subscription was forgotten and %d whose password has changed have not registered again; %d of them were asked to",
		forgotten, changed, asked)
}

// everyday is half heartbeats, half mails as long as there are to be any.
func (l *losses) everyday(random *rand.Rand) event {
	if l.quiet.Load() || random.IntN(2) == 0 { //nolint:mnd // half
		return heartbeat
	}
	return mailUnwatched
}

// mailUnwatched is newMail, but for that nobody waits until the phone is told: with so quick a clock the runtime may give up what
// takes a second, and the user's next heartbeat must be let come to have it told.
func mailUnwatched(_ context.Context, d *driver, c *exchange.Connection, at time.Time) error {
	mailbox, done := d.next()
	defer done()
	return d.mail(c, mailbox, at)
}

func (d *driver) mail(c *exchange.Connection, mailbox exchange.Mailbox, at time.Time) error {
	number, _ := d.scene.ledger.send(at)
	unread := d.scene.ledger.counts[mailbox].Add(1)
	return d.post(c, exchange.Post{Mailbox: mailbox, Mail: number, Kind: exchange.NewMail, Unread: int(unread), At: at}, at)
}

// forget has Exchange forget the subscription. A mail comes, of which nobody is told.
func (l *losses) forget(a *accident) {
	a.at = l.run.scene.clock.Now()
	a.missed.Mail, _ = l.run.scene.ledger.send(time.Now())
	a.missed.Received = a.at
	l.run.scene.ledger.counts[a.mailbox].Add(1)
}

// change changes the password. Mail and heartbeats go on being posted, with the credential before in them.
func (l *losses) change(ctx context.Context, a *accident) error {
	x := l.run.scene
	a.at, a.password = x.clock.Now(), x.exchange.ChangePassword(a.mailbox)
	c := exchange.NewConnection(x.address)
	defer c.Close()
	for mailed := (time.Time{}); ; {
		p := exchange.Post{Mailbox: a.mailbox, Kind: exchange.Heartbeat, At: x.clock.Now()}
		if x.clock.Since(mailed) > mailEvery && !a.nudged.Load() {
			mailed = p.At
			p.Kind, p.Unread = exchange.NewMail, int(x.ledger.counts[a.mailbox].Add(1))
			p.Mail, _ = x.ledger.send(time.Now())
		}
		if reply, err := c.Post(a.before, p); err != nil || !reply.OK && !reply.Unsubscribe {
			return fmt.Errorf("a post after a password was changed is answered %d: %w", reply.Status, err)
		}
		select {
		case <-time.After(heartbeatEvery):
		case <-a.again:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// nudge is told of each phone that is asked to register again.
func (l *losses) nudge(m exchange.Mailbox) {
	a := l.of[m]
	if a == nil {
		l.needless.Add(1)
		return
	}
	if !a.nudged.CompareAndSwap(false, true) {
		return
	}
	l.untilNudged.Add(l.run.scene.clock.Since(a.at))
	go func() {
		defer close(a.again)
		ctx, cancel := context.WithTimeout(context.Background(), lostLimit)
		defer cancel()
		if err := l.phones.enter(ctx, m, a.password); err != nil {
			a.err = fmt.Errorf("registering again: %w", err)
		}
	}()
}

// newest lists what came while the subscription was lost.
func (l *losses) newest(m exchange.Mailbox) []exchange.Listed {
	if a := l.of[m]; a != nil && a.missed.Mail != 0 {
		return []exchange.Listed{a.missed}
	}
	return nil
}

// afterwards shows that the subscriptions before end and the new ones work.
func (l *losses) afterwards(d *driver) error {
	x := l.run.scene
	c := exchange.NewConnection(x.address)
	defer c.Close()
	for m, a := range l.of {
		reply, err := c.Post(a.before, exchange.Post{Mailbox: m, Kind: exchange.Heartbeat, At: x.clock.Now()})
		if err != nil || !reply.Unsubscribe {
			return fmt.Errorf("the subscription before is not ended but answered %d: %w", reply.Status, err)
		}
		l.mu.Lock()
		x.users.targets[m] = l.latest[m]
		l.mu.Unlock()
		if err := d.mail(c, m, time.Now()); err != nil {
			return err
		}
		d.busy[m].Store(false) // from now on it is one like all others
	}
	l.quiet.Store(true)
	return nil
}

func (l *losses) report() error {
	r, x := l.run.report, l.run.scene
	changed, most := l.run.settings.users/changedPart, 0
	for m := range l.of {
		most = max(most, x.exchange.Outdated(m))
	}
	r.add("lost", "subscriptions that Exchange forgot", float64(len(l.of)-changed), "")
	r.add("lost", "passwords that changed", float64(changed), "")
	r.add("lost", "users who went on as before", float64(l.run.settings.users-len(l.of)), "")
	r.add("lost", "phones that were asked and registered again", float64(l.untilNudged.Count()), "")
	r.add("lost", "until a phone was asked, p50", l.untilNudged.Percentile(50).Minutes(), "min of the runtime")
	r.add("lost", "until a phone was asked, p100", l.untilNudged.Percentile(100).Minutes(), "min of the runtime")
	r.add("lost", "phones that were asked needlessly", float64(l.needless.Load()), "")
	r.addGoal("lost", "logins with a password that had changed, at most", float64(most), "", mostLogins)
	if most > mostLogins {
		return fmt.Errorf("%d logins with a password that had changed: the account may be locked", most)
	}
	return errors.Join(l.phones.fault(), l.run.faultless())
}
