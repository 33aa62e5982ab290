package callback

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// Where too much comes at once, what is left to Exchange must cost next to nothing, or there is no time left for what is taken:
// it is found out before the database is asked and the credential is opened.

// shedFor is how long after an event its post is left to Exchange where there is no room for the work. Exchange posts it again
// after 30, 60 and 120 seconds, much sooner than the next heartbeat would have the journal told. What comes back later is taken
// in any case: a subscription whose posts are never taken ends after some eight minutes.
const shedFor = 2 * time.Minute

// maxTaking bounds the posts about events that are being taken at once; more wait. Each is many steps, between which Go lets
// everybody else have a turn: with a thousand of them, those that work on what was taken have theirs a thousand times later, and
// little is told. It is as many as are of use: they share statements. Heartbeats bring no work.
const maxTaking = 128

// beginTimeout bounds how long a post waits for its turn: as long as in the store's queue, where the time goes if it hangs.
const beginTimeout = 4 * time.Second

// begin waits until a post about events may be taken. The caller calls done.
func (l *Listener) begin(ctx context.Context) (done func(), err error) {
	done = func() { <-l.taking }
	select {
	case l.taking <- struct{}{}:
		return done, nil
	default: // only who has to wait needs a timer
	}
	select {
	case l.taking <- struct{}{}:
		return done, nil
	case <-l.clock.After(beginTimeout):
		return nil, errBusy
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting until others are taken: %w", ctx.Err())
	}
}

// timestampTag is the end of the tag before an event's time, whatever its prefix is.
var timestampTag = []byte("TimeStamp>")

// tellsEvents reports whether a post tells of events: a heartbeat does not.
func tellsEvents(body []byte) bool { return bytes.Contains(body, timestampTag) }

// recentEvents reports whether a post tells of events, all of them of the last shedFor. It looks for the times alone, which takes
// a tenth of the time of reading it all; where they are written in another way, it says no.
func recentEvents(body []byte, now time.Time) bool {
	found := false
	for {
		at := bytes.Index(body, timestampTag)
		if at < 0 {
			return found
		}
		body = body[at+len(timestampTag):]
		end := bytes.IndexByte(body, '<')
		if end < 0 {
			return false
		}
		event, err := time.Parse(time.RFC3339, string(body[:end]))
		if err != nil {
			return false
		}
		if age := now.Sub(event); age > shedFor || age < -shedFor {
			return false
		}
		found = true
		body = body[end:]
		if at = bytes.IndexByte(body, '>'); at < 0 { // of the end tag
			return false
		}
		body = body[at+1:]
	}
}

// full reports whether there is room for a user's work at none of the endpoints: which one the user is at only the database
// knows.
func (p *Processor) full(userID int64, endpoints []config.Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.users[userID]; busy {
		return false
	}
	for _, endpoint := range endpoints {
		if !p.lanes.of(endpoint.Name).full() {
			return false
		}
	}
	return len(endpoints) > 0
}
