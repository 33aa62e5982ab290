// Package turns tells callers who have to be turned away when to come again, each a while after the one before: if all came
// at once, most of them would have to be turned away again.
package turns

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Longest is the longest that anybody is told to stay away: who comes later than could be served is served late for nothing.
const Longest = 2 * time.Minute

// Turns hands out turns. The zero value is ready to use. It is safe for concurrent use.
type Turns struct {
	mu sync.Mutex
	// next is when the next turn is.
	next time.Time
}

// After returns how long a caller is to stay away: at least as long as least, and so that as many come in a second as asked
// for. Those for whom there is no turn within Longest come some time before: how soon there is room is not known so far
// ahead, and a turn that nobody takes would be lost.
func (t *Turns) After(now time.Time, least time.Duration, perSecond float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next.Before(now) {
		t.next = now
	}
	ahead := t.next.Sub(now)
	if spread := Longest - least; ahead > spread {
		return least + rand.N(spread)
	}
	t.next = t.next.Add(time.Duration(float64(time.Second) / perSecond))
	return least + ahead
}
