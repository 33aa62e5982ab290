package store_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestConnectionsThatAreCutCostNoCallback(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	s := schema.Store
	user, attempt := subscribed(t, s, "alice")
	for name, call := range map[string]func(context.Context) error{
		"Subscription": func(ctx context.Context) error {
			_, err := s.Subscription(ctx, user.ID, attempt.Generation, start)
			return err
		},
		"MarkAlive": func(ctx context.Context) error { return s.MarkAlive(ctx, store.Sign{UserID: user.ID, At: start}) },
		"Target":    func(ctx context.Context) error { _, err := s.Target(ctx, user.ID); return err },
		"Complete": func(ctx context.Context) error {
			_, err := s.Finish(ctx, store.Ending{Completions: []store.Completion{{}}})
			return err
		},
		"Write": func(ctx context.Context) error {
			_, err := s.Write(ctx, []store.Entry{mail(user.ID, "1", ours, 0)})
			return err
		},
	} {
		const several = 50 // so that the pool has several connections
		var calling sync.WaitGroup
		for range several {
			calling.Go(func() { _ = call(t.Context()) })
		}
		calling.Wait()
		// Those that have just been used are not looked at before they are used again.
		schema.Exec(t, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1`, schema.Role)
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: after all connections were cut: %v", name, err)
		}
	}
}

// TestAHostThatIsGoneIsPassedBy is about a node that is down: it does not even refuse.
func TestAHostThatIsGoneIsPassedBy(t *testing.T) {
	t.Parallel()
	schema := storetest.New(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	both := must(url.Parse(schema.URL.RevealString()))
	both.Host = silent.Addr().String() + "," + both.Host
	s, err := store.Open(t.Context(), secret.FromString(both.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Check(ctx, schema.Name); err != nil {
		t.Errorf("a database whose first host does not answer: %v", err)
	}
}
