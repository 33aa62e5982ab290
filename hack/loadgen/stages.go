package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/hack/meter"
)

// bench measures everything that is asked for.
func bench(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	r, err := newReport(s)
	if err != nil {
		return r, err
	}
	x, err := setScene(ctx, s, progress)
	defer x.close()
	if err != nil {
		return r, err
	}
	b := &run{scene: x, settings: s, report: r, progress: progress}
	standard := []stage{
		{"start", b.start}, {"heartbeats", b.heartbeats}, {"mails", b.mails}, {"reads", b.reads},
		{"day", b.day}, {"half", b.half}, {"burst", b.burst}, {"database", b.size},
	}
	for _, stage := range append(standard, b.further()...) {
		if stage.name != "start" && s.only != "" && !s.asks(stage.name) {
			continue
		}
		say(progress, "Stage %s", stage.name)
		if err := b.reference(); err != nil {
			return r, err
		}
		if err := stage.run(ctx); err != nil {
			return r, fmt.Errorf("stage %s: %w", stage.name, b.explain(err))
		}
	}
	b.conclude()
	return r, b.judge()
}

// stage is a kind of load.
type stage struct {
	name string
	run  func(context.Context) error
}

// further are the stages that are run only if they are asked for.
func (b *run) further() []stage {
	return slices.DeleteFunc([]stage{
		{"overload", b.overload}, {"isolation", b.isolation}, {"replicas", b.replicas},
	}, func(further stage) bool { return !b.settings.asks(further.name) })
}

// asks reports whether a stage is asked for by name.
func (s settings) asks(stage string) bool { return slices.Contains(strings.Split(s.only, ","), stage) }

// reference measures R before each stage: what shares the machine with us makes it slower and quicker within minutes.
func (b *run) reference() error {
	took, err := meter.Reference()
	b.report.Reference = append(b.report.Reference, microseconds(took))
	return err
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

const mebibyte = 1 << 20

// run is one run through the stages.
type run struct {
	scene    *scene
	settings settings
	report   *report
	progress io.Writer
	// capacity is how many events of a day's mixture were done in a second.
	capacity float64
	// perEvent is what an event costs by stage.
	perEvent map[string]eventCost
}

// explain adds what the runtime said last.
func (b *run) explain(err error) error {
	if b.scene.runtime == nil {
		return err
	}
	if _, refused, problem := b.scene.requests(); refused > 0 {
		err = fmt.Errorf("%w (the simulated Exchange has refused %d requests, the last because: %s)", err, refused, problem)
	}
	return fmt.Errorf("%w; the runtime said last:\n%s", err, b.scene.runtime.tail())
}

// start starts the runtime.
func (b *run) start(ctx context.Context) error {
	if err := b.scene.start(ctx); err != nil {
		return err
	}
	b.report.addGoal("start", "start to ready", milliseconds(b.scene.started), "ms", goalStart)
	return b.addMemory("start", "memory, idle", goalIdleMemory)
}

func (b *run) addMemory(stage, name string, goal float64) error {
	memory, err := meter.Memory(b.scene.runtime.pid())
	b.report.addGoal(stage, name, float64(memory)/mebibyte, "MiB", goal)
	return err
}

func (b *run) heartbeats(ctx context.Context) error {
	return b.flood(ctx, "heartbeats", always(heartbeat), goals{cpu: goalHeartbeat, statements: goalHeartbeatStatements})
}

func (b *run) mails(ctx context.Context) error {
	return b.flood(ctx, "mails", always(newMail), goals{cpu: goalMail, statements: goalMailStatements, wal: goalMailWAL})
}

func (b *run) reads(ctx context.Context) error { return b.flood(ctx, "reads", always(read), goals{}) }

func (b *run) day(ctx context.Context) error {
	return b.flood(ctx, "day", day, goals{})
}

// warmUp is how much of a stage is spent before anything counts, so that connections are open and plans are made.
const warmUp = 10 // one part of so many

// flood measures what is possible of one kind.
func (b *run) flood(ctx context.Context, stage string, choose func(*rand.Rand) event, g goals) error {
	if err := newDriver(b.scene).flood(ctx, b.settings.inFlight, b.settings.stage/warmUp, choose); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	d, took, err := b.measured(ctx, stage, g, func(d *driver) error {
		return d.flood(ctx, b.settings.inFlight, b.settings.stage, choose)
	})
	if err != nil {
		return err
	}
	rate := float64(d.posted.Load()) / took.Seconds()
	b.report.add(stage, "rate", rate, "posts/s")
	if stage == "day" {
		b.capacity = rate
	}
	return nil
}

// half keeps up half of what was possible.
func (b *run) half(ctx context.Context) error {
	if b.capacity == 0 {
		return errors.New("the stage day has to run before")
	}
	var own, delivery *meter.Samples
	d, _, err := b.measured(ctx, "half", goals{}, func(d *driver) error {
		err := d.keep(ctx, b.capacity/2, b.settings.stage, day) //nolint:mnd // half
		own, delivery = b.scene.ledger.own, b.scene.ledger.delivery
		return err
	})
	if err != nil {
		return err
	}
	r := b.report
	r.addGoal("half", "answer, p50", milliseconds(d.answered.Percentile(50)), "ms", goalAnswerMedian)
	r.addGoal("half", "answer, p99", milliseconds(d.answered.Percentile(99)), "ms", goalAnswerLast)
	r.addGoal("half", "event to acceptance, own part, p50", milliseconds(own.Percentile(50)), "ms", goalOwnMedian)
	r.addGoal("half", "event to acceptance, own part, p99", milliseconds(own.Percentile(99)), "ms", goalOwnLast)
	r.add("half", "event to acceptance, p50", milliseconds(delivery.Percentile(50)), "ms")
	r.add("half", "event to acceptance, p99", milliseconds(delivery.Percentile(99)), "ms")
	return b.addMemory("half", "memory", 0)
}

// burst is a mail to everyone, as fast as Exchange gets rid of it.
func (b *run) burst(ctx context.Context) error {
	began := time.Now()
	d, posting, err := b.measured(ctx, "burst", goals{}, func(d *driver) error { return b.mailToEveryone(ctx, d) })
	if err != nil {
		return err
	}
	b.report.add("burst", "until all was posted", posting.Seconds(), "s")
	b.report.add("burst", "posts that Exchange had to make again", float64(d.shed.Load()), "")
	if err := b.addMemory("burst", "memory", 0); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.report.add("burst", "until all were told", time.Since(began).Seconds(), "s")
	return nil
}

// size is what the database takes.
func (b *run) size(ctx context.Context) error {
	size, err := b.scene.database.Size(ctx, schemaName)
	if err != nil {
		return err
	}
	b.report.addGoal("database", "size of a user with indexes", float64(size)/float64(b.settings.users), "B", goalUserSize)
	connections, err := b.scene.database.Connections(ctx, b.scene.schema.Role)
	b.report.add("database", "connections", float64(connections), "")
	return err
}

// judge is about what must never be, however slow the machine.
func (b *run) judge() error {
	a := b.scene.ledger.account()
	b.report.add("all", "notifications lost", float64(a.untold), "")
	b.report.add("all", "notifications shown twice", float64(a.twice), "")
	_, refused, _ := b.scene.requests()
	b.report.add("all", "requests that Exchange refused", float64(refused), "")
	if a.untold+a.twice+a.unknown > 0 || refused > 0 {
		return b.explain(fmt.Errorf("%d notifications lost, %d shown twice, %d about no mail, %d requests refused by Exchange", a.untold, a.twice, a.unknown, refused))
	}
	return nil
}
