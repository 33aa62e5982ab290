package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

const (
	// benchmarkUsers are enough that callers seldom meet in a row, as in life.
	benchmarkUsers = 500
	// benchmarkCallers times GOMAXPROCS callers are there at once.
	benchmarkCallers = 100
)

// share runs call in many goroutines and reports how many of them shared a statement.
func share(b *testing.B, call func(s *store.Store, attempt store.Attempt, n int64) error) {
	b.Helper()
	schema := storetest.New(b)
	attempts := make([]store.Attempt, benchmarkUsers)
	for i := range attempts {
		_, attempts[i] = subscribed(b, schema.Store, fmt.Sprint(i))
	}
	replica := schema.Open(b)
	const transactions = `SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`
	schema.Store.Close() // a session counts what it did for all to see when it ends
	ended(b, schema)
	before := storetest.Value[int64](b, schema, transactions)
	var calls atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(benchmarkCallers)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := calls.Add(1)
			if err := call(replica, attempts[n%benchmarkUsers], n); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	replica.Close()
	ended(b, schema)
	statements := storetest.Value[int64](b, schema, transactions) - before
	b.ReportMetric(float64(calls.Load())/float64(max(statements, 1)), "calls/statement")
}

// ended waits until the runtime has no session left.
func ended(b *testing.B, schema *storetest.Schema) {
	b.Helper()
	const sessions = `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`
	for began := time.Now(); storetest.Value[int](b, schema, sessions, schema.Role) > 0; {
		if time.Since(began) > 10*time.Second {
			b.Fatal("the runtime's sessions do not end")
		}
	}
}

func BenchmarkSubscription(b *testing.B) {
	share(b, func(s *store.Store, attempt store.Attempt, _ int64) error {
		found, err := s.Subscription(b.Context(), attempt.UserID, attempt.Generation, start)
		if err == nil && !found.Found {
			return store.ErrNotFound
		}
		return err
	})
}

func BenchmarkMarkAlive(b *testing.B) {
	share(b, func(s *store.Store, attempt store.Attempt, n int64) error {
		return s.MarkAlive(b.Context(), store.Sign{UserID: attempt.UserID, At: at(time.Duration(n) * time.Millisecond)})
	})
}

// BenchmarkJournal is the life of a new mail: written, claimed, done.
func BenchmarkJournal(b *testing.B) {
	share(b, func(s *store.Store, attempt store.Attempt, n int64) error {
		claims, err := s.Write(b.Context(), []store.Entry{mail(attempt.UserID, fmt.Sprint("item ", n), ours, 0), badge(attempt.UserID, ours, 0)})
		if err != nil {
			return err
		}
		var ending []store.Completion
		for _, claim := range claims {
			ending = append(ending, store.Completion{Claim: claim, Owner: ours, Finished: true, Now: start})
		}
		_, err = s.Finish(b.Context(), store.Ending{Completions: ending})
		return err
	})
}
