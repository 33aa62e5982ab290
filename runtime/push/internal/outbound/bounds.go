package outbound

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ens-operator/ens-operator/runtime/push"
)

var (
	// ErrClosed ends the pushes of a provider that is closed.
	ErrClosed  = errors.New("the push provider is closed")
	errTimeout = errors.New("the push was not done in time")
)

// ReasonTooMany is the reason of a push that never came to be one of those that run at once.
const ReasonTooMany = "TooManyAtOnce"

// Bounds bound a provider's pushes: how long each may take, how many run at once, and until when.
type Bounds struct {
	provider string
	timeout  time.Duration
	slots    *semaphore.Weighted
	release  func()

	// lifetime ends with Close.
	lifetime context.Context
	end      context.CancelCauseFunc
}

// NewBounds returns the bounds that effective settings ask for. Release gives idle connections back.
func NewBounds(s push.Settings, release func()) *Bounds {
	lifetime, end := context.WithCancelCause(context.Background())
	return &Bounds{
		provider: s.Name, timeout: s.Timeout, slots: semaphore.NewWeighted(int64(s.MaxConcurrent)), release: release,
		lifetime: lifetime, end: end,
	}
}

// Lifetime ends with Close.
func (b *Bounds) Lifetime() context.Context { return b.lifetime }

// Push delivers within the bounds. The error is deliver's, or that of ctx once it has ended.
func (b *Bounds) Push(ctx context.Context, deliver func(context.Context) *push.Error) error {
	if b.lifetime.Err() != nil {
		return &push.Error{Provider: b.provider, Outcome: push.Retry, Err: ErrClosed}
	}
	bounded, cancel := context.WithTimeoutCause(ctx, b.timeout, errTimeout)
	defer cancel()
	defer context.AfterFunc(b.lifetime, cancel)()
	refusal := b.inSlot(bounded, deliver)
	if b.lifetime.Err() != nil {
		// Close could not close the connection that this push was using.
		b.release()
		if refusal != nil && errors.Is(refusal.Err, context.Canceled) { // and this is why
			refusal.Err = ErrClosed
		}
	}
	switch {
	case refusal == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return refusal
	}
}

func (b *Bounds) inSlot(ctx context.Context, deliver func(context.Context) *push.Error) *push.Error {
	if err := b.slots.Acquire(ctx, 1); err != nil {
		return &push.Error{Provider: b.provider, Outcome: push.Retry, Reason: ReasonTooMany, Err: context.Cause(ctx)}
	}
	defer b.slots.Release(1)
	return deliver(ctx)
}

// Close ends the pushes under way.
func (b *Bounds) Close() {
	b.end(ErrClosed)
	b.release()
}
