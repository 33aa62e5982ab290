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
)

// ErrExhausted says that the pool is empty and enough callers already wait for pairs made on the spot, or that the pool
// does not run yet. The caller
// should come again after RetryAfter.
var ErrExhausted = errors.New("no key pair is at hand; come again in a few seconds")

// RetryAfter is when a caller that met ErrExhausted should come again.
const RetryAfter = 5 * time.Second

const (
	// inlineGenerators bounds generation on the spot to one core, so that callbacks go on being answered.
	inlineGenerators = 1
	// inlineQueue bounds those who wait for it: at some 25 pairs a second the last one waits less than half a second.
	inlineQueue = 8
	// chunk is how many pairs are made under one lock of the database, so that no transaction stays open for long.
	chunk = 25
)

// Pool hands out key pairs to new users and refills itself.
type Pool struct {
	store   *store.Store
	keyring func() *credential.Keyring
	config  func() config.KeyPool
	clock   clock.WithTicker
	log     *slog.Logger

	// running says that the database has been found fit: pairs sealed with a wrong KEK would be lost on their users.
	running    atomic.Bool
	queue      chan struct{}
	generators chan struct{}
	wake       chan struct{}
	size       prometheus.Gauge
	inline     prometheus.Counter
}

// Options are a Pool's parts. Keyring and Config are asked each time, because both may be reloaded.
type Options struct {
	Store    *store.Store
	Keyring  func() *credential.Keyring
	Config   func() config.KeyPool
	Clock    clock.WithTicker
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
	}
	o.Registry.MustRegister(p.size, p.inline)
	return p
}

// NewUser creates the user's record with a pair of the pool, or with one made on the spot. Errors: ErrExhausted, or
// the database's.
func (p *Pool) NewUser(ctx context.Context, hash [sha256.Size]byte) (store.User, error) {
	if !p.running.Load() {
		return store.User{}, ErrExhausted
	}
	user, err := p.store.CreateUser(ctx, hash, p.clock.Now())
	if !errors.Is(err, store.ErrPoolEmpty) {
		return user, err
	}
	p.Wake()
	pair, err := p.generate(ctx)
	if err != nil {
		return store.User{}, err
	}
	return p.store.CreateUserWith(ctx, hash, pair, p.clock.Now())
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
		if err := p.refill(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrBusy) {
			p.log.WarnContext(ctx, "The key pool could not be refilled", "error", err)
		}
		timer := p.clock.NewTimer(time.Duration(p.config().RefillIntervalSeconds) * time.Second)
		select {
		case <-ctx.Done():
		case <-timer.C():
		case <-p.wake:
		}
		timer.Stop()
	}
}

// refill fills the pool up to its size if it is below the threshold, one replica at a time, a chunk under each lock.
func (p *Pool) refill(ctx context.Context) error {
	count, err := p.count(ctx)
	if err != nil || count >= int(p.config().RefillBelow) {
		return err
	}
	for count < int(p.config().Size) && ctx.Err() == nil {
		err := p.store.RefillKeys(ctx, func(ctx context.Context) error {
			// Until we had the lock another replica may have had it.
			count, err := p.count(ctx)
			if err != nil {
				return err
			}
			return p.add(ctx, min(chunk, int(p.config().Size)-count))
		})
		if err != nil {
			return err
		}
		if count, err = p.count(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (p *Pool) add(ctx context.Context, pairs int) error {
	for range pairs {
		pair, err := p.keyring().NewKeyPair()
		if err != nil {
			return err
		}
		if err := p.store.AddKey(ctx, pair, p.clock.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pool) count(ctx context.Context) (int, error) {
	count, err := p.store.CountKeys(ctx)
	if err == nil {
		p.size.Set(float64(count))
	}
	return count, err
}
