package apnstest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// firstStreams is what a connection grants before the first valid push, and after a refusal.
	firstStreams = 1
	// calmStreams is what a calm connection grants afterwards; whims draw from leastStreams to mostStreams, since Apple
	// promises no number.
	calmStreams  = 100
	leastStreams = 2
	mostStreams  = 1000
	// A whimsical connection ends with GOAWAY after so many pushes.
	leastPushes = 20
	mostPushes  = 400
	// maxHeaders bounds a request's header fields, maxBody what is kept of its body.
	maxHeaders       = 16 << 10
	maxBody          = 2 * maxPayload
	headerTable      = 4096
	connectionWindow = 65535
)

// errProtocol ends a connection whose client breaks the rules of HTTP/2.
var errProtocol = errors.New("protocol error")

// conn is one HTTP/2 connection. It is built on frames, because net/http's server cannot change its limit of streams.
type conn struct {
	server *Server
	number int
	raw    *tls.Conn
	framer *http2.Framer
	// lifetime ends with the connection.
	lifetime context.Context
	end      context.CancelFunc

	// mu guards writing and all below.
	mu      sync.Mutex
	whims   *rand.Rand
	headers bytes.Buffer
	encoder *hpack.Encoder
	streams map[uint32]*stream
	last    uint32
	// limit is the number of streams in force. A lower one is in force when the client has acknowledged it: pending
	// holds those that were sent, in order.
	limit      int
	advertised int
	pending    []int
	// granted is what this connection grants after a valid push.
	granted int
	// pushes counts down to GOAWAY; negative is never.
	pushes  int
	leaving bool
	// mute: nothing is sent any more, and what comes is read and thrown away.
	mute bool
	// certificate is what the client has shown; nil if nothing.
	certificate *x509.Certificate
	// team is whose tokens were used; poisoned: the token was changed too often.
	team     string
	poisoned bool
	// window is how much the client lets us send.
	window     int64
	windowOpen *sync.Cond
}

// stream is one request.
type stream struct {
	id      uint32
	request received
}

func newConn(s *Server, raw *tls.Conn, number int) *conn {
	lifetime, end := context.WithCancel(s.lifetime)
	c := &conn{
		server: s, number: number, raw: raw, framer: http2.NewFramer(raw, raw), lifetime: lifetime, end: end,
		whims:   rand.New(rand.NewPCG(s.options.Seed, uint64(number))),
		streams: make(map[uint32]*stream), limit: firstStreams, advertised: firstStreams,
		granted: calmStreams, pushes: -1, window: connectionWindow,
	}
	if !s.options.Calm {
		c.granted = leastStreams + c.whims.IntN(mostStreams-leastStreams)
		c.pushes = leastPushes + c.whims.IntN(mostPushes-leastPushes)
	}
	c.windowOpen = sync.NewCond(&c.mu)
	c.encoder = hpack.NewEncoder(&c.headers)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	c.framer.MaxHeaderListSize = maxHeaders
	return c
}

// serve speaks HTTP/2 until the connection ends.
func (c *conn) serve() {
	defer func() {
		_ = c.raw.Close()
		c.end()
		c.mu.Lock()
		c.window = 1 << 30
		c.windowOpen.Broadcast()
		c.mu.Unlock()
	}()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.raw, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	c.mu.Lock()
	if shown := c.raw.ConnectionState().PeerCertificates; len(shown) > 0 {
		// Whoever shows a certificate is known from the start.
		c.certificate, c.limit, c.advertised = shown[0], c.granted, c.granted
	}
	err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limit)})
	c.pending = append(c.pending, c.limit)
	c.mu.Unlock()
	for err == nil {
		err = c.readFrame()
	}
}

// readFrame reads and handles one frame. An error ends the connection.
func (c *conn) readFrame() error {
	frame, err := c.framer.ReadFrame()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mute && frame != nil {
		return nil
	}
	if broken, ok := errors.AsType[http2.StreamError](err); ok {
		delete(c.streams, broken.StreamID)
		return c.framer.WriteRSTStream(broken.StreamID, broken.Code)
	}
	if err != nil {
		return err
	}
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.open(frame)
	case *http2.DataFrame:
		return c.data(frame)
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return c.framer.WriteSettingsAck()
		}
		if len(c.pending) == 0 {
			return errProtocol
		}
		c.limit, c.pending = c.pending[0], c.pending[1:]
	case *http2.PingFrame:
		if !frame.IsAck() {
			return c.framer.WritePing(true, frame.Data)
		}
	case *http2.WindowUpdateFrame:
		if frame.StreamID == 0 {
			c.window += int64(frame.Increment)
			c.windowOpen.Broadcast()
		}
	case *http2.RSTStreamFrame:
		delete(c.streams, frame.StreamID)
	}
	return nil
}

// open begins a request. The caller holds mu.
func (c *conn) open(frame *http2.MetaHeadersFrame) error {
	if frame.StreamID%2 == 0 || frame.StreamID <= c.last {
		return errProtocol
	}
	if c.leaving {
		// The client knows from GOAWAY that this one is not looked at.
		return nil
	}
	c.last = frame.StreamID
	if len(c.streams) >= c.limit {
		c.server.count(func(st *Stats) { st.RefusedStreams++ })
		return c.framer.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
	}
	s := &stream{id: frame.StreamID, request: received{fields: frame.Fields}}
	c.streams[s.id] = s
	open := len(c.streams)
	c.server.count(func(st *Stats) { st.MostStreams = max(st.MostStreams, open) })
	if frame.StreamEnded() {
		c.server.workers.Go(func() { c.answer(s) })
	}
	return nil
}

// data takes a part of a request's body. The caller holds mu.
func (c *conn) data(frame *http2.DataFrame) error {
	length := frame.Header().Length
	if length > 0 {
		if err := c.framer.WriteWindowUpdate(0, length); err != nil {
			return err
		}
	}
	s := c.streams[frame.StreamID]
	if s == nil {
		// The stream was refused or called off.
		return nil
	}
	part := frame.Data()
	s.request.size += len(part)
	s.request.body = append(s.request.body, part[:min(len(part), maxBody-len(s.request.body))]...)
	if frame.StreamEnded() {
		c.server.workers.Go(func() { c.answer(s) })
		return nil
	}
	if length > 0 {
		return c.framer.WriteWindowUpdate(frame.StreamID, length)
	}
	return nil
}
