package apnstest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// goAwayReason is what Apple puts into the debug data of a GOAWAY frame.
const goAwayReason = `{"reason":"Shutdown"}`

// reply is an answer to be written.
type reply struct {
	status     int
	id         string
	retryAfter time.Duration
	body       []byte
}

// answer judges a complete request and answers it.
func (c *conn) answer(s *stream) {
	received := time.Now()
	c.pause()
	token, malformed := s.request.token()
	var number int
	c.server.count(func(st *Stats) { st.Requests++; number = st.Requests })
	fault := c.server.FaultFor(Request{Token: token, Topic: s.request.value("apns-topic"), Connection: c.number, Number: number})
	if fault != nil && !fault.LoseAnswer {
		c.fail(s, fault)
		return
	}
	n, refused := c.judge(s, token, malformed, received)
	if fault != nil {
		_ = c.raw.Close()
		return
	}
	if refused == nil {
		c.write(s, reply{status: http.StatusOK, id: n.ID})
		return
	}
	c.server.options.Logf("fake APNs answers %d %s: %s", refused.status, refused.reason, refused.why)
	body := map[string]any{"reason": refused.reason}
	if !refused.timestamp.IsZero() {
		body["timestamp"] = refused.timestamp.UnixMilli()
	}
	// A map of a word and a number always encodes.
	encoded, _ := json.Marshal(body)
	c.write(s, reply{status: refused.status, id: n.ID, body: encoded})
}

// judge is Apple's decision. A push that passes is delivered.
func (c *conn) judge(s *stream, token string, malformed *refusal, received time.Time) (Notification, *refusal) {
	n, wrong := s.request.notification()
	if refused := c.authenticate(s, n.Topic); refused != nil {
		return n, refused
	}
	if malformed != nil {
		return n, malformed
	}
	if wrong != nil {
		return n, wrong
	}
	n.Connection, n.Received = c.number, received
	return n, c.server.deliver(token, n)
}

// authenticate checks the client's certificate or the provider token, and that the connection serves one team only.
func (c *conn) authenticate(s *stream, topic string) *refusal {
	if c.certificate != nil {
		return c.server.judgeCertificate(c.certificate, s.request.value("authorization"), topic)
	}
	c.mu.Lock()
	poisoned := c.poisoned
	c.mu.Unlock()
	if poisoned {
		return refuse(http.StatusTooManyRequests, reasonTooManyUpdates, "this connection stays unusable")
	}
	teamID, refused := c.server.authenticate(s.request.value("authorization"))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case refused != nil:
		c.poisoned = refused.reason == reasonTooManyUpdates
		return refused
	case c.team != "" && c.team != teamID:
		return refuse(http.StatusForbidden, "InvalidProviderToken", "tokens of two teams on one connection")
	}
	c.team = teamID
	return nil
}

// pause takes the time that answers take.
func (c *conn) pause() {
	if c.server.options.MaxDelay <= 0 {
		return
	}
	c.mu.Lock()
	delay := time.Duration(c.whims.Int64N(int64(c.server.options.MaxDelay)))
	c.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.lifetime.Done():
	}
}

// fail does what a fault says.
func (c *conn) fail(s *stream, fault *Fault) {
	switch {
	case fault.Hang:
		// The stream stays open until the client gives it up.
	case fault.Cut:
		_ = c.raw.Close()
	case fault.RefuseStream:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.streams, s.id)
		_ = c.framer.WriteRSTStream(s.id, http2.ErrCodeRefusedStream)
	case fault.GoAway:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.leave(s.id - 1)
	default:
		body := []byte(fault.Body)
		if fault.Body == "" {
			body, _ = json.Marshal(map[string]string{"reason": fault.Reason})
		}
		c.write(s, reply{status: fault.Status, retryAfter: fault.RetryAfter, body: body})
	}
}

// write sends an answer, and changes the limit of streams as Apple does: up after a valid push, down after a refusal.
func (c *conn) write(s *stream, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.window < int64(len(r.body)) {
		c.windowOpen.Wait()
	}
	c.window -= int64(len(r.body))
	if c.streams[s.id] == nil {
		// The client has called it off.
		return
	}
	delete(c.streams, s.id)
	limit := firstStreams
	if r.status == http.StatusOK || c.certificate != nil {
		limit = c.granted
	}
	limitFirst := c.server.options.Calm || c.whims.IntN(2) == 0
	late := c.server.options.SettingsDelay
	if limitFirst && late == 0 {
		c.announce(limit)
	}
	c.writeFrames(s.id, r)
	if late > 0 {
		time.AfterFunc(late, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.announce(limit)
		})
	} else if !limitFirst {
		c.announce(limit)
	}
	if c.pushes--; c.pushes == 0 {
		c.leave(c.last)
	}
	c.finish()
}

// finish ends the connection politely when it is leaving and nothing is open: reading goes on until the client closes,
// because a hard close would throw away what the client has not read yet. The caller holds mu.
func (c *conn) finish() {
	if c.leaving && len(c.streams) == 0 && !c.mute {
		c.mute = true
		_ = c.raw.CloseWrite()
	}
}

// writeFrames sends the header and the body. The caller holds mu. Errors show when the connection is read.
func (c *conn) writeFrames(id uint32, r reply) {
	c.headers.Reset()
	fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(r.status)}}
	if r.id != "" {
		fields = append(fields, hpack.HeaderField{Name: "apns-id", Value: r.id})
	}
	if r.retryAfter > 0 {
		fields = append(fields, hpack.HeaderField{Name: "retry-after", Value: strconv.Itoa(int(r.retryAfter.Seconds()))})
	}
	for _, field := range fields {
		_ = c.encoder.WriteField(field)
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.headers.Bytes(), EndHeaders: true, EndStream: len(r.body) == 0,
	})
	if len(r.body) > 0 {
		_ = c.framer.WriteData(id, true, r.body)
	}
}

// announce changes the limit of streams. The caller holds mu. A higher limit holds at once, a lower one when the client
// has acknowledged it.
func (c *conn) announce(limit int) {
	if limit == c.advertised {
		return
	}
	c.advertised = limit
	c.limit = max(c.limit, limit)
	c.pending = append(c.pending, limit)
	_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(limit)})
}

// leave says goodbye: streams after last are not looked at. The caller holds mu.
func (c *conn) leave(last uint32) {
	c.leaving = true
	for id := range c.streams {
		if id > last {
			delete(c.streams, id)
		}
	}
	_ = c.framer.WriteGoAway(last, http2.ErrCodeNo, []byte(goAwayReason))
	c.finish()
}
