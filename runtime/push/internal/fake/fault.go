package fake

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Request is what a fault hook sees of a request.
type Request struct {
	// Number is the request's on the whole server, from 1.
	Number int
	// Action is what is asked for where the service has several, e.g. Publish.
	Action string
}

// Fault is what the server does instead of judging a request. Hang, Cut and LoseAnswer count before the answer.
type Fault struct {
	// Status is the answer's.
	Status int
	// Code, Canonical (Google's status word) and Message stand in the error document, where the service's has such.
	Code, Canonical, Message string
	// RetryAfter and Location are header fields, if not empty.
	RetryAfter time.Duration
	Location   string
	// Body replaces the error document, as a proxy in between might.
	Body string
	// Hang never answers.
	Hang bool
	// Cut ends the request without a word.
	Cut bool
	// LoseAnswer does what is asked and ends the request without a word, where the service knows how.
	LoseAnswer bool
}

// Do does what the fault says, and leaves it to refuse to write the error document.
func (f Fault) Do(w http.ResponseWriter, r *http.Request, refuse func()) {
	switch {
	case f.Hang:
		<-r.Context().Done()
		return
	case f.Cut:
		panic(http.ErrAbortHandler)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	if f.Location != "" {
		w.Header().Set("Location", f.Location)
	}
	if f.Body == "" && refuse != nil {
		refuse()
		return
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
}

// Faults holds what tests have asked for. R is what a hook sees of a request, F what is done instead of judging it. The
// zero value has none.
type Faults[R, F any] struct {
	mu   sync.Mutex
	hook func(R) *F
	next []F
}

// OnRequest has hook decide for every request whether it fails; nil lets it pass. It is called from many goroutines.
func (q *Faults[R, F]) OnRequest(hook func(R) *F) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hook = hook
}

// FailNext lets the next n requests fail with f.
func (q *Faults[R, F]) FailNext(n int, f F) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		q.next = append(q.next, f)
	}
}

// FailNoMore takes back what FailNext has asked for.
func (q *Faults[R, F]) FailNoMore() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next = nil
}

// FaultFor returns the fault for a request, or nil.
func (q *Faults[R, F]) FaultFor(r R) *F {
	q.mu.Lock()
	hook := q.hook
	if len(q.next) > 0 {
		f := q.next[0]
		q.next = q.next[1:]
		q.mu.Unlock()
		return &f
	}
	q.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(r)
}

// Load counts the requests that a server works on. Whoever changes it holds the lock that guards it.
type Load struct {
	// Requests is how many came in, UnderWay how many are being worked on, MostUnderWay the most at once.
	Requests, UnderWay, MostUnderWay int
}

// Begin counts a request, and returns its number.
func (l *Load) Begin() int {
	l.Requests++
	l.UnderWay++
	l.MostUnderWay = max(l.MostUnderWay, l.UnderWay)
	return l.Requests
}

// Finish counts the end of a request.
func (l *Load) Finish() { l.UnderWay-- }

// Pause waits for up to most, as long as an answer takes, or until ctx ends.
func Pause(ctx context.Context, most time.Duration) {
	if most <= 0 {
		return
	}
	timer := time.NewTimer(rand.N(most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
