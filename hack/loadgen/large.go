package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// The goals of a million users: at most as much.
const (
	goalLargeMemory = 512  // MiB
	goalSweep       = 1000 // ms
)

const (
	// toldInAnHour is how many mails a user gets in an average hour, 60 a day: as long does the journal remember them.
	toldInAnHour = 2.5
	// lostAfter is when a subscription counts as lost: twice the time between heartbeats.
	lostAfter = 30 * time.Minute
	// nudgedAtOnce is how many a sweep takes.
	nudgedAtOnce = 800
	// sweeps is how often each sweep is made; the slowest counts.
	sweeps = 3
	// quietPart of the highest rate is posted while it is seen what a sweep does to the answers.
	quietPart = 0.25
)

// large measures what the number of users makes larger or slower.
func large(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	r, err := newReport(s)
	if err != nil {
		return r, err
	}
	s.arrangement = arrangement{
		configure: func(c *config.Config) { c.Limits.MaxUsers = int32(2 * s.users) }, //nolint:mnd // more than there are
		populate:  withJournal,
		// The disk is to hold the tables, and little else.
		database: map[string]string{"max_wal_size": "2GB", "wal_compression": "on"},
	}
	began := time.Now()
	x, err := setScene(ctx, s, progress)
	defer x.close()
	if err != nil {
		return r, err
	}
	b := &run{scene: x, settings: s, report: r, progress: progress}
	if err := b.reference(); err != nil {
		return r, err
	}
	r.add("fill", "until all was filled", time.Since(began).Seconds(), "s")
	memory, err := meter.Memory(os.Getpid())
	if err != nil {
		return r, err
	}
	r.add("fill", "memory of the load generator", float64(memory)/mebibyte, "MiB")
	for _, stage := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"database", b.tableSizes}, {"start", b.start}, {"heartbeats", b.heartbeats}, {"day", b.day},
		{"memory", func(context.Context) error { return b.addMemory("day", "memory", goalLargeMemory) }}, {"sweep", b.sweep},
	} {
		say(progress, "Stage %s", stage.name)
		if err := errors.Join(b.reference(), stage.run(ctx)); err != nil {
			return r, fmt.Errorf("stage %s: %w", stage.name, b.explain(err))
		}
	}
	return r, b.judge()
}

// withJournal is fill, with what was told in the last hour.
func withJournal(ctx context.Context, pool *pgxpool.Pool, ring *credential.Keyring, base string, size int) (*population, error) {
	p, err := fill(ctx, pool, ring, base, size, layout{})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	rows := int(toldInAnHour * float64(size))
	source := pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
		m, number := exchange.Mailbox(i%size+1), uint64(i/size+1)<<32 // numbers that no mail of the run has
		return []any{int64(m), int16(store.NewMail), journalItem(m.ItemID(number)), int64(m), []int64{int64(m)}, now, now}, nil
	})
	columns := []string{"user_id", "kind", "item", "generation", "done", "done_at", "created_at"}
	if _, err := pool.CopyFrom(ctx, pgx.Identifier{"pending"}, columns, source); err != nil {
		return nil, fmt.Errorf("filling the journal: %w", err)
	}
	_, err = pool.Exec(ctx, `VACUUM ANALYZE`)
	return p, err
}

// journalItem is what is left of an item id in a row of the journal that is done: 16 characters of its hash.
func journalItem(id string) string {
	const length = 16
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:length]
}

// tableSizes is what a user takes by table, indexes among it.
func (b *run) tableSizes(ctx context.Context) error {
	tables, err := b.scene.database.Tables(ctx, schemaName)
	if err != nil {
		return err
	}
	var total int64
	for _, t := range tables {
		if size := t.Heap + t.Indexes; size > 0 {
			total += size
			b.report.add("database", t.Name+", with indexes", float64(size)/float64(b.settings.users), "B a user")
		}
	}
	b.report.addGoal("database", "all tables, with indexes", float64(total)/float64(b.settings.users), "B a user", goalUserSize)
	return nil
}

// sweep looks for lost subscriptions as the runtime does, with its rights, and shows what becomes of the answers meanwhile.
func (b *run) sweep(ctx context.Context) error {
	replica, err := store.Open(ctx, b.scene.schema.URL, nil)
	if err != nil {
		return err
	}
	defer replica.Close()
	take := func() (time.Duration, error) {
		began := time.Now()
		_, err := replica.TakeSilent(ctx, began, lostAfter, nudgedAtOnce)
		return time.Since(began), err
	}
	look := func() (time.Duration, error) {
		began := time.Now()
		_, _, err := replica.Unheard(ctx, began)
		return time.Since(began), err
	}
	for _, c := range []struct{ name, arrange string }{
		{"nobody", ``},
		{"one of a hundred users", `UPDATE user_state SET last_callback = last_callback - interval '1 hour' WHERE user_id % 100 = 0`},
		{"everybody", `UPDATE user_state SET last_callback = last_callback - interval '1 hour' WHERE user_id % 100 <> 0`},
	} {
		if c.arrange != "" {
			if _, err := b.scene.pool.Exec(ctx, c.arrange); err != nil {
				return err
			}
		}
		if err := b.slowest("sweep, "+c.name+" is lost", take); err != nil {
			return err
		}
	}
	if err := b.slowest("look for subscriptions that were never heard of", look); err != nil {
		return err
	}
	return b.answersMeanwhile(ctx, take)
}

func (b *run) slowest(name string, do func() (time.Duration, error)) error {
	var slowest time.Duration
	for range sweeps {
		took, err := do()
		if err != nil {
			return err
		}
		slowest = max(slowest, took)
	}
	b.report.addGoal("sweep", name, milliseconds(slowest), "ms", goalSweep)
	return nil
}

// answersMeanwhile keeps up heartbeats, first without sweeps, then with one after the other, everybody being lost but those
// who are heard of.
func (b *run) answersMeanwhile(ctx context.Context, take func() (time.Duration, error)) error {
	rate := b.capacity * quietPart
	for _, c := range []struct {
		name     string
		sweeping bool
	}{{"without a sweep", false}, {"while one sweep follows the other", true}} {
		ending := make(chan struct{})
		var sweeping sync.WaitGroup
		var failure error
		done := 0
		if c.sweeping {
			sweeping.Go(func() {
				for {
					select {
					case <-ending:
						return
					default:
					}
					if _, failure = take(); failure != nil {
						return
					}
					done++
				}
			})
		}
		d := newDriver(b.scene)
		err := d.keep(ctx, rate, b.settings.stage, day)
		close(ending)
		sweeping.Wait()
		if err := errors.Join(err, failure); err != nil {
			return err
		}
		if c.sweeping {
			b.report.add("sweep", "sweeps meanwhile", float64(done), "")
		}
		for _, p := range []float64{50, 99, 99.9} {
			b.report.add("sweep", fmt.Sprintf("answer %s, p%v", c.name, p), milliseconds(d.answered.Percentile(p)), "ms")
		}
	}
	return b.settle(ctx)
}

// heartbeatsADay is how many a user gets in a day, one each half hour.
const heartbeatsADay = 48

// The goals of a day's heartbeats.
const (
	goalHOT    = 0.95 // at least
	goalGrowth = 1.2  // of the tables that are written, at most
)

// aging posts a day's heartbeats of everybody as fast as possible, which leaves autovacuum minutes for what it has a day for.
func aging(ctx context.Context, s settings, progress io.Writer) (*report, error) {
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
	if err := errors.Join(b.reference(), x.start(ctx)); err != nil {
		return r, err
	}
	if err := b.age(ctx); err != nil {
		return r, b.explain(err)
	}
	return r, b.judge()
}

func (b *run) age(ctx context.Context) error {
	before, err := b.scene.database.Tables(ctx, schemaName)
	if err != nil {
		return err
	}
	posts := b.settings.users * heartbeatsADay
	say(b.progress, "%d heartbeats", posts)
	_, took, err := b.measured(ctx, "day", goals{}, func(d *driver) error {
		return d.workers(b.settings.inFlight, func(c *exchange.Connection, _ *rand.Rand) error {
			for d.posted.Load() < int64(posts) {
				if err := errors.Join(ctx.Err(), heartbeat(ctx, d, c, time.Now())); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	b.report.add("day", "heartbeats a user", heartbeatsADay, "")
	b.report.add("day", "took", took.Seconds(), "s")
	after, err := b.counted(ctx, before)
	if err != nil {
		return err
	}
	for i, t := range after {
		updates, hot := t.Updates-before[i].Updates, t.HotUpdates-before[i].HotUpdates
		if updates < int64(b.settings.users) { // not a hot table
			continue
		}
		r := b.report
		r.add("day", t.Name+": updates", float64(updates), "")
		r.Figures = append(r.Figures, figure{
			Stage: "day", Name: t.Name + ": of these in place (HOT)", Value: float64(hot) / float64(updates), Goal: goalHOT, AtLeast: true,
		})
		r.addGoal("day", t.Name+": growth of the table", float64(t.Heap)/float64(before[i].Heap), "", goalGrowth)
		r.addGoal("day", t.Name+": growth of its indexes", float64(t.Indexes)/float64(before[i].Indexes), "", goalGrowth)
		r.add("day", t.Name+": size", float64(t.Heap+t.Indexes)/mebibyte, "MiB")
		r.add("day", t.Name+": autovacuums", float64(t.Vacuums-before[i].Vacuums), "")
	}
	return nil
}

// countedWithin is how long Postgres' sessions may keep what they have counted to themselves: ten seconds, once they are idle.
const countedWithin = 12 * time.Second

// counted returns the tables once Postgres has counted that everybody's state was updated.
func (b *run) counted(ctx context.Context, before []meter.Table) ([]meter.Table, error) {
	for began := time.Now(); ; {
		after, err := b.scene.database.Tables(ctx, schemaName)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(after, func(t meter.Table) bool { return t.Name == "user_state" })
		if after[at].Updates-before[at].Updates >= int64(b.settings.users) || time.Since(began) > countedWithin {
			return after, nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
