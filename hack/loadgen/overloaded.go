package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
)

// posts are all that were taken.
func (t *tally) posts() (sum int64) {
	for i := range t.taken {
		sum += t.taken[i].Load()
	}
	return sum
}

// overload offers more than can be done, and looks at what becomes of it.
func (b *run) overload(ctx context.Context) error {
	capacity, told, err := b.quotaCapacity(ctx)
	if err != nil {
		return err
	}
	b.scene.ledger.turn()
	o := newOffering(b.scene, b.settings.hurry)
	calm := o.phase()
	if err := o.keep(ctx, capacity*calmFactor, b.settings.stage/2, dayKind); err != nil { //nolint:mnd // long enough
		return err
	}
	before := b.scene.ledger.account().told
	much := o.phase()
	b.profile(syscall.SIGUSR1)
	err = o.keep(ctx, capacity*overloadFactor, b.settings.stage, dayKind)
	b.profile(syscall.SIGUSR2)
	if err != nil {
		return err
	}
	took := time.Since(much.began).Seconds()
	toldMeanwhile := float64(b.scene.ledger.account().told-before) / took
	b.reportOverload(calm, much, took, capacity, toldMeanwhile, told)
	if err := b.recover(ctx, o, calm, capacity); err != nil {
		return err
	}
	o.close()
	return b.reportMemory()
}

// quotaCapacity is how many posts of a day's mixture are done in a second, and how many mails are told.
func (b *run) quotaCapacity(ctx context.Context) (posts, told float64, err error) {
	flood := func(duration time.Duration) (*driver, error) {
		d := newDriver(b.scene)
		return d, d.flood(ctx, min(overloadInFlight, b.settings.users/4), duration, day) //nolint:mnd // so that there is always somebody to whom nothing happens
	}
	if _, err := flood(b.settings.stage / 4); err != nil { //nolint:mnd // until plans are made and connections are there
		return 0, 0, err
	}
	if err := b.settle(ctx); err != nil {
		return 0, 0, err
	}
	b.scene.ledger.turn()
	began := time.Now()
	d, err := flood(b.settings.stage)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began).Seconds() // until the last is told
	posts, told = float64(d.posted.Load())/took, float64(b.scene.ledger.account().told)/took
	b.report.add("overload", "capacity", posts, "posts/s")
	b.report.add("overload", "capacity, mails told", told, "mails/s")
	b.report.add("overload", "posts shed while it was measured", float64(d.shed.Load()), "")
	return posts, told, b.settle(ctx)
}

func (b *run) reportOverload(calm, much *tally, took, capacity, told, toldAtCapacity float64) {
	r := b.report
	r.add("overload", "before, answer, p50", milliseconds(calm.answered.Percentile(50)), "ms")
	r.add("overload", "before, answer, p99", milliseconds(calm.answered.Percentile(99)), "ms")
	r.add("overload", "before, posts shed", float64(calm.shed.Load()), "")
	r.add("overload", "offered, of the capacity", float64(much.offered.Load())/took/capacity, "")
	r.add("overload", "offered late", float64(much.late.Load()), "")
	r.add("overload", "shed", float64(much.shed.Load())/took, "posts/s")
	r.add("overload", "answer OK, p50", milliseconds(much.answered.Percentile(50)), "ms")
	r.add("overload", "answer OK, p99", milliseconds(much.answered.Percentile(99)), "ms")
	for kind, name := range map[exchange.Kind]string{exchange.Heartbeat: "heartbeats", exchange.NewMail: "mails", exchange.Read: "reads"} {
		r.add("overload", name+" taken", float64(much.taken[kind].Load())/took, "posts/s")
	}
	r.add("overload", "posts taken, of the capacity", float64(much.posts())/took/capacity, "")
	r.addLeast("overload", "mails told, of the capacity", told/toldAtCapacity, "", goalGoodput)
}

// recoveryLimit bounds the time until everything is as it was.
const recoveryLimit = 5 * time.Minute

// recover waits until everything is as before, while half of the capacity is offered.
func (b *run) recover(ctx context.Context, o *offering, before *tally, capacity float64) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryLimit)
	defer cancel()
	began := time.Now()
	const twice, window, inARow = 2, time.Second, 3
	for quick := 0; quick < inARow; {
		t := o.phase()
		if err := o.keep(ctx, capacity*calmFactor, window, dayKind); err != nil {
			return fmt.Errorf("answers have not become as quick as before: %w", err)
		}
		say(b.progress, "answers: %d OK, p99 %.0f ms, %d shed", t.answered.Count(), milliseconds(t.answered.Percentile(99)), t.shed.Load())
		if t.shed.Load() == 0 && t.answered.Count() > 0 && t.answered.Percentile(99) <= twice*before.answered.Percentile(99) {
			quick++
		} else {
			quick = 0
		}
	}
	b.report.add("overload", "afterwards, until answers were as quick as before", (time.Since(began) - inARow*window).Seconds(), "s")
	if err := o.done(ctx); err != nil {
		return err
	}
	b.report.add("overload", "afterwards, until everything was taken", time.Since(began).Seconds(), "s")
	b.report.add("overload", "afterwards, left to the next heartbeats", float64(b.scene.ledger.account().untold), "mails")
	if err := o.beatAll(ctx, capacity); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.report.add("overload", "afterwards, until all were told", time.Since(began).Seconds(), "s")
	var ended int64
	for _, t := range o.tallys {
		ended += t.ended.Load()
	}
	b.report.add("overload", "subscriptions ended", float64(ended), "")
	if failed := o.failed.Load(); failed != nil {
		return *failed
	}
	if ended > 0 {
		return fmt.Errorf("%d subscriptions were ended because their posts were never taken", ended)
	}
	return nil
}

func (b *run) reportMemory() error {
	most, err := meter.MostMemory(b.scene.runtime.pid())
	b.report.addGoal("overload", "memory at most", float64(most)/mebibyte, "MiB", memoryLimit/mebibyte)
	if b.scene.confined != nil {
		b.report.add("overload", "time without CPU, its quota used up", b.scene.confined.throttled().Seconds(), "s")
	}
	return err
}
