package apns

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

const (
	// maxConnections bounds the connections to Apple, who takes many of them for an attack. One carries thousands of
	// pushes a second.
	maxConnections = 4
	// maxStreams bounds the pushes under way on one connection, whatever the server permits.
	maxStreams = 100
	// patience is how long pushes wait for a stream before a further connection is opened.
	patience = time.Second
	// dialTimeout bounds the making of a connection, TLS included.
	dialTimeout = 10 * time.Second
	// dialSpacing is the least time between two connections, so that a server that cuts each one is not stormed;
	// it doubles with every connection that ends without an accepted push, up to dialSpacingMax.
	dialSpacing    = 100 * time.Millisecond
	dialSpacingMax = 10 * time.Second
)

// pool hands out streams on connections to the server.
//
// Apple grants one stream on a new connection until the first push with a valid token has succeeded, and falls back to
// one after a refusal; requests beyond the limit are refused, and Go's transport then opens connection after connection.
// So the pool sends the first push of a connection alone, and afterwards as many as the server permits at the moment.
// It waits for streams rather than opening connections, and opens a further one only if the queue persists.
type pool struct {
	dial func(context.Context) (*http.ClientConn, error)
	log  *slog.Logger

	// lifetime ends with Close; it bounds dials.
	lifetime context.Context
	end      context.CancelFunc
	// wake tells the loop that a connection's state changed or that it is time to dial.
	wake    chan struct{}
	workers sync.WaitGroup

	mu sync.Mutex
	// conns are those in use; open holds also those that are retired but still carry pushes.
	conns    []*connection
	open     map[*connection]bool
	queue    []*waiter
	dialing  bool
	lastDial time.Time
	// barren counts the connections in a row that ended without an accepted push.
	barren int
	closed bool
	timer  *time.Timer
}

// connection is one HTTP/2 connection. Its fields are guarded by the pool's mutex.
type connection struct {
	cc *http.ClientConn
	// proven: a push was accepted, so the server grants more than one stream.
	proven bool
	// used is how many pushes hold a stream.
	used    int
	retired bool
}

// waiter is a push that waits for a stream.
type waiter struct {
	since time.Time
	grant chan grant
}

type grant struct {
	conn *connection
	err  error
}

// use is how a push on a connection went.
type use int

const (
	// answered: the server answered with something that says nothing about the connection.
	answered use = iota
	// accepted: the push was accepted.
	accepted
	// crowded: the server refused the stream; the push was not looked at.
	crowded
	// broken: the connection is not to be used again.
	broken
)

func newPool(dial func(context.Context) (*http.ClientConn, error), log *slog.Logger) *pool {
	lifetime, end := context.WithCancel(context.Background())
	p := &pool{dial: dial, log: log, lifetime: lifetime, end: end, wake: make(chan struct{}, 1), open: make(map[*connection]bool)}
	p.workers.Go(p.loop)
	return p
}

// loop grants streams when something changed that no push reports: a limit raised, a connection gone, time to dial.
func (p *pool) loop() {
	for {
		select {
		case <-p.lifetime.Done():
			return
		case <-p.wake:
			p.mu.Lock()
			p.grantLocked()
			p.mu.Unlock()
		}
	}
}

// signal wakes the loop. It never blocks, because net/http calls it with its own locks held.
func (p *pool) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// acquire waits for a stream. The caller must make exactly one RoundTrip on the connection and then release it.
func (p *pool) acquire(ctx context.Context) (*connection, error) {
	w := &waiter{since: time.Now(), grant: make(chan grant, 1)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, outbound.ErrClosed
	}
	p.queue = append(p.queue, w)
	p.grantLocked()
	p.mu.Unlock()
	select {
	case g := <-w.grant:
		return g.conn, g.err
	case <-ctx.Done():
		p.abandon(w)
		return nil, context.Cause(ctx)
	}
}

// abandon takes back a wait, and the stream if it was granted meanwhile.
func (p *pool) abandon(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.queue, w); at >= 0 {
		p.queue = slices.Delete(p.queue, at, at+1)
		return
	}
	if g := <-w.grant; g.conn != nil {
		g.conn.cc.Release()
		p.releaseLocked(g.conn, answered)
	}
}

// release gives a stream back.
func (p *pool) release(c *connection, how use) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(c, how)
}

func (p *pool) releaseLocked(c *connection, how use) {
	c.used--
	switch how {
	case accepted:
		c.proven = true
		p.barren = 0
	case crowded:
		c.proven = false
	case broken:
		p.retireLocked(c)
	}
	p.closeIfDoneLocked(c)
	p.grantLocked()
}

// closeIfDoneLocked closes a retired connection that carries nothing any more.
func (p *pool) closeIfDoneLocked(c *connection) {
	if c.retired && c.used == 0 && p.open[c] && !p.closed {
		delete(p.open, c)
		p.workers.Go(func() { _ = c.cc.Close() })
	}
}

// retireLocked takes c out of use; it is closed when its last push has ended.
func (p *pool) retireLocked(c *connection) {
	if c.retired {
		return
	}
	c.retired = true
	if at := slices.Index(p.conns, c); at >= 0 {
		p.conns = slices.Delete(p.conns, at, at+1)
	}
	if !c.proven {
		p.barren++
	}
	p.log.Debug("APNs connection retired", "accepted_any", c.proven, "connections", len(p.conns))
}

// grantLocked gives free streams to the pushes that have waited longest, and dials if that is due.
func (p *pool) grantLocked() {
	if p.closed {
		return
	}
	for len(p.queue) > 0 {
		c := p.reserveLocked()
		if c == nil {
			break
		}
		w := p.queue[0]
		p.queue = p.queue[1:]
		c.used++
		w.grant <- grant{conn: c}
	}
	p.dialIfDueLocked()
}

// reserveLocked reserves a stream on the least used connection that has one, or returns nil.
func (p *pool) reserveLocked() *connection {
	p.pruneLocked()
	var best *connection
	for _, c := range p.conns {
		limit := maxStreams
		if !c.proven {
			limit = 1
		}
		if c.used < limit && c.cc.Available() > 0 && (best == nil || c.used < best.used) {
			best = c
		}
	}
	if best == nil || best.cc.Reserve() != nil {
		return nil
	}
	return best
}

// pruneLocked retires connections that are closed, or that take nothing although nothing is under way: the server has
// said goodbye (GOAWAY), or the numbers for streams are used up.
func (p *pool) pruneLocked() {
	for _, c := range slices.Clone(p.conns) {
		gone := c.cc.Err() != nil || c.used == 0 && c.cc.InFlight() == 0 && c.cc.Available() == 0
		if !gone {
			continue
		}
		p.retireLocked(c)
		p.closeIfDoneLocked(c)
	}
}

// dialIfDueLocked opens a connection if pushes wait and there is none, or if they have waited for long and there may be
// a further one. If it is only due later, it arranges to be called then.
func (p *pool) dialIfDueLocked() {
	if len(p.queue) == 0 || p.dialing || len(p.conns) >= maxConnections {
		return
	}
	due := p.lastDial.Add(p.spacingLocked())
	if len(p.conns) > 0 {
		if waited := p.queue[0].since.Add(patience); waited.After(due) {
			due = waited
		}
	}
	if wait := time.Until(due); wait > 0 {
		p.wakeInLocked(wait)
		return
	}
	p.dialing, p.lastDial = true, time.Now()
	p.workers.Go(p.connect)
}

func (p *pool) spacingLocked() time.Duration {
	spacing := dialSpacing
	for range p.barren {
		if spacing *= 2; spacing >= dialSpacingMax {
			return dialSpacingMax
		}
	}
	return spacing
}

func (p *pool) wakeInLocked(wait time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.signal)
		return
	}
	p.timer.Reset(wait)
}

// connect makes a connection. If it fails and there is no other one, the pushes that wait fail with it: each decides
// itself whether to try again.
func (p *pool) connect() {
	ctx, cancel := context.WithTimeout(p.lifetime, dialTimeout)
	defer cancel()
	cc, err := p.dial(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = false
	switch {
	case p.closed:
		if err == nil {
			p.workers.Go(func() { _ = cc.Close() })
		}
		return
	case err != nil:
		p.barren++
		p.log.Warn("cannot connect to APNs", "error", err)
		if len(p.conns) == 0 {
			p.failQueueLocked(fmt.Errorf("connect to APNs: %w", err))
		}
	default:
		c := &connection{cc: cc}
		p.conns, p.open[c] = append(p.conns, c), true
		cc.SetStateHook(func(*http.ClientConn) { p.signal() })
		p.log.Debug("APNs connection opened", "connections", len(p.conns))
	}
	p.grantLocked()
}

func (p *pool) failQueueLocked(err error) {
	for _, w := range p.queue {
		w.grant <- grant{err: err}
	}
	p.queue = nil
}

// close ends all connections and the pushes on them, and waits until nothing of the pool runs any more.
func (p *pool) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.end()
		if p.timer != nil {
			p.timer.Stop()
		}
		p.failQueueLocked(outbound.ErrClosed)
		for c := range p.open {
			p.workers.Go(func() { _ = c.cc.Close() })
		}
		p.conns, p.open = nil, nil
	}
	p.mu.Unlock()
	p.workers.Wait()
}
