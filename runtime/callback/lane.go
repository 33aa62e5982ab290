package callback

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// queuePerWorker bounds the users that wait for a worker. What is beyond it stays owed in the journal.
const queuePerWorker = 16

// lanes give each endpoint workers and a queue of its own: an Exchange that hangs holds them all, and nobody else's.
type lanes struct {
	workers int

	mu      sync.Mutex
	byName  map[string]*lane
	clock   clock.Clock
	closing context.Context //nolint:containedctx // ends when the process has no more time for work under way
}

// lane is that of one endpoint.
type lane struct {
	slots chan struct{}
	// users are those that are worked on or wait, reserved those whose work is about to come. The processor guards them.
	users, reserved int
	// waited is for how long the last one to get a worker had waited for it.
	waited atomic.Int64
}

// maxWait is how long work may wait for a worker before further work is left to Exchange. Where there is little CPU, a queue that
// is bounded by its length alone grows to many seconds, all of them spent on taking what cannot be told soon.
const maxWait = 2 * time.Second

func newLanes(closing context.Context, c clock.Clock, workers int) *lanes {
	return &lanes{workers: workers, byName: map[string]*lane{}, clock: c, closing: closing}
}

// of is the lane of an endpoint. What needs none has one too.
func (l *lanes) of(endpoint string) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.byName[endpoint]
	if found == nil {
		found = &lane{slots: make(chan struct{}, l.workers)}
		l.byName[endpoint] = found
	}
	return found
}

// full says that there is no room to reserve: too many wait, or all workers are busy and those who wait do so for too long.
func (l *lane) full() bool {
	users := l.users + l.reserved
	return users >= queuePerWorker*cap(l.slots) || users > cap(l.slots) && time.Duration(l.waited.Load()) > maxWait
}

// crowded says that there is no room for another user.
func (l *lane) crowded() bool { return l.users >= queuePerWorker*cap(l.slots) }

// acquire takes a worker of the endpoint; the caller calls release. It returns false when the time for the work is up
// before one is free.
func (l *lanes) acquire(endpoint string, deadline time.Time) (release func(), ok bool) {
	found := l.of(endpoint)
	release = func() { <-found.slots }
	select {
	case found.slots <- struct{}{}:
		found.waited.Store(0)
		return release, true
	default: // only who has to wait needs a timer
	}
	began := l.clock.Now()
	select {
	case found.slots <- struct{}{}:
		found.waited.Store(int64(l.clock.Since(began)))
		return release, true
	case <-l.clock.After(deadline.Sub(l.clock.Now())):
		return nil, false
	case <-l.closing.Done():
		return nil, false
	}
}

// place is a worker of an endpoint, which a work has while it may ask Exchange. A work that waits for something else gives it to
// others: a push service that hangs must not hold up all who are at the same Exchange.
type place struct {
	lanes    *lanes
	endpoint string
	// deadline bounds the wait for one.
	deadline time.Time
	// release is nil while the work has none.
	release func()
}

// errNoPlace says that the time was up before there was one.
var errNoPlace = errors.New("all who may ask the server at once are at it")

// take has the work have a place. It returns false when the time for the work is up before there is one.
func (p *place) take() bool {
	if p.release != nil {
		return true
	}
	release, ok := p.lanes.acquire(p.endpoint, p.deadline)
	if ok {
		p.release = release
	}
	return ok
}

// leave gives the place to others.
func (p *place) leave() {
	if p.release != nil {
		p.release()
		p.release = nil
	}
}
