package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
)

// The goals, of the issue that asked for this: at most as much.
const (
	goalMail                = 0.35 // R of the runtime's CPU
	goalHeartbeat           = 0.05
	goalHeartbeatStatements = 0.1
	goalMailStatements      = 1
	goalMailWAL             = 1024 // bytes
	goalAnswerMedian        = 5    // ms
	goalAnswerLast          = 25
	goalOwnMedian           = 15
	goalOwnLast             = 60
	goalPeakCores           = 1.2
	goalPeak                = goalPeakCores / 760e-6 // R a second: the cores, where R is as in the issue
	goalIdleMemory          = 32                     // MiB
	goalStart               = 1000
	goalUserSize            = 4096 // bytes
)

// eventCost is the runtime's CPU time for an event, and that as a multiple of R as it was then.
type eventCost struct {
	cpu       time.Duration
	reference float64
}

// goals are those of one event of a stage; none if 0.
type goals struct{ cpu, statements, wal float64 }

// reading is where all counters stand.
type reading struct {
	at                time.Time
	runtime, postgres time.Duration
	position          meter.Position
	allocations       float64
}

func (b *run) read(ctx context.Context) (r reading, err error) {
	r.at = time.Now()
	if r.runtime, err = meter.CPU(b.scene.runtime.pid()); err != nil {
		return r, err
	}
	if r.postgres, err = meter.CPUWithChildren(b.scene.postgres.PID()); err != nil {
		return r, err
	}
	if r.allocations, err = b.scene.counter(ctx, "go_memstats_mallocs_total"); err != nil {
		return r, err
	}
	r.position, err = b.scene.database.Position(ctx, b.scene.schema.Role, schemaName)
	return r, err
}

// counter reads one of the runtime's metrics.
func (x *scene) counter(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+x.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("reading the runtime's metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("the runtime has no metric %s", name)
}

// measured does something, waits until all of it is done, and reports what one event has cost.
func (b *run) measured(ctx context.Context, stage string, g goals, do func(*driver) error) (*driver, time.Duration, error) {
	b.scene.ledger.turn()
	d := newDriver(b.scene)
	if err := b.scene.database.Forget(ctx); err != nil {
		return d, 0, err
	}
	before, err := b.read(ctx)
	if err != nil {
		return d, 0, err
	}
	b.profile(syscall.SIGUSR1)
	defer b.profile(syscall.SIGUSR2)
	if err := do(d); err != nil {
		return d, 0, err
	}
	took := time.Since(before.at)
	if err := b.settle(ctx); err != nil {
		return d, 0, err
	}
	after, err := b.read(ctx)
	if err != nil {
		return d, 0, err
	}
	if err := b.reportEvent(ctx, stage, g, float64(d.posted.Load()), before, after); err != nil {
		return d, 0, err
	}
	return d, took, b.listStatements(ctx, before, after)
}

// listStatements prints what the stage has asked the database, if that is asked for.
func (b *run) listStatements(ctx context.Context, before, after reading) error {
	if !b.settings.statements {
		return nil
	}
	statements, err := b.scene.database.Statements(ctx, b.scene.schema.Role)
	for _, s := range statements {
		say(b.progress, "%8d calls %8.0f ms  %.70q", s.Calls, s.Milliseconds, strings.TrimSpace(s.Text))
	}
	if err != nil {
		return err
	}
	records, err := b.scene.database.Records(ctx, before.position, after.position)
	for _, r := range records {
		say(b.progress, "%8d records %10d bytes  %s", r.Count, r.Bytes, r.Kind)
	}
	return err
}

// profile tells the runtime to begin a profile or to end it, if there are to be any.
func (b *run) profile(signal syscall.Signal) {
	if b.settings.profiles != "" {
		_ = syscall.Kill(b.scene.runtime.pid(), signal)
	}
}

func (b *run) reportEvent(ctx context.Context, stage string, g goals, events float64, before, after reading) error {
	if events == 0 {
		return errors.New("no post was taken")
	}
	per := func(d time.Duration) time.Duration { return time.Duration(float64(d) / events) }
	cpu := per(after.runtime - before.runtime)
	if b.perEvent == nil {
		b.perEvent = map[string]eventCost{}
	}
	b.perEvent[stage] = eventCost{cpu, b.report.inReference(cpu)}
	records, images, err := b.scene.database.WAL(ctx, before.position, after.position)
	if err != nil {
		return err
	}
	r := b.report
	r.add(stage, "posts", events, "")
	r.addGoal(stage, "runtime's CPU a post", r.inReference(cpu), "R", g.cpu)
	r.add(stage, "runtime's CPU a post", microseconds(cpu), "µs")
	r.add(stage, "Postgres' CPU a post", microseconds(per(after.postgres-before.postgres)), "µs")
	r.addGoal(stage, "statements a post", float64(after.position.Statements-before.position.Statements)/events, "", g.statements)
	r.addGoal(stage, "WAL a post", float64(records)/events, "B", g.wal)
	r.add(stage, "WAL a post, images of pages", float64(images)/events, "B")
	r.add(stage, "allocations a post", (after.allocations-before.allocations)/events, "")
	return nil
}

// settleLimit bounds how long what has been posted may take until it is told.
const settleLimit = 5 * time.Minute

// settle waits until every notification has been told.
func (b *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		a := b.scene.ledger.account()
		if a.untold == 0 {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond): //nolint:mnd // often enough for minutes
		case <-ctx.Done():
			return fmt.Errorf("%d notifications were not told: %w", a.untold, ctx.Err())
		}
	}
}

// mailToEveryone posts about one mail for each mailbox, without waiting for the phones.
func (b *run) mailToEveryone(ctx context.Context, d *driver) error {
	posts := make(chan exchange.Mailbox)
	go func() {
		defer close(posts)
		for _, mailbox := range d.turns {
			select {
			case posts <- mailbox:
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.workers(b.settings.inFlight, func(c *exchange.Connection, _ *rand.Rand) error {
		for mailbox := range posts {
			at := time.Now()
			number, _ := b.scene.ledger.send(at)
			unread := b.scene.ledger.counts[mailbox].Add(1)
			p := exchange.Post{Mailbox: mailbox, Mail: number, Kind: exchange.NewMail, Unread: int(unread), At: at}
			if err := d.post(c, p, at); err != nil {
				for range posts { // nobody else takes them
				}
				return err
			}
		}
		return nil
	})
}

// conclude computes what a day's peak of a million users takes.
func (b *run) conclude() {
	heartbeat, mail, read := b.perEvent["heartbeats"], b.perEvent["mails"], b.perEvent["reads"]
	if heartbeat.cpu == 0 || mail.cpu == 0 || read.cpu == 0 {
		return
	}
	cores := (peakHeartbeats*heartbeat.cpu + peakMails*(mail.cpu+read.cpu)).Seconds()
	b.report.addGoal("all", "cores of the runtime for the peak of 1,000,000 users", cores, "", goalPeakCores)
	b.report.addGoal("all", "the same in R a second", peakHeartbeats*heartbeat.reference+peakMails*(mail.reference+read.reference), "R", goalPeak)
	if b.capacity > 0 {
		b.report.add("all", "highest rate reached, of that peak", b.capacity/(peakHeartbeats+2*peakMails), "") //nolint:mnd // a mail is two posts
	}
}
