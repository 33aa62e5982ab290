package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxBatch is how many callers share a statement at most; beyond some hundred the gain per row is small.
	maxBatch = 256
	// flushersPerBatch lets the next statement be sent while one is under way that takes long.
	flushersPerBatch = 2
	// headway is how long callers wait for the end of a statement that is under way before they send another one: longer than a
	// statement takes as a rule, so that those who come meanwhile share the next one, and shorter than what anybody notices, for
	// one that waits for a lock holds up nobody else. Where the last one took longer, nobody waits: there is too little CPU, and
	// waiting would add to what each step takes.
	headway = 5 * time.Millisecond
	// maxQueued bounds the callers that wait for a flusher; more wait for room in the queue.
	maxQueued = 8 * maxBatch
)

const (
	// statementTimeout bounds a batched statement. Exchange retries what is answered 503.
	statementTimeout = 5 * time.Second
	// queueTimeout bounds how long a caller waits for its statement to begin. It is below statementTimeout, so that who came
	// while statements hang fails with them, and the next ones find the way free.
	queueTimeout = 4 * time.Second
)

var (
	// errClosed says that the store has been closed.
	errClosed = errors.New("the store is closed")
	// errQueued says that others have kept the database busy for too long.
	errQueued = fmt.Errorf("%w: others are waiting for the database to answer", context.DeadlineExceeded)
)

// batcher lets many callers share one statement: while a statement is under way, callers queue, and the next one takes
// them all. Under light load a caller waits for nobody, and never for long for others' statement.
type batcher[In, Out any] struct {
	doing string
	// patience is how long a statement waits for further callers if there was another one as long before.
	patience time.Duration
	// collecting is held by the flusher that collects the next statement's callers, and last is when the last one was full.
	collecting sync.Mutex
	last       time.Time
	// way is full while a statement is under way.
	way chan struct{}
	// took is how long the last statement took, in nanoseconds.
	took atomic.Int64
	// run executes one statement for all inputs and returns one output for each.
	run     func(context.Context, []In) ([]Out, error)
	queue   chan call[In, Out]
	workers sync.WaitGroup
	closing chan struct{}
	closed  chan struct{}
}

type call[In, Out any] struct {
	ctx    context.Context //nolint:containedctx // a caller that has gone away is left out of the statement
	in     In
	answer chan<- answer[Out]
	since  time.Time
}

type answer[Out any] struct {
	out Out
	err error
}

func newBatcher[In, Out any](doing string, patience time.Duration, run func(context.Context, []In) ([]Out, error)) *batcher[In, Out] {
	b := &batcher[In, Out]{
		doing:    doing,
		patience: patience,
		run:      run,
		queue:    make(chan call[In, Out], maxQueued),
		way:      make(chan struct{}, 1),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	for range flushersPerBatch {
		b.workers.Go(b.flush)
	}
	return b
}

// do waits for the statement that in becomes part of.
func (b *batcher[In, Out]) do(ctx context.Context, in In) (Out, error) {
	answers := make(chan answer[Out], 1)
	var none Out
	mine := call[In, Out]{ctx: ctx, in: in, answer: answers, since: time.Now()}
	select {
	case b.queue <- mine:
	default: // the queue is full
		select {
		case b.queue <- mine:
		case <-b.closing:
			return none, fmt.Errorf("%s: %w", b.doing, errClosed)
		case <-ctx.Done():
			return none, fmt.Errorf("%s: %w", b.doing, ctx.Err())
		}
	}
	var a answer[Out]
	select {
	case a = <-answers:
	case <-b.closed: // it was queued behind the last statement
		a = answerOr(answers, errClosed)
	case <-ctx.Done():
		a = answerOr(answers, ctx.Err())
	}
	if a.err != nil {
		return none, fmt.Errorf("%s: %w", b.doing, a.err)
	}
	return a.out, nil
}

// answerOr is the answer if it has come, which counts even if the wait has ended as well, else err.
func answerOr[Out any](answers <-chan answer[Out], err error) answer[Out] {
	select {
	case a := <-answers:
		return a
	default:
		return answer[Out]{err: err}
	}
}

// close finishes what is queued.
func (b *batcher[In, Out]) close() {
	close(b.closing)
	b.workers.Wait()
	close(b.closed)
}

func (b *batcher[In, Out]) flush() {
	for {
		calls, inWay := b.collect()
		if calls == nil {
			return
		}
		began := time.Now()
		b.send(calls)
		b.took.Store(int64(time.Since(began)))
		if inWay {
			<-b.way
		}
	}
}

// collect waits for callers and returns those of the next statement, nil when there will be none any more. inWay says that
// the next callers are to wait for its end.
func (b *batcher[In, Out]) collect() (calls []call[In, Out], inWay bool) {
	b.collecting.Lock()
	defer b.collecting.Unlock()
	select {
	case first := <-b.queue:
		calls = append(calls, first)
	case <-b.closing:
		select {
		case first := <-b.queue: // it was queued before
			calls = append(calls, first)
		default:
			return nil, false
		}
	}
	if b.patience > 0 && time.Since(b.last) < b.patience {
		timer := time.NewTimer(b.patience)
		defer timer.Stop()
		calls = b.gather(calls, timer.C)
	}
	inWay = b.letEnd()
	calls = b.gather(calls, nil)
	b.last = time.Now()
	return slices.DeleteFunc(calls, func(c call[In, Out]) bool {
		if b.last.Sub(c.since) >= queueTimeout {
			c.answer <- answer[Out]{err: errQueued}
			return true
		}
		return c.ctx.Err() != nil
	}), inWay
}

// letEnd waits until no statement is under way, if that is likely to be soon. It returns whether there is none.
func (b *batcher[In, Out]) letEnd() bool {
	select {
	case b.way <- struct{}{}:
		return true
	default: // only who has to wait needs a timer
	}
	if time.Duration(b.took.Load()) > headway {
		return false
	}
	timer := time.NewTimer(headway)
	defer timer.Stop()
	select {
	case b.way <- struct{}{}:
		return true
	case <-timer.C:
	case <-b.closing:
	}
	return false
}

// gather adds callers until there are as many as a statement may have, or the time is up; without a time, those who wait
// already.
func (b *batcher[In, Out]) gather(calls []call[In, Out], until <-chan time.Time) []call[In, Out] {
	for len(calls) < maxBatch {
		if until == nil {
			select {
			case next := <-b.queue:
				calls = append(calls, next)
				continue
			default:
				return calls
			}
		}
		select {
		case next := <-b.queue:
			calls = append(calls, next)
		case <-until:
			return calls
		case <-b.closing:
			return calls
		}
	}
	return calls
}

// send runs one statement for calls. If the database refuses the data, the calls are split until the one with the
// poison stands alone (protocol.md, rule 7); if it does not answer, all of them fail.
func (b *batcher[In, Out]) send(calls []call[In, Out]) {
	if len(calls) == 0 {
		return
	}
	inputs := make([]In, len(calls))
	for i, c := range calls {
		inputs[i] = c.in
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	outputs, err := b.run(ctx, inputs)
	cancel()
	if err != nil && len(calls) > 1 && isPoison(err) {
		middle := len(calls) / 2
		b.send(calls[:middle])
		b.send(calls[middle:])
		return
	}
	for i, c := range calls {
		if err != nil {
			c.answer <- answer[Out]{err: err}
		} else {
			c.answer <- answer[Out]{out: outputs[i]}
		}
	}
}

// poisonClasses are the SQLSTATE classes by which the database refuses the data itself: cardinality, data, constraints,
// and limits of the program such as the size of an index row.
var poisonClasses = []string{"21", "22", "23", "54"}

// isPoison reports whether the database refused the data itself, or pgx could not encode it.
func isPoison(err error) bool {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return strings.Contains(err.Error(), "failed to encode")
	}
	return slices.ContainsFunc(poisonClasses, func(class string) bool { return strings.HasPrefix(refusal.Code, class) })
}
