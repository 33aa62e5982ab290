package keypool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestReplacedPairsComeFromThePoolAndWakeTheRefill(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.config.Store(&config.KeyPool{Size: 2, RefillBelow: 2, RefillIntervalSeconds: 60})
	f.run(t)
	eventually(t, f, "a full pool", func() bool { return f.count(t) == 2 && f.clock.HasWaiters() })
	before := f.newUser(t, "alice@example.com")
	eventually(t, f, "a full pool after the new user", func() bool { return f.count(t) == 2 && f.clock.HasWaiters() })

	if replaced, err := f.ReplaceKey(t.Context(), before.Hash); err != nil || !replaced {
		t.Fatalf("replaced is %t: %v", replaced, err)
	}
	eventually(t, f, "a full pool after the replacement", func() bool { return f.count(t) == 2 && f.clock.HasWaiters() })
	after, err := f.store.UserByHash(t.Context(), before.Hash)
	if err != nil || after.Keys.ID == before.Keys.ID || after.Previous.ID != before.Keys.ID {
		t.Errorf("the user had the pair %s and has %s, before it %s: %v", before.Keys.ID, after.Keys.ID, after.Previous.ID, err)
	}

	if replaced, err := f.ReplaceKey(t.Context(), before.Hash); err != nil || replaced {
		t.Errorf("on the same day it is replaced again (%t, %v)", replaced, err)
	}
	if made := f.metric(t, "ens_key_pool_refilled_total"); made != 4 {
		t.Errorf("%v pairs were put into the pool, want 2 at the start and 1 for each that was taken", made)
	}
}

func TestReplacingAPairWhenThePoolIsEmptyWakesTheRefill(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	if _, err := f.ReplaceKey(t.Context(), credential.HashAddress("alice@example.com")); !errors.Is(err, keypool.ErrExhausted) {
		t.Errorf("before the pool runs the error is %v", err)
	}
	f.config.Store(&config.KeyPool{Size: 1, RefillBelow: 0, RefillIntervalSeconds: 60}) // nothing is made in advance
	f.run(t)
	eventually(t, f, "the end of the first look", f.clock.HasWaiters)
	user := f.newUser(t, "alice@example.com") // made on the spot, which wakes as well
	eventually(t, f, "the end of the second look", f.clock.HasWaiters)
	f.config.Store(&config.KeyPool{Size: 1, RefillBelow: 1, RefillIntervalSeconds: 60})

	if replaced, err := f.ReplaceKey(t.Context(), user.Hash); !errors.Is(err, store.ErrPoolEmpty) || replaced {
		t.Errorf("replaced is %t: %v", replaced, err)
	}
	eventually(t, f, "a refilled pool", func() bool { return f.count(t) == 1 })
	if replaced, err := f.ReplaceKey(t.Context(), user.Hash); err != nil || !replaced {
		t.Errorf("from the refilled pool replaced is %t: %v", replaced, err)
	}
}

// pairTime is what a pair takes on the fake clock.
const pairTime = 40 * time.Millisecond

func TestWhileThereArePairsTheRefillRestsAsLongAsAPairTook(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	f.config.Store(&config.KeyPool{Size: 3, RefillBelow: 3, RefillIntervalSeconds: 60})
	if err := f.store.AddKey(t.Context(), credential.KeyPair{ID: "x", Public: []byte{}, Private: []byte{}}, start); err != nil {
		t.Fatal(err)
	}
	f.onMake = func() { f.clock.Step(pairTime) }
	f.run(t)
	for made := int32(1); made <= 2; made++ {
		eventually(t, f, "a rest", func() bool { return f.made.Load() == made && f.clock.HasWaiters() })
		f.clock.Step(pairTime - time.Millisecond)
		if !f.clock.HasWaiters() || f.made.Load() != made {
			t.Fatalf("after pair %d it rested for less than the pair took", made)
		}
		f.clock.Step(time.Millisecond)
	}
	eventually(t, f, "a full pool", func() bool { return f.count(t) == 3 })
}

func TestWhileThePoolIsEmptyTheRefillDoesNotRest(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	// Callers take each pair the moment it is there.
	f.schema.Exec(t, `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
	f.schema.Exec(t, `CREATE TRIGGER take BEFORE INSERT ON key_pool FOR EACH ROW EXECUTE FUNCTION take()`)
	f.onMake = func() { f.clock.Step(pairTime) }
	f.run(t)
	const several = 12 // more than are made under one lock
	eventually(t, f, "several pairs in a row", func() bool { return f.made.Load() >= several })
}

func TestReplicaThatFindsAnotherFillingThePoolLooksAgainSoon(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	other := f.schema.Open(t)
	locked, dies := make(chan struct{}), make(chan struct{})
	var filling sync.WaitGroup
	filling.Go(func() {
		err := other.RefillKeys(t.Context(), func(context.Context) error {
			close(locked)
			<-dies
			return errors.New("it dies before it has made a pair")
		})
		if err == nil {
			t.Error("the other replica did not die")
		}
	})
	<-locked
	f.run(t)
	eventually(t, f, "the wait for the other replica", f.clock.HasWaiters)
	asked := f.asked.Load()
	f.Wake()
	for range 10 { // time enough to ask for the lock once more
		_ = f.count(t)
	}
	if f.asked.Load() != asked {
		t.Error("it is woken while the other replica is at it, so that each new user asks for the lock")
	}
	close(dies)
	filling.Wait()
	f.clock.Step(5 * time.Second)
	eventually(t, f, "a full pool, well before the interval", func() bool { return f.count(t) == 3 })
}

func TestWhatOtherReplicasTakeIsNoticedBeforeTheInterval(t *testing.T) {
	t.Parallel()
	// Of 80 pairs others take 45 and this one 25, which leaves 10; by its own account it would be 55.
	const size, below, byOthers, byThis = 40, 20, 45, 25
	f := newPool(storetest.New(t))
	f.schema.Exec(t, `INSERT INTO key_pool (key_id, public_key, private_key, created_at)
SELECT 'x', '', '', now() FROM generate_series(1, $1)`, 2*size)
	f.config.Store(&config.KeyPool{Size: size, RefillBelow: below, RefillIntervalSeconds: 60})
	f.run(t)
	eventually(t, f, "the end of the first look", f.clock.HasWaiters)
	f.schema.Exec(t, `DELETE FROM key_pool WHERE id IN (SELECT id FROM key_pool ORDER BY id LIMIT $1)`, byOthers)
	for user := range byThis {
		f.newUser(t, fmt.Sprint(user))
	}
	eventually(t, f, "a full pool", func() bool { return f.count(t) == size })
}

func TestThoseWhoAreTurnedAwayComeAgainOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newPool(storetest.New(t))
	var told []time.Duration
	for range 5000 {
		told = append(told, f.RetryAfter())
	}
	for n, want := range map[int]time.Duration{
		0: 5 * time.Second, 25: 6 * time.Second, 2000: 85 * time.Second,
	} {
		if told[n] != want {
			t.Errorf("number %d is told to come again after %s, want %s", n, told[n], want)
		}
	}
	f.clock.Step(5 * time.Minute)
	if again := f.RetryAfter(); again != 5*time.Second {
		t.Errorf("after the rush one is told to come again after %s", again)
	}
}

// BenchmarkNewUser shows what a refill costs those who come meanwhile. Run it with -cpu of what a pod has.
func BenchmarkNewUser(b *testing.B) {
	const stock = 20_000 // enough for the benchmark's second
	for name, size := range map[string]int32{"while the pool is full": 0, "while the pool is refilled": 2 * stock} {
		b.Run(name, func(b *testing.B) {
			schema, registry := storetest.New(b), prometheus.NewRegistry()
			schema.Exec(b, `INSERT INTO key_pool (key_id, public_key, private_key, created_at)
SELECT 'x', '', '', now() FROM generate_series(1, $1)`, stock)
			pool := keypool.New(keypool.Options{
				Store: schema.Store, Clock: clock.RealClock{}, Registry: registry, Logger: slog.New(slog.DiscardHandler),
				Config:  func() config.KeyPool { return config.KeyPool{Size: size, RefillBelow: size, RefillIntervalSeconds: 60} },
				Keyring: keyring,
			})
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { pool.Run(ctx) })
			for user := 0; b.Loop(); user++ {
				_, err := pool.NewUser(b.Context(), credential.HashAddress(fmt.Sprint(user)))
				if errors.Is(err, keypool.ErrExhausted) { // it does not run yet
					continue
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			running.Wait()
		})
	}
}
