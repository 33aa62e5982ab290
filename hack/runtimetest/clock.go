package runtimetest

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Clock is the real clock, set forward at will. It goes on by itself, so that whatever waits for seconds gets its turn;
// setting it forward wakes who waits in After. Timers and tickers, which bound what is under way, are real.
//
// It begins where the real clock will be when the next window of providerTokenWindow begins, so that a test meets the
// change of a push provider's token at the same place whatever the time of day.
type Clock struct {
	clock.RealClock

	begin   sync.Once
	mu      sync.Mutex
	ahead   time.Duration
	waiters map[*waiter]bool
}

// waiter waits in After.
type waiter struct {
	until time.Time
	woken chan time.Time
}

// Advance sets the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	for w := range c.waiters {
		if now := c.now(); !now.Before(w.until) {
			c.wake(w, now)
		}
	}
}

// Now implements clock.PassiveClock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

// providerTokenWindow is how long a provider token for APNs serves.
const providerTokenWindow = 40 * time.Minute

// now is Now with c.mu held.
func (c *Clock) now() time.Time {
	now := c.RealClock.Now()
	c.begin.Do(func() { c.ahead += now.Truncate(providerTokenWindow).Add(providerTokenWindow).Sub(now) })
	return now.Add(c.ahead)
}

// Since implements clock.PassiveClock.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// After implements clock.Clock.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &waiter{until: c.now().Add(d), woken: make(chan time.Time, 1)}
	if c.waiters == nil {
		c.waiters = map[*waiter]bool{}
	}
	c.waiters[w] = true
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake(w, c.now())
	})
	return w.woken
}

// wake wakes a waiter once; c.mu is held.
func (c *Clock) wake(w *waiter, now time.Time) {
	if c.waiters[w] {
		delete(c.waiters, w)
		w.woken <- now
	}
}
