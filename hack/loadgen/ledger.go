package main

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
)

// ledger knows what every mailbox's phone is owed and when it was told: each mail exactly once.
type ledger struct {
	// next is the number of the last mail there was.
	next atomic.Uint64
	// counts are the mailboxes' unread counts.
	counts []atomic.Int32

	mu    sync.Mutex
	mails map[uint64]*mail
	// shown are the pushes about mails that were told already, or that nobody sent.
	twice, unknown int
	badges         int
	told           int
	// delivery is from the post to the acceptance by the provider, own what is left of it without the time that Exchange and
	// the provider took.
	delivery, own *meter.Samples
	// badged are who waits for a badge, by mailbox.
	badged map[exchange.Mailbox]chan<- struct{}
	// watched are the own parts of the mails of those users for whom watches is true, if there is such a function.
	watched *meter.Samples
	watches func(exchange.Mailbox) bool
	// devices is how many a mailbox has; one if it is nil.
	devices func(exchange.Mailbox) int
	// nudged is told whose phone is asked to register again, if anybody wants to know.
	nudged func(exchange.Mailbox)
}

// mail is one that was posted about.
type mail struct {
	sent time.Time
	// mailbox is known once it has been fetched, 0 before.
	mailbox exchange.Mailbox
	// held is how long Exchange had the runtime wait for it.
	held time.Duration
	told chan struct{}
	// shown are the devices that were told, one bit for each, done says that all were.
	shown uint64
	done  bool
}

func newLedger(mailboxes int) *ledger {
	return &ledger{
		counts: make([]atomic.Int32, mailboxes+1), mails: map[uint64]*mail{}, badged: map[exchange.Mailbox]chan<- struct{}{},
		delivery: &meter.Samples{}, own: &meter.Samples{},
	}
}

// send begins a mail that is about to be posted, as of a time. The channel is closed when the provider has it.
func (l *ledger) send(at time.Time) (number uint64, told <-chan struct{}) {
	number = l.next.Add(1)
	m := &mail{sent: at, told: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mails[number] = m
	return number, m.told
}

// fetched is told by Exchange.
func (l *ledger) fetched(mailbox exchange.Mailbox, number uint64, held time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.mails[number]; m != nil {
		m.mailbox = mailbox
		m.held += held
	}
}

func (l *ledger) unread(m exchange.Mailbox) int { return int(l.counts[m].Load()) }

// awaitBadge has a channel closed when the mailbox's phone is told a badge alone.
func (l *ledger) awaitBadge(mailbox exchange.Mailbox) <-chan struct{} {
	told := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.badged[mailbox] = told
	return told
}

// notice is what a provider tells of a push that it takes.
type notice struct {
	device device
	// received is when it had come in whole.
	received time.Time
	// alert says that it shows something, title and messageID what.
	alert            bool
	title, messageID string
	// nudge says that it asks the phone to register again.
	nudge bool
}

// accepted is told by the providers of every push that they take.
func (l *ledger) accepted(n notice) {
	if n.nudge && l.nudged != nil {
		l.nudged(n.device.of)
		return
	}
	now := time.Now()
	sentTo, number, err := exchange.ParseItemID(n.messageID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !n.alert {
		l.badges++
		if told := l.badged[n.device.of]; told != nil {
			close(told)
			delete(l.badged, n.device.of)
		}
		return
	}
	if n.messageID == "" {
		l.summary(n, now)
		return
	}
	m := l.mails[number]
	switch {
	case err != nil || m == nil || n.device.of != sentTo || n.device.number >= l.devicesOf(sentTo): // nobody sent it, or to somebody else
		l.unknown++
	case m.shownOn(n.device):
		l.twice++
	default:
		l.tell(m, n, now)
	}
}

func (l *ledger) devicesOf(mailbox exchange.Mailbox) int {
	if l.devices == nil {
		return 1
	}
	return l.devices(mailbox)
}

func (m *mail) shownOn(d device) bool { return m.shown&(1<<d.number) != 0 }

// tell notes that a device was told of a mail; it counts as told with the last of them. l.mu is held.
func (l *ledger) tell(m *mail, n notice, now time.Time) {
	m.shown |= 1 << n.device.number
	if bits.OnesCount64(m.shown) < l.devicesOf(n.device.of) {
		return
	}
	m.done = true
	l.told++
	own := n.received.Sub(m.sent) - m.held
	l.delivery.Add(now.Sub(m.sent))
	l.own.Add(own)
	if l.watches != nil && l.watches(n.device.of) {
		l.watched.Add(own)
	}
	close(m.told)
}

// summary is a notification that tells of several mails, and only how many: of some that were fetched and not told, and it must
// not be of more. l.mu is held.
func (l *ledger) summary(n notice, now time.Time) {
	count := 0
	if _, err := fmt.Sscanf(n.title, "%d new messages", &count); err != nil {
		l.unknown++
		return
	}
	for _, m := range l.mails {
		if count == 0 {
			return
		}
		if m.mailbox == n.device.of && !m.shownOn(n.device) {
			l.tell(m, n, now)
			count--
		}
	}
	l.unknown += count
}

// watch keeps the own parts of some users' mails apart from now on.
func (l *ledger) watch(whom func(exchange.Mailbox) bool) *meter.Samples {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watches, l.watched = whom, &meter.Samples{}
	return l.watched
}

// account is where the ledger stands.
type account struct {
	sent, told, untold, twice, unknown, badges int
}

func (l *ledger) account() account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := account{sent: len(l.mails), told: l.told, twice: l.twice, unknown: l.unknown, badges: l.badges}
	for _, m := range l.mails {
		if !m.done {
			a.untold++
		}
	}
	return a
}

// turn begins a new page: what was told is forgotten, and the samples with it.
func (l *ledger) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for number, m := range l.mails {
		if m.done {
			delete(l.mails, number)
		}
	}
	l.told, l.badges = 0, 0
	l.delivery, l.own = &meter.Samples{}, &meter.Samples{}
}
