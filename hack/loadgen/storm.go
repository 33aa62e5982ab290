package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

// defaultPool is the size of the key pool unless the tenant sets it.
const defaultPool = 500

// phonesAPair is how many phones there are for each pair of that pool in a storm of 10,000.
const phonesAPair = 20

// storm measures phones that register, all at once.
func storm(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	r, err := newReport(s)
	if err != nil {
		return r, err
	}
	for _, set := range []struct {
		name string
		run  func(context.Context, settings, *report, io.Writer) error
	}{{"filled", stormFilled}, {"default", stormDefault}, {"lost", lost}} {
		if s.only != "" && !slices.Contains(strings.Split(s.only, ","), set.name) {
			continue
		}
		if err := set.run(ctx, s, r, progress); err != nil {
			return r, fmt.Errorf("%s: %w", set.name, err)
		}
	}
	return r, nil
}

// stormFilled has a pair for everybody and limits that let everybody in at once: nobody is to be put off.
func stormFilled(ctx context.Context, s settings, r *report, progress io.Writer) error {
	most := int32(s.users)
	return rush{
		name: "filled", pairs: s.users + defaultPool,
		configure: func(c *config.Config) {
			c.KeyPool = config.KeyPool{}
			c.Limits.RequestsPerSecond, c.Limits.NewUsersPerMinute = 4*most, 4*most //nolint:mnd // more than can come
		},
	}.measure(ctx, s, r, progress)
}

// stormDefault is a tenant that sets nothing: 500 pairs, 500 calls a second, 6,000 new users a minute. Of fewer phones than
// 10,000 it has as small a part of the pairs.
func stormDefault(ctx context.Context, s settings, r *report, progress io.Writer) error {
	return rush{
		name: "default", pairs: max(1, min(defaultPool, s.users/phonesAPair)), bound: true,
		configure: func(c *config.Config) { c.KeyPool = config.KeyPool{} },
	}.measure(ctx, s, r, progress)
}

// rush is a storm under a configuration.
type rush struct {
	name string
	// pairs is how many are in the key pool when it begins.
	pairs     int
	configure func(*config.Config)
	// bound has the rate compared with that of key generation.
	bound bool
}

func (u rush) measure(ctx context.Context, s settings, r *report, progress io.Writer) error {
	first := newGreeter(4 * s.users) //nolint:mnd // attempts whose answer was lost are among them
	var x *scene
	s.arrangement = arrangement{
		configure: u.configure, populate: keysOnly(u.pairs),
		subscribed: func(m exchange.Mailbox, t exchange.Target) {
			x.users.targets[m] = t
			first.due <- greeting{m, t}
		},
	}
	x, err := setScene(ctx, s, progress)
	defer x.close()
	if err != nil {
		return err
	}
	b := &run{scene: x, settings: s, report: r, progress: progress}
	if err := b.scene.start(ctx); err != nil {
		return err
	}
	if err := b.reference(); err != nil {
		return err
	}
	say(progress, "%d phones register at once, %d key pairs are in the pool", s.users, u.pairs)
	go first.greet(x.address)
	if err := u.rush(ctx, b); err != nil {
		return b.explain(errors.Join(err, first.close()))
	}
	if err := first.close(); err != nil {
		return b.explain(err)
	}
	return b.everybodyIsTold(ctx, u.name)
}

// rush lets everybody register and reports what that has taken.
func (u rush) rush(ctx context.Context, b *run) error {
	if err := b.scene.database.Forget(ctx); err != nil {
		return err
	}
	p := newPhones(b.scene)
	before, err := b.read(ctx)
	if err != nil {
		return err
	}
	own, err := meter.CPU(os.Getpid())
	if err != nil {
		return err
	}
	b.profile(syscall.SIGUSR1)
	err = p.everybody(ctx)
	b.profile(syscall.SIGUSR2)
	if err != nil {
		return errors.Join(err, p.fault())
	}
	after, err := b.read(ctx)
	if err != nil {
		return err
	}
	ownAfter, err := meter.CPU(os.Getpid())
	if err != nil {
		return err
	}
	if err := b.reportRush(ctx, u.name, p, before, after, ownAfter-own); err != nil {
		return err
	}
	if u.bound {
		if err := b.reportBound(u.name, float64(b.settings.users)/after.at.Sub(before.at).Seconds()); err != nil {
			return err
		}
	}
	return errors.Join(p.fault(), b.listStatements(ctx, before, after))
}

// everybody registers the phones of all mailboxes, each on its own and all at once.
func (p *phones) everybody(ctx context.Context) error {
	failures := make([]error, p.scene.users.size)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() {
			mailbox := exchange.Mailbox(i + 1)
			failures[i] = p.enter(ctx, mailbox, mailbox.Password())
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

func (b *run) reportRush(ctx context.Context, stage string, p *phones, before, after reading, own time.Duration) error {
	records, _, err := b.scene.database.WAL(ctx, before.position, after.position)
	if err != nil {
		return err
	}
	count, took := float64(b.settings.users), after.at.Sub(before.at)
	r, each := b.report, func(d time.Duration) time.Duration { return time.Duration(float64(d) / count) }
	busy := after.runtime - before.runtime + after.postgres - before.postgres + own
	r.add(stage, "phones that registered", count, "")
	r.add(stage, "calls that failed", float64(p.failed.Load()), "")
	r.add(stage, "calls that were told to come again", float64(p.putOff.Load()), "")
	r.add(stage, "the latest that one was told to come", float64(p.longestWait.Load()), "s")
	r.add(stage, "until all were registered", took.Seconds(), "s")
	r.add(stage, "rate", count/took.Seconds(), "phones/s")
	for _, samples := range []struct {
		name string
		of   *meter.Samples
	}{{"getpublickey", &p.keys}, {"registerdevicev2", &p.registrations}, {"until a phone was registered", &p.entered}} {
		r.add(stage, samples.name+", p50", milliseconds(samples.of.Percentile(50)), "ms")
		r.add(stage, samples.name+", p99", milliseconds(samples.of.Percentile(99)), "ms")
	}
	r.add(stage, "runtime's CPU a registration", b.report.inReference(each(after.runtime-before.runtime)), "R")
	r.add(stage, "runtime's CPU a registration", microseconds(each(after.runtime-before.runtime)), "µs")
	r.add(stage, "Postgres' CPU a registration", microseconds(each(after.postgres-before.postgres)), "µs")
	r.add(stage, "CPU of phones, Exchange and Apple a registration", microseconds(each(own)), "µs")
	r.add(stage, "their part of all that was busy", own.Seconds()/busy.Seconds(), "")
	r.add(stage, "cores that were busy", busy.Seconds()/took.Seconds(), "")
	r.add(stage, "statements a registration", float64(after.position.Statements-before.position.Statements)/count, "")
	r.add(stage, "WAL a registration", float64(records)/count, "B")
	r.add(stage, "allocations a registration", (after.allocations-before.allocations)/count, "")
	return b.addMemory(stage, "memory", 0)
}

// reportBound compares a rate with that at which all cores could make key pairs and do nothing else.
func (b *run) reportBound(stage string, rate float64) error {
	took, err := meter.KeyGeneration()
	if err != nil {
		return err
	}
	bound := float64(b.report.CPUs) / took.Seconds()
	b.report.add(stage, "CPU of a key pair", milliseconds(took), "ms")
	b.report.add(stage, "key pairs that all cores can make", bound, "pairs/s")
	b.report.add(stage, "rate, of that bound", rate/bound, "")
	return nil
}

// everybodyIsTold shows that each phone gets its own mailbox's mail, and only that.
func (b *run) everybodyIsTold(ctx context.Context, stage string) error {
	var subscribed int
	const count = `SELECT count(*) FROM subscriptions s JOIN devices d USING (user_id) WHERE s.state = 'active'`
	if err := b.scene.pool.QueryRow(ctx, count).Scan(&subscribed); err != nil {
		return err
	}
	if subscribed != b.settings.users {
		return fmt.Errorf("%d of %d users have a subscription and a device", subscribed, b.settings.users)
	}
	if err := b.mailToEveryone(ctx, newDriver(b.scene)); err != nil {
		return b.explain(err)
	}
	if err := b.settle(ctx); err != nil {
		return b.explain(err)
	}
	b.report.add(stage, "phones that were told of their mail", float64(b.scene.ledger.account().told), "")
	return b.faultless()
}

// faultless is an error if anybody was told what is not theirs, or not told what is.
func (b *run) faultless() error {
	a := b.scene.ledger.account()
	if _, refused, _ := b.scene.requests(); a.untold+a.twice+a.unknown > 0 || refused > 0 {
		return b.explain(fmt.Errorf("%d notifications lost, %d shown twice, %d not the user's own, %d requests refused by Exchange",
			a.untold, a.twice, a.unknown, refused))
	}
	return nil
}

// keysOnly makes no users but a stock of key pairs: the same many times, since one costs as much to use as another.
func keysOnly(pairs int) func(context.Context, *pgxpool.Pool, *credential.Keyring, string, int) (*population, error) {
	return func(ctx context.Context, pool *pgxpool.Pool, ring *credential.Keyring, _ string, size int) (*population, error) {
		pair, err := ring.NewKeyPair()
		if err != nil {
			return nil, err
		}
		now := time.Now()
		source := pgx.CopyFromSlice(pairs, func(int) ([]any, error) { return []any{pair.ID, pair.Public, pair.Private, now}, nil })
		columns := []string{"key_id", "public_key", "private_key", "created_at"}
		if _, err := pool.CopyFrom(ctx, pgx.Identifier{"key_pool"}, columns, source); err != nil {
			return nil, fmt.Errorf("filling the key pool: %w", err)
		}
		_, err = pool.Exec(ctx, `VACUUM ANALYZE`)
		return &population{size: size, targets: make([]exchange.Target, size+1)}, err
	}
}
