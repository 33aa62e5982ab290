package protocol

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/runtime/tenant"
)

const (
	// callsAtOnce and registrationsAtOnce bound the calls that are worked on: all but registrations, and registrations by
	// endpoint, so that an Exchange that is slow holds up nobody else's. Every one of them needs the database several
	// times over; if as many did as may come at once, each would wait for all others at each step, until none is done in time.
	callsAtOnce         = 32
	registrationsAtOnce = 128
	// longestLine bounds those who wait, each of whom takes some 10 KiB, and longestWait for how long.
	longestLine = 16_384
	longestWait = 40 * time.Second
	// outOfLine is when those who could not wait are to come again at the earliest, and outOfLinePerSecond how many of them in
	// a second: a part of what a core can do, since others come too.
	outOfLine          = 5 * time.Second
	outOfLinePerSecond = 50
)

var errBusy = errors.New("too many devices have come at once; come again when Retry-After has passed")

// line is where calls wait for those before them, first come, first served.
type line struct {
	slots   chan struct{}
	waiting atomic.Int64
}

// lines are those of this replica.
type lines struct {
	// waiting are those in all lines.
	waiting atomic.Int64
	calls   *line

	mu            sync.Mutex
	registrations map[string]*line
}

func newLines() *lines {
	return &lines{calls: &line{slots: make(chan struct{}, callsAtOnce)}, registrations: map[string]*line{}}
}

// of is the line of the registrations at an endpoint, or of those whose endpoint is not known yet.
func (l *lines) of(endpoint *tenant.Endpoint) *line {
	name := ""
	if endpoint != nil {
		name = endpoint.Name
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.registrations[name] == nil {
		l.registrations[name] = &line{slots: make(chan struct{}, registrationsAtOnce)}
	}
	return l.registrations[name]
}

// enter waits for a call's turn in a line. leave is to be called when it is done; if it is nil the call is refused.
func (h *Handler) enter(ctx context.Context, l *line) (leave func(), refusal *reply) {
	leave = func() { <-l.slots }
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > longestLine {
		return nil, h.busy()
	}
	h.lines.waiting.Add(1)
	defer h.lines.waiting.Add(-1)
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	case <-h.clock.After(longestWait):
		return nil, h.busy()
	case <-ctx.Done(): // the device has hung up
		return nil, h.busy()
	}
}

func (h *Handler) busy() *reply {
	wait := h.outOfLine.After(h.clock.Now(), outOfLine, outOfLinePerSecond)
	return &reply{status: http.StatusServiceUnavailable, code: Failed, err: errBusy, retryAfter: wait}
}
