// Package breaker leaves a push provider alone that is out of order, so that an outage costs neither the tries that a
// notification has, nor the time of those that go elsewhere.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

const (
	// threshold is how many pushes in a row the provider must fail. Each is tried several times already, so that few are
	// enough; more than one, because a single one may have met the end of a connection.
	threshold = 5
	// silence is how long no push under way may be answered. A provider answers within a tenth of a second, and gives a
	// request up after 8 s.
	silence = 6 * time.Second
	// firstPause is how long the provider is left alone for a start; it doubles with every further failure up to
	// longestPause, after which an outage that is over is noticed in any case.
	firstPause   = 15 * time.Second
	longestPause = 5 * time.Minute
	// longestAsked bounds the pause that a provider can ask for: what it asks, somebody in between may have asked.
	longestAsked = time.Hour
	// asideShare is the part of an asked pause by which it is exceeded at most, so that replicas do not come back together.
	asideShare = 10

	reason = "ProviderLeftAlone"
)

// Breaker is a push.Provider that defers pushes (push.Deferred) while the provider behind it is out of order: it failed
// several pushes in a row, answers none, or has asked to wait. After a pause one push is let through; the first success
// ends it all.
type Breaker struct {
	push.Provider

	name   string
	clock  clock.PassiveClock
	log    *slog.Logger
	record *standing.Record

	mu sync.Mutex
	// failures counts those in a row.
	failures int
	// open: pushes are deferred until the time until, and while one is on trial.
	open  bool
	until time.Time
	trial bool
	// pause is the last one, without chance.
	pause time.Duration
	// underWay is how many pushes are under way; silentSince is when the provider last answered one, or when they began.
	underWay    int
	silentSince time.Time
}

var _ push.Provider = (*Breaker)(nil)

// New returns a breaker for the provider of that name.
func New(name string, p push.Provider, c clock.PassiveClock, log *slog.Logger) *Breaker {
	return &Breaker{Provider: p, name: name, clock: c, log: log, record: &standing.Record{}}
}

// Push implements push.Provider.
func (b *Breaker) Push(ctx context.Context, d push.Device, n push.Notification) error {
	onTrial, left := b.enter()
	if left > 0 {
		return &push.Error{Provider: b.name, Outcome: push.Deferred, Reason: reason, RetryAfter: left}
	}
	err := b.Provider.Push(ctx, d, n)
	b.note(b.clock.Now(), err)
	b.leave(onTrial, judge(ctx, err))
	return err
}

// Open reports whether a push would be deferred now.
func (b *Breaker) Open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	return b.open && (b.trial || now.Before(b.until)) || !b.open && b.silentLocked(now)
}

// silentLocked reports whether the provider has answered nothing for too long.
func (b *Breaker) silentLocked(now time.Time) bool {
	return b.underWay > 0 && now.Sub(b.silentSince) >= silence
}

// enter lets a push through, on trial or not, or returns for how long it is deferred at least.
func (b *Breaker) enter() (onTrial bool, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	if !b.open && b.silentLocked(now) {
		b.openLocked(now, 0, errSilent)
	}
	if b.open {
		if b.trial || now.Before(b.until) {
			return false, max(b.until.Sub(now), time.Second)
		}
		b.trial, onTrial = true, true
	}
	if b.underWay == 0 {
		b.silentSince = now
	}
	b.underWay++
	return onTrial, 0
}

var errSilent = errors.New("it answers nothing")

// verdict is what the end of a push says of the provider.
type verdict struct {
	// answered: it spoke; works: as it should; failed: it is out of order. Neither may be known.
	answered, works, failed bool
	// asked is how long it asked to be left alone.
	asked time.Duration
	err   error
}

// judge tells the provider's failures from what is about one push, one device, or ourselves.
func judge(ctx context.Context, err error) verdict {
	if err == nil {
		return verdict{answered: true, works: true}
	}
	refusal, ok := errors.AsType[*push.Error](err)
	if !ok || ctx.Err() != nil || refusal.Outcome == push.Deferred || errors.Is(err, outbound.ErrClosed) || refusal.Reason == outbound.ReasonTooMany {
		return verdict{}
	}
	said := verdict{answered: refusal.Status != 0, err: err}
	switch {
	case refusal.Outcome != push.Retry:
		said.works = said.answered
	case refusal.OneDevice:
		said.works = true
	case refusal.Status == 0, refusal.Status == http.StatusTooManyRequests, refusal.Status == http.StatusRequestTimeout,
		refusal.Status >= http.StatusInternalServerError:
		said.failed, said.asked = true, refusal.RetryAfter
	}
	return said
}

// leave takes note of a push's end.
func (b *Breaker) leave(onTrial bool, said verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	b.underWay--
	if said.answered {
		b.silentSince = now
	}
	if onTrial {
		b.trial = false
	}
	switch {
	case said.works:
		if b.open {
			b.log.Info("The push provider answers again", "provider", b.name)
		}
		b.failures, b.open, b.pause = 0, false, 0
	case !said.failed:
	case b.open && !onTrial:
		// It began before; only what it asks for is news.
		if asked := now.Add(min(said.asked, longestAsked)); asked.After(b.until) {
			b.until = asked
		}
	default:
		if b.failures++; b.open || b.failures >= threshold || said.asked > 0 {
			b.openLocked(now, said.asked, said.err)
		}
	}
}

// openLocked leaves the provider alone, for as long as it asked or for longer than the last time.
func (b *Breaker) openLocked(now time.Time, asked time.Duration, err error) {
	wait := min(asked, longestAsked)
	if wait > 0 {
		wait += rand.N(wait/asideShare + 1)
	} else {
		b.pause = min(max(2*b.pause, firstPause), longestPause)
		wait = b.pause/2 + rand.N(b.pause/2)
	}
	b.until = now.Add(wait)
	b.noteFailing(now, err)
	if !b.open {
		b.open = true
		b.log.Warn("The push provider is left alone for now; its notifications wait in the journal",
			"provider", b.name, "pause", wait.Round(time.Second), "error", err)
	}
}
