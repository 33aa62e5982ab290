package callback

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/ews"
)

// errBackedOff says that Exchange has asked to leave this mailbox alone for some time yet.
var errBackedOff = errors.New("the server has asked to wait")

// backOffs are the mailboxes that a server has asked to leave alone (BackOffMilliseconds, Retry-After), which may be for
// minutes. Whoever asks in spite of it is put off for longer. A mailbox is that of one user at one endpoint.
type backOffs struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	until  map[mailbox]time.Time
	pruned time.Time
}

type mailbox struct {
	userID   int64
	endpoint string
}

func newBackOffs(c clock.PassiveClock) *backOffs {
	return &backOffs{clock: c, until: map[mailbox]time.Time{}, pruned: c.Now()}
}

// note takes note of what a server asked for.
func (b *backOffs) note(m mailbox, err error) {
	refusal, ok := errors.AsType[*ews.Error](err)
	if !ok || refusal.BackOff <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	if now.Sub(b.pruned) >= time.Minute { // what is over is of no use to anybody
		for known, until := range b.until {
			if now.After(until) {
				delete(b.until, known)
			}
		}
		b.pruned = now
	}
	b.until[m] = now.Add(refusal.BackOff)
}

// check returns an errBackedOff as long as the mailbox is to be left alone.
func (b *backOffs) check(m mailbox) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, found := b.until[m]
	if left := until.Sub(b.clock.Now()); found && left > 0 {
		return fmt.Errorf("%w, for %s yet", errBackedOff, left.Round(time.Second))
	}
	return nil
}
