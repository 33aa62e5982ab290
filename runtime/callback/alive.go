package callback

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// markEvery is how long signs of life are collected until they are recorded together: one that is lost when the process
// dies comes again with the next heartbeat, and nobody who looks for missing ones minds a moment. It is long enough for most
// mails to be told meanwhile, which records the sign, too, and short for whoever waits to see a new subscription live.
const markEvery = 250 * time.Millisecond

// markTimeout bounds a record. A sign that is lost comes again.
const markTimeout = 5 * time.Second

// signs are for whom Exchange has posted since the last record. It is not left to the workers: however much they have to do,
// a subscription that lives must not count as lost.
type signs struct {
	store *store.Store
	clock clock.WithTickerAndDelayedExecution
	log   *slog.Logger
	steps step.Hook

	mu   sync.Mutex
	seen map[int64]time.Time
	// closing is closed when the rest is to be recorded.
	closing chan struct{}
	flushes sync.WaitGroup
}

func newSigns(o Options) *signs {
	return &signs{store: o.Store, clock: o.Clock, log: o.Logger, steps: o.Steps, closing: make(chan struct{})}
}

// note notes when Exchange has posted for a user.
func (s *signs) note(userID int64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[int64]time.Time{}
		s.flushes.Go(func() {
			select {
			case <-s.clock.After(markEvery):
			case <-s.closing:
			}
			s.flush()
		})
	}
	if at.After(s.seen[userID]) {
		s.seen[userID] = at
	}
}

// recorded takes off what is on record already, with what the user was told.
func (s *signs) recorded(userID int64, heard time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if noted, there := s.seen[userID]; there && !noted.After(heard) {
		delete(s.seen, userID)
	}
}

// flush records what has been collected.
func (s *signs) flush() {
	s.mu.Lock()
	seen := s.seen
	s.seen = nil
	s.mu.Unlock()
	if len(seen) == 0 {
		return
	}
	all := make([]store.Sign, 0, len(seen))
	for userID, at := range seen {
		all = append(all, store.Sign{UserID: userID, At: at})
	}
	ctx, cancel := context.WithTimeout(context.Background(), markTimeout)
	defer cancel()
	if err := s.store.MarkAlive(ctx, all...); err != nil {
		s.log.Warn("Subscriptions could not be marked alive", "subscriptions", len(all), "error", err)
		return
	}
	s.steps.Reached(step.MarkedAlive)
}

// close records what is left. Nobody may note anything from then on.
func (s *signs) close() {
	close(s.closing)
	s.flushes.Wait()
}
