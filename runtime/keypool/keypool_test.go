package keypool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

var keyring = sync.OnceValue(func() *credential.Keyring {
	keys, err := config.ParseKeys(config.NewKeyFiles())
	if err != nil {
		panic(err)
	}
	ring, err := credential.NewKeyring("ens_test", keys)
	if err == nil {
		err = ring.SealWith(config.Newest(keys.KEKs), config.Newest(keys.Webhooks))
	}
	if err != nil {
		panic(err)
	}
	return ring
})

// fixture is a pool and what a test turns on it.
type fixture struct {
	*keypool.Pool
	schema   *storetest.Schema
	store    *store.Store
	clock    *clocktesting.FakeClock
	registry *prometheus.Registry
	log      *lockedBuffer

	config atomic.Pointer[config.KeyPool]
	// asked counts how often the configuration was asked for, made the pairs begun.
	asked, made atomic.Int32
	// onConfig and onMake, if set, run then.
	onConfig, onMake func()
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// newPool makes a pool of three pairs that is refilled every minute when it has fewer than two.
func newPool(schema *storetest.Schema) *fixture { return newPoolOn(schema, schema.Store) }

// newPoolOn does the same with another replica's store.
func newPoolOn(schema *storetest.Schema, s *store.Store) *fixture {
	f := &fixture{
		schema: schema, store: s, clock: clocktesting.NewFakeClock(start), registry: prometheus.NewRegistry(), log: &lockedBuffer{},
		onConfig: func() {}, onMake: func() {},
	}
	f.config.Store(&config.KeyPool{Size: 3, RefillBelow: 2, RefillIntervalSeconds: 60})
	f.Pool = keypool.New(keypool.Options{
		Store: s, Clock: f.clock, Registry: f.registry, Logger: slog.New(slog.NewTextHandler(f.log, nil)),
		Config: func() config.KeyPool {
			f.asked.Add(1)
			f.onConfig()
			return *f.config.Load()
		},
		Keyring: func() *credential.Keyring {
			f.made.Add(1)
			f.onMake()
			return keyring()
		},
	})
	return f
}

// run runs the pool until the test ends or the returned function, which waits for it, is called.
func (f *fixture) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func (f *fixture) count(t *testing.T) int {
	t.Helper()
	count, err := f.store.CountKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func (f *fixture) newUser(t *testing.T, name string) store.User {
	t.Helper()
	user, err := f.NewUser(t.Context(), credential.HashAddress(name))
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// eventually waits for what another goroutine does; the database's answers are the pause between two looks.
func eventually(t *testing.T, f *fixture, what string, reached func() bool) {
	t.Helper()
	for began := time.Now(); !reached(); {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("never seen: %s; the pool has %d pairs, its log is %q", what, f.count(t), f.log)
		}
		_ = f.count(t)
	}
}

func (f *fixture) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue() + family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestPoolIsRefilledWhenItFallsBelowItsThreshold(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.run(t)
	eventually(t, f, "a full pool at the start", func() bool { return f.count(t) == 3 && f.clock.HasWaiters() })

	one := f.newUser(t, "one@example.com")
	asked := f.asked.Load()
	f.clock.Step(time.Minute)
	eventually(t, f, "a look at the pool", func() bool { return f.asked.Load() > asked })

	two := f.newUser(t, "two@example.com") // leaves one, which is too few: nobody waits for the interval
	eventually(t, f, "a full pool after it fell below", func() bool { return f.count(t) == 3 })
	if made := f.made.Load(); made != 5 {
		t.Errorf("%d pairs were made, want the first 3 and 2 when only 1 was left", made)
	}
	if one.Keys.ID == two.Keys.ID {
		t.Error("two users got the same pair")
	}
	if _, err := keyring().OpenKeyPair(one.Keys); err != nil {
		t.Errorf("the pair does not open: %v", err)
	}
	eventually(t, f, "a count of three in the metric", func() bool { return f.metric(t, "ens_key_pool_pairs") == 3 })
	if inline := f.metric(t, "ens_key_pool_inline_total"); inline != 0 {
		t.Errorf("the metric says %v pairs made on the spot", inline)
	}
}

// Until it runs, nobody has found the database to be sealed with the KEK at hand.
func TestNoPairIsHandedOutBeforeThePoolRuns(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	if err := f.store.AddKey(t.Context(), credential.KeyPair{ID: "x", Public: []byte{}, Private: []byte{}}, start); err != nil {
		t.Fatal(err)
	}
	if _, err := f.NewUser(t.Context(), credential.HashAddress("alice@example.com")); !errors.Is(err, keypool.ErrExhausted) {
		t.Errorf("got error %v, want %v", err, keypool.ErrExhausted)
	}
	if users, err := f.store.CountUsers(t.Context()); err != nil || users != 0 || f.count(t) != 1 || f.made.Load() != 0 {
		t.Errorf("there are %d users (%v), %d pairs in the pool, %d were made", users, err, f.count(t), f.made.Load())
	}
}

func TestReloadedIntervalCounts(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.run(t)
	eventually(t, f, "a full pool", func() bool { return f.count(t) == 3 && f.clock.HasWaiters() })
	f.config.Store(&config.KeyPool{Size: 4, RefillBelow: 4, RefillIntervalSeconds: 1})
	f.clock.Step(time.Minute) // the old one passes a last time
	eventually(t, f, "a pool of the new size", func() bool { return f.count(t) == 4 && f.clock.HasWaiters() })
	f.schema.Exec(t, `DELETE FROM key_pool`) // as other replicas do, of whose users this one knows nothing
	f.clock.Step(time.Second)
	eventually(t, f, "a full pool after the new interval", func() bool { return f.count(t) == 4 })
}

func TestTwoReplicasFillThePoolOnce(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	one, two := newPool(schema), newPoolOn(schema, schema.Open(t))
	stopOne, stopTwo := one.run(t), two.run(t)
	eventually(t, one, "a full pool", func() bool { return one.count(t) >= 3 })
	stopOne()
	stopTwo()
	if made := one.made.Load() + two.made.Load(); made != 3 || one.count(t) != 3 {
		t.Errorf("%d pairs were made, %d are in the pool, want 3", made, one.count(t))
	}
	if log := one.log.String() + two.log.String(); log != "" {
		t.Errorf("that another replica is at it was logged as %s", log)
	}
}

func TestReplicaThatCountedBeforeAnotherFilledThePoolAddsNothing(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	var looked atomic.Int32
	f.onConfig = func() {
		if looked.Add(1) != 1 { // the first time is between the count and the lock
			return
		}
		for range 3 {
			if err := f.store.AddKey(t.Context(), credential.KeyPair{ID: "x", Public: []byte{}, Private: []byte{}}, start); err != nil {
				t.Error(err)
			}
		}
	}
	f.run(t)
	eventually(t, f, "the end of the first look", f.clock.HasWaiters)
	asked := f.asked.Load()
	f.Wake()
	eventually(t, f, "a second look", func() bool { return f.asked.Load() > asked })
	if count := f.count(t); count != 3 || f.made.Load() != 0 {
		t.Errorf("%d more were made, %d are in the pool, want 3", f.made.Load(), count)
	}
}

func TestEmptyPoolMakesAPairOnTheSpotAndIsRefilledAtOnce(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.config.Store(&config.KeyPool{Size: 1, RefillBelow: 0, RefillIntervalSeconds: 60}) // nothing at the start
	f.run(t)
	eventually(t, f, "the end of the first look", f.clock.HasWaiters)
	f.config.Store(&config.KeyPool{Size: 1, RefillBelow: 1, RefillIntervalSeconds: 60})
	user := f.newUser(t, "alice@example.com")
	if _, err := keyring().OpenKeyPair(user.Keys); err != nil {
		t.Errorf("the pair does not open: %v", err)
	}
	eventually(t, f, "a refilled pool", func() bool { return f.count(t) == 1 }) // without waiting for the interval
	if inline := f.metric(t, "ens_key_pool_inline_total"); inline != 1 {
		t.Errorf("the metric says %v pairs made on the spot", inline)
	}
}

func TestPairsOnTheSpotAreBounded(t *testing.T) {
	t.Parallel()
	const places, callers = 8, 12
	f := newPool(storetest.New(t))
	gate := make(chan struct{})
	var atOnce, most, exhausted, left, created atomic.Int32
	f.onMake = func() {
		most.Store(max(most.Load(), atOnce.Add(1)))
		<-gate
		atOnce.Add(-1)
	}
	f.config.Store(&config.KeyPool{Size: 1, RefillBelow: 0, RefillIntervalSeconds: 60}) // nothing is made in advance
	f.run(t)
	eventually(t, f, "the end of the first look", f.clock.HasWaiters)
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	var calling sync.WaitGroup
	call := func(ctx context.Context, name string) {
		_, err := f.NewUser(ctx, credential.HashAddress(name))
		switch {
		case errors.Is(err, keypool.ErrExhausted):
			exhausted.Add(1)
		case errors.Is(err, context.Canceled):
			left.Add(1)
		case err != nil:
			t.Error(err)
		default:
			created.Add(1)
		}
	}
	for i := range callers {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = leaving
		}
		calling.Go(func() { call(ctx, fmt.Sprint(i)) })
	}
	eventually(t, f, "those for whom there is no place", func() bool { return exhausted.Load() == callers-places })
	leave()
	eventually(t, f, "one who waited and left", func() bool { return left.Load() > 0 })
	calling.Go(func() { call(t.Context(), "late") }) // takes the place
	close(gate)
	calling.Wait()
	if most.Load() != 1 {
		t.Errorf("%d pairs were made at once, want one core to be used", most.Load())
	}
	if exhausted.Load() != callers-places || left.Load()+created.Load() != places+1 {
		t.Errorf("%d were refused, %d left, %d got a pair", exhausted.Load(), left.Load(), created.Load())
	}
}

func TestRefillingGoesOnAfterTheDatabaseFailed(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	f := newPool(schema)
	schema.Exec(t, `ALTER TABLE key_pool RENAME TO away`)
	stop := f.run(t)
	for began := time.Now(); !strings.Contains(f.log.String(), "could not be refilled"); {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the failure is not logged")
		}
		_ = storetest.Value[int](t, schema, `SELECT 1`)
	}
	schema.Exec(t, `ALTER TABLE away RENAME TO key_pool`)
	eventually(t, f, "the interval's wait", f.clock.HasWaiters)
	f.clock.Step(time.Minute)
	eventually(t, f, "a full pool", func() bool { return f.count(t) == 3 })
	logged := f.log.String()
	stop()
	if after := f.log.String(); after != logged {
		t.Errorf("its end is logged as %s", strings.TrimPrefix(after, logged))
	}
}

func TestRunStopsInTheMiddleOfAFill(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.config.Store(&config.KeyPool{Size: 1000, RefillBelow: 1000, RefillIntervalSeconds: 60})
	stop := f.run(t)
	eventually(t, f, "a pair", func() bool { return f.made.Load() > 0 })
	stop()
	if made := f.made.Load(); made > 100 {
		t.Errorf("%d pairs were made before it stopped", made)
	}
	if log := f.log.String(); log != "" {
		t.Errorf("its end is logged as %s", log)
	}
}
