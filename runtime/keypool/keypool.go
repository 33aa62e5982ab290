// Package keypool keeps a stock of RSA key pairs (K-01): generating one takes some 40 ms of CPU, which a storm of new
// phones cannot wait for.
package keypool

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/turns"
)

// ErrExhausted says that the pool is empty and enough callers already wait for pairs made on the spot, or that the pool
// does not run yet. The caller should come again after what Pool.RetryAfter says.
var ErrExhausted = errors.New("no key pair is at hand; come again when Retry-After has passed")

const (
	// RetryAfter is when a caller for whom something is not ready yet should come again at the earliest.
	RetryAfter = 5 * time.Second
	// turnsPerSecond is how many of those that were turned away are to come again in a second: about as many as there are
	// pairs to hand out by then, a core making some 25 a second. If all came at once they would take the tenant's whole
	// allowance of calls, again and again, and the processor that makes the pairs.
	turnsPerSecond = 25
)

const (
	// inlineGenerators bounds generation on the spot to one core, so that callbacks go on being answered.
	inlineGenerators = 1
	// inlineQueue bounds those who wait for it: at some 25 pairs a second the last one waits less than half a second.
	inlineQueue = 8
	// chunk is how many pairs are made under one lock of the database, so that no transaction stays open for long: about
	// a second with the rests in between, some seconds on a machine that has much else to do.
	chunk = 10
	// restPerWork is how long the refill rests after a pair, in lengths of the time that the pair took: with 1 it takes at
	// most half a core, and less the busier the machine is, because a pair takes longer then.
	restPerWork = 1
	// lookAfter is how many pairs a replica hands out before it counts anew. Other replicas hand pairs out too, and the
	// pool must not run dry because each of them has taken its part unseen by the others.
	lookAfter = 25
	// busyInterval is when to look again whether a replica that was filling the pool has done so. Until then nothing wakes
	// this one, or each new user would ask the database for the same lock.
	busyInterval = 5 * time.Second
)

// Pool hands out key pairs to new users and refills itself.
type Pool struct {
	store   *store.Store
	keyring func() *credential.Keyring
	config  func() config.KeyPool
	clock   clock.WithTickerAndDelayedExecution
	log     *slog.Logger

	// running says that the database has been found fit: pairs sealed with a wrong KEK would be lost on their users.
	running    atomic.Bool
	queue      chan struct{}
	generators chan struct{}
	wake       chan struct{}
	// turns says when those who are turned away may come again.
	turns turns.Turns
	// left estimates the pairs in the pool: the last count less what this replica has handed out since. When it falls to
	// lookAt the pool is looked at.
	left, lookAt atomic.Int64
	size         prometheus.Gauge
	inline       prometheus.Counter
	made         prometheus.Counter
}

// Options are a Pool's parts. Keyring and Config are asked each time, because both may be reloaded.
type Options struct {
	Store    *store.Store
	Keyring  func() *credential.Keyring
	Config   func() config.KeyPool
	Clock    clock.WithTickerAndDelayedExecution
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// New makes a Pool. Run keeps it filled.
func New(o Options) *Pool {
	p := &Pool{
		store: o.Store, keyring: o.Keyring, config: o.Config, clock: o.Clock, log: o.Logger,
		queue:      make(chan struct{}, inlineQueue),
		generators: make(chan struct{}, inlineGenerators),
		wake:       make(chan struct{}, 1),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ens_key_pool_pairs", Help: "Key pairs in the pool, as this replica last counted them.",
		}),
		inline: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ens_key_pool_inline_total", Help: "Key pairs made on the spot because the pool was empty.",
		}),
		made: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ens_key_pool_refilled_total", Help: "Key pairs that this replica has put into the pool.",
		}),
	}
	o.Registry.MustRegister(p.size, p.inline, p.made)
	return p
}

// NewUser creates the user's record with a pair of the pool, or with one made on the spot. Errors: ErrExhausted, or
// the database's.
func (p *Pool) NewUser(ctx context.Context, hash [sha256.Size]byte) (store.User, error) {
	if !p.running.Load() {
		return store.User{}, ErrExhausted
	}
	user, err := p.store.CreateUser(ctx, hash, p.clock.Now())
	p.taken(err)
	if !errors.Is(err, store.ErrPoolEmpty) {
		return user, err
	}
	pair, err := p.generate(ctx)
	if err != nil {
		return store.User{}, err
	}
	return p.store.CreateUserWith(ctx, hash, pair, p.clock.Now())
}

// ReplaceKey gives a user another pair of the pool, see store.ReplaceKey. Errors: ErrExhausted, store.ErrPoolEmpty, or
// the database's. Nothing is made on the spot: the old pair still works, and the next failure tries again.
func (p *Pool) ReplaceKey(ctx context.Context, hash [sha256.Size]byte) (bool, error) {
	if !p.running.Load() {
		return false, ErrExhausted
	}
	replaced, err := p.store.ReplaceKey(ctx, hash, p.clock.Now())
	if replaced || err != nil {
		p.taken(err)
	}
	return replaced, err
}

// taken takes note that a pair has been taken, or that there was none, and has the pool looked at if it may have fallen
// below the threshold or is empty. That happens at the moment of falling alone: how much more is taken while the refill
// is at it changes nothing.
func (p *Pool) taken(err error) {
	switch {
	case err == nil:
		if p.left.Add(-1) == p.lookAt.Load() {
			p.Wake()
		}
	case errors.Is(err, store.ErrPoolEmpty):
		p.Wake()
	}
}

func (p *Pool) generate(ctx context.Context) (credential.KeyPair, error) {
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return credential.KeyPair{}, ErrExhausted
	}
	select {
	case p.generators <- struct{}{}:
		defer func() { <-p.generators }()
	case <-ctx.Done():
		return credential.KeyPair{}, ctx.Err()
	}
	p.inline.Inc()
	return p.keyring().NewKeyPair()
}

// RetryAfter is when a caller that met ErrExhausted should come again. Each is given a turn behind those before.
func (p *Pool) RetryAfter() time.Duration {
	return p.turns.After(p.clock.Now(), RetryAfter, turnsPerSecond)
}

// Wake makes Run look at the pool now.
func (p *Pool) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run refills the pool when it falls below its threshold (K-04), until ctx ends. Before it runs no pair is handed out:
// the caller runs it once the database has been found to be sealed with our KEK.
func (p *Pool) Run(ctx context.Context) {
	p.running.Store(true)
	for ctx.Err() == nil {
		interval, wake := time.Duration(p.config().RefillIntervalSeconds)*time.Second, p.wake
		switch err := p.refill(ctx); {
		case errors.Is(err, store.ErrBusy):
			interval, wake = busyInterval, nil
		case err != nil && ctx.Err() == nil:
			p.log.WarnContext(ctx, "The key pool could not be refilled", "error", err)
		}
		p.wait(ctx, interval, wake)
	}
}

// wait returns after the duration, when woken, or when ctx ends.
func (p *Pool) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := p.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-wake:
	}
}

// refill fills the pool up to its size if it is below the threshold, one replica at a time, a chunk under each lock.
func (p *Pool) refill(ctx context.Context) error {
	count, err := p.count(ctx)
	if err != nil || count >= int(p.config().RefillBelow) {
		return err
	}
	for full := false; !full && ctx.Err() == nil; {
		err := p.store.RefillKeys(ctx, func(ctx context.Context) (err error) {
			full, err = p.fill(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fill adds a chunk of pairs, or fewer if the pool is full before. It counts before each: until it had the lock another
// replica may have had it, and what callers do meanwhile decides about its pace. While they find pairs in the pool
// it rests after each one, so that they have the processor; once the pool is empty they wait for nothing else.
func (p *Pool) fill(ctx context.Context) (full bool, err error) {
	for range chunk {
		count, err := p.count(ctx)
		if err != nil || count >= int(p.config().Size) {
			return err == nil, err
		}
		began := p.clock.Now()
		if err := p.add(ctx); err != nil {
			return false, err
		}
		if rest := restPerWork * p.clock.Since(began); count > 0 && rest > 0 {
			p.wait(ctx, rest, nil)
		}
	}
	return false, nil
}

func (p *Pool) add(ctx context.Context) error {
	pair, err := p.keyring().NewKeyPair()
	if err != nil {
		return err
	}
	if err := p.store.AddKey(ctx, pair, p.clock.Now()); err != nil {
		return err
	}
	p.made.Inc()
	return nil
}

func (p *Pool) count(ctx context.Context) (int, error) {
	count, err := p.store.CountKeys(ctx)
	if err == nil {
		p.lookAt.Store(max(int64(p.config().RefillBelow)-1, int64(count)-lookAfter))
		p.left.Store(int64(count))
		p.size.Set(float64(count))
	}
	return count, err
}
