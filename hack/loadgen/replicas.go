package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/server"
)

// replica is a second runtime of the same tenant, with the same database.
type replica struct {
	program *program
	address string
}

// startReplica starts one beside the first and waits until it is ready.
func (x *scene) startReplica(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	p, err := startProgram(filepath.Join(x.folder, "second.log"), x.program, "--config", filepath.Join(x.folder, "config", config.FileName))
	if err != nil {
		return err
	}
	x.second = &replica{program: p}
	serving, err := p.line(ctx, server.ServingMessage)
	if err != nil {
		return err
	}
	x.second.address, _ = serving["address"].(string)
	metrics, _ := serving["metrics"].(string)
	for !ready(ctx, metrics) {
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return fmt.Errorf("the second runtime is not ready: %w\n%s", ctx.Err(), p.tail())
		}
	}
	return nil
}

func (x *scene) stopReplica(ctx context.Context) {
	if x.second != nil {
		_ = x.second.program.stop(ctx) // killed if it does not end
		x.second = nil
	}
}

// webhook is where a connection leads to: to each replica in turn.
func (x *scene) webhook(connection int) string {
	if x.second != nil && connection%2 == 1 {
		return x.second.address
	}
	return x.address
}

// replicas measures the mixture of a day with one runtime and with two, between which each user's posts change at random.
func (b *run) replicas(ctx context.Context) error {
	one, onePerPost, err := b.withReplicas(ctx)
	if err != nil {
		return err
	}
	if err := b.scene.startReplica(ctx); err != nil {
		return err
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	defer b.scene.stopReplica(stopping)
	two, twoPerPost, err := b.withReplicas(ctx)
	if err != nil {
		return err
	}
	r := b.report
	r.add("replicas", "rate of one", one, "posts/s")
	r.add("replicas", "rate of two", two, "posts/s")
	r.add("replicas", "rate of two, to one", two/one, "")
	r.add("replicas", "one: runtime's CPU a post", microseconds(onePerPost), "µs")
	r.add("replicas", "two: runtimes' CPU a post", microseconds(twoPerPost), "µs")
	r.add("replicas", "CPU a post of two, to one", float64(twoPerPost)/float64(onePerPost), "")
	a := b.scene.ledger.account()
	r.add("replicas", "notifications lost", float64(a.untold), "")
	r.add("replicas", "notifications shown twice", float64(a.twice), "")
	return nil
}

// withReplicas measures the rate and the CPU time for a post of all replicas that there are.
func (b *run) withReplicas(ctx context.Context) (rate float64, perPost time.Duration, err error) {
	if err := newDriver(b.scene).flood(ctx, b.settings.inFlight, b.settings.stage/warmUp, day); err != nil {
		return 0, 0, err
	}
	if err := b.settle(ctx); err != nil {
		return 0, 0, err
	}
	before, err := b.cpuOfAll()
	if err != nil {
		return 0, 0, err
	}
	began, d := time.Now(), newDriver(b.scene)
	if err := d.flood(ctx, b.settings.inFlight, b.settings.stage, day); err != nil {
		return 0, 0, err
	}
	posts := float64(d.posted.Load())
	rate = posts / time.Since(began).Seconds()
	if err := b.settle(ctx); err != nil {
		return 0, 0, err
	}
	after, err := b.cpuOfAll()
	return rate, time.Duration(float64(after-before) / posts), err
}

func (b *run) cpuOfAll() (time.Duration, error) {
	sum, err := meter.CPU(b.scene.runtime.pid())
	if err != nil || b.scene.second == nil {
		return sum, err
	}
	second, err := meter.CPU(b.scene.second.program.pid())
	return sum + second, err
}
