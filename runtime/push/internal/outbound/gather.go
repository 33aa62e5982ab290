package outbound

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxGathered is how much is gathered before writers wait: some hundred pushes.
	maxGathered = 256 << 10
	// goodbye is how long a connection that is closed may take to send what was written before, and what has come on one that
	// failed may be read.
	goodbye = time.Second
)

// Dial connects to address over network.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Gather has the connections that dial makes send together what is written within a moment. HTTP/2 writes each request in two
// parts, and many requests at once on one connection: each write by itself would be a system call and a packet, the
// greater part of what a push costs. What is written while nothing is being sent is sent at once, most often when its writer has
// nothing more to write.
//
// A write returns before it is sent. If nothing can be sent for timeout, or sending fails, every later write returns why, and so
// does reading when nothing more has come for a moment.
func Gather(dial Dial, timeout time.Duration) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		g := &gathering{Conn: conn, timeout: timeout, wake: make(chan struct{}, 1), ended: make(chan struct{})}
		g.room.L = &g.mu
		go g.send()
		return g, nil
	}
}

// gathering is a connection whose writes are sent by a goroutine of its own.
type gathering struct {
	net.Conn
	timeout time.Duration
	// wake tells that there is something to send or that the connection is closed.
	wake chan struct{}
	// ended is closed when nothing is sent any more.
	ended chan struct{}

	mu sync.Mutex
	// room is signalled when what was gathered is taken, and when the connection has failed.
	room     sync.Cond
	gathered []byte
	// err is why nothing more can be written.
	err error
}

// Write implements net.Conn.
func (g *gathering) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && len(g.gathered) >= maxGathered {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	g.gathered = append(g.gathered, p...)
	g.signal()
	return len(p), nil
}

func (g *gathering) signal() {
	select {
	case g.wake <- struct{}{}:
	default: // it has not been heard yet
	}
}

// send sends what is gathered until the connection is closed or fails.
func (g *gathering) send() {
	defer close(g.ended)
	var sent []byte // takes turns with gathered
	for range g.wake {
		g.mu.Lock()
		sent, g.gathered = g.gathered, sent[:0]
		closed := g.err != nil
		if !closed { // else Close has set a deadline
			_ = g.Conn.SetWriteDeadline(time.Now().Add(g.timeout))
		}
		g.room.Broadcast()
		g.mu.Unlock()
		if err := g.sendAll(sent); err != nil {
			g.fail(err)
			return
		}
		if closed {
			return
		}
	}
}

// sendAll goes on for as long as anything is taken within the time limit.
func (g *gathering) sendAll(rest []byte) error {
	for len(rest) > 0 {
		n, err := g.Conn.Write(rest)
		rest = rest[n:]
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		if err != nil && !g.extend() {
			return err
		}
	}
	return nil
}

// extend gives what is being sent its time anew, unless the connection is closed.
func (g *gathering) extend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err == nil && g.Conn.SetWriteDeadline(time.Now().Add(g.timeout)) == nil
}

// fail ends writing for a reason, of which the first counts. What the other side has sent, which may say more, can be read for a
// moment.
func (g *gathering) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.room.Broadcast()
	_ = g.Conn.SetReadDeadline(time.Now().Add(goodbye))
}

// Read implements net.Conn.
func (g *gathering) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.err != nil {
			err = g.err
		}
	}
	return n, err
}

// SetDeadline implements net.Conn. Writes have a time limit of their own.
func (g *gathering) SetDeadline(t time.Time) error { return g.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. Writes have a time limit of their own.
func (g *gathering) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn. It waits a moment for what was written to be sent.
func (g *gathering) Close() error {
	g.mu.Lock()
	if g.err == nil {
		g.err = net.ErrClosed
		_ = g.Conn.SetWriteDeadline(time.Now().Add(goodbye))
		g.signal()
	}
	g.mu.Unlock()
	<-g.ended
	return g.Conn.Close()
}
