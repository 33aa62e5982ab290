package runtimetest

import (
	"context"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/server"
	"github.com/ens-operator/ens-operator/runtime/step"
)

// Replica is a running runtime in this process.
type Replica struct {
	// Address is where it serves, Metrics where its metrics and probes are, Admin its administration port.
	Address, Metrics, Admin string
	// Describe tells of all metrics that there may be.
	Describe func(chan<- *prometheus.Desc)

	stop func() error
}

// Version is the build's version that replicas in this process are told.
const Version = "1.2.3-test"

// Launch starts a replica without waiting until it is ready.
func (x *Tenant) Launch(t testing.TB) *Replica {
	t.Helper()
	options := server.Options{
		ConfigPath: filepath.Join(x.Folder, config.FileName), Version: Version, Clock: x.options.Clock,
		Logger:      slog.New(slog.DiscardHandler),
		DialContext: x.options.DialContext, LookupSRV: x.options.LookupSRV, Steps: x.options.Steps,
	}
	switch {
	case x.options.Log != nil:
		options.Logger = slog.New(requestid.Handler{Handler: x.options.Log})
	case x.options.LogTo != nil:
		output := enslog.New(x.options.LogTo)
		options.Logger, options.Logging = slog.New(output), output.Use
	}
	s, err := server.New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	r := &Replica{Describe: s.Describe}
	r.Address, r.Metrics, r.Admin = s.Addresses()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("the replica did not stop cleanly: %v", err)
		}
	})
	return r
}

// Start starts a replica, waits until it is ready and sends the front's requests to it.
func (x *Tenant) Start(t testing.TB) *Replica {
	t.Helper()
	r := x.Launch(t)
	WaitReady(t, r.Metrics)
	x.Front.Use(r.Address)
	return r
}

// Stop stops the replica as SIGTERM does, once.
func (r *Replica) Stop() error { return r.stop() }

// WaitReady waits until the replica with these probes is ready.
func WaitReady(t testing.TB, metrics string) {
	t.Helper()
	Eventually(t, func() string {
		response, err := http.Get("http://" + metrics + "/readyz")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return "the replica is not ready"
		}
		return ""
	})
}

// Process is a running runtime in a process of its own, which can be killed.
type Process struct {
	*process.Process
	Address, Metrics string
}

// program builds a program once for the test process, where `make clean` finds it.
func program(source string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		root, err := testenv.RepositoryRoot()
		if err != nil {
			return "", err
		}
		return process.BuildFrom(context.Background(), filepath.Join(root, "bin", "test"), source)
	})
}

var (
	sound    = program("cmd/runtime")
	crashing = program("hack/runtimetest/crashing")
)

// Spawn starts a replica in a process of its own and waits until it is ready.
func (x *Tenant) Spawn(t testing.TB) *Process {
	t.Helper()
	return x.spawn(t, sound)
}

// SpawnCrashing starts a replica that kills itself when it has reached a step for the arrival-th time.
func (x *Tenant) SpawnCrashing(t testing.TB, at step.Step, arrival int) *Process {
	t.Helper()
	return x.spawn(t, crashing, "--step", string(at), "--arrival", strconv.Itoa(arrival))
}

func (x *Tenant) spawn(t testing.TB, program func() (string, error), arguments ...string) *Process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	arguments = append([]string{"--config", filepath.Join(x.Folder, config.FileName)}, arguments...)
	started, err := process.Start(exec.Command(path, arguments...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(started.Kill)
	p := &Process{Process: started}
	ctx := Context(t)
	p.Address = p.Field(ctx, server.ServingMessage, "address")
	p.Metrics = p.Field(ctx, server.ServingMessage, "metrics")
	if p.Address == "" {
		t.Fatalf("the runtime did not start:\n%s", p.Output())
	}
	WaitReady(t, p.Metrics)
	return p
}
