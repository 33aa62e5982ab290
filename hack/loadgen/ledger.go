package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
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
	done bool
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

// payload is what of a push tells what it is about.
type payload struct {
	ENS struct {
		MessageID string `json:"messageId"`
	} `json:"ens"`
}

// accepted is told by the provider of every push that it takes.
func (l *ledger) accepted(token string, n apnstest.Notification) {
	now := time.Now()
	var content payload
	if n.APS.Alert != nil {
		_ = json.Unmarshal(n.Payload, &content) // the fake has read it already
	}
	sentTo, number, err := exchange.ParseItemID(content.ENS.MessageID)
	if n.APS.ContentAvailable != 0 && l.nudged != nil {
		l.nudged(mailboxOf(token))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	mailbox := mailboxOf(token)
	if n.APS.Alert == nil {
		l.badges++
		if told := l.badged[mailbox]; told != nil {
			close(told)
			delete(l.badged, mailbox)
		}
		return
	}
	if content.ENS.MessageID == "" {
		l.summary(mailbox, n, now)
		return
	}
	m := l.mails[number]
	switch {
	case err != nil || m == nil || mailbox != sentTo: // nobody sent it, or to somebody else
		l.unknown++
	case m.done:
		l.twice++
	default:
		l.tell(mailbox, m, n, now)
	}
}

// tell notes that a mail was told; l.mu is held.
func (l *ledger) tell(mailbox exchange.Mailbox, m *mail, n apnstest.Notification, now time.Time) {
	m.done = true
	l.told++
	own := n.Received.Sub(m.sent) - m.held
	l.delivery.Add(now.Sub(m.sent))
	l.own.Add(own)
	if l.watches != nil && l.watches(mailbox) {
		l.watched.Add(own)
	}
	close(m.told)
}

// summary is a notification that tells of several mails, and only how many: of some that were fetched and not told, and it must
// not be of more. l.mu is held.
func (l *ledger) summary(mailbox exchange.Mailbox, n apnstest.Notification, now time.Time) {
	count := 0
	if _, err := fmt.Sscanf(n.APS.Alert.Title, "%d new messages", &count); err != nil {
		l.unknown++
		return
	}
	for _, m := range l.mails {
		if count == 0 {
			return
		}
		if m.mailbox == mailbox && !m.done {
			l.tell(mailbox, m, n, now)
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
