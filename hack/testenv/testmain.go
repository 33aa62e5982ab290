package testenv

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// A server that all tests of a process share: started when first asked for, stopped by Main.
type server[T interface{ Stop() error }] struct {
	start func(context.Context) (T, error)
	once  sync.Once
	value T
	err   error
}

func (s *server[T]) get(t testing.TB) T {
	t.Helper()
	// Not the test's context: the server outlives the test.
	s.once.Do(func() { s.value, s.err = s.start(context.WithoutCancel(t.Context())) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.value
}

func (s *server[T]) stop() error {
	started := true
	s.once.Do(func() { started = false })
	if started && s.err == nil {
		return s.value.Stop()
	}
	return nil
}

var sharedPostgres = &server[*PostgresServer]{start: func(ctx context.Context) (*PostgresServer, error) {
	return StartPostgres(ctx, WithoutFsync())
}}

var sharedKube = &server[*KubeServer]{start: func(ctx context.Context) (*KubeServer, error) { return StartKube(ctx) }}

// Option sets up a server that the tests of a process share.
type Option func()

// WithPostgres starts the shared Postgres with these options when a test asks for it.
func WithPostgres(options ...PostgresOption) Option {
	return func() {
		sharedPostgres.start = func(ctx context.Context) (*PostgresServer, error) {
			return StartPostgres(ctx, append([]PostgresOption{WithoutFsync()}, options...)...)
		}
	}
}

// WithKube starts the shared API server with these options when a test asks for it.
func WithKube(options ...KubeOption) Option {
	return func() {
		sharedKube.start = func(ctx context.Context) (*KubeServer, error) { return StartKube(ctx, options...) }
	}
}

// Main runs the tests, stops the servers they shared, and exits. Call it from TestMain.
func Main(m *testing.M, options ...Option) {
	for _, option := range options {
		option()
	}
	code := m.Run()
	for _, stop := range []func() error{sharedKube.stop, sharedPostgres.stop} {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv: stopping a server that tests shared:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Postgres returns the server that all tests of this process share, and fails the test if it cannot be started.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return sharedPostgres.get(t)
}

// Kube returns the API server that all tests of this process share, and fails the test if it cannot be started.
func Kube(t testing.TB) *KubeServer {
	t.Helper()
	return sharedKube.get(t)
}
