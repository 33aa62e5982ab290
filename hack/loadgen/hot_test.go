package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
)

const (
	// hotUsers are enough that nobody has two events at once.
	hotUsers = 100
	// hotWarmUp is how many events of a kind come before anything counts, so that connections are open and plans are made.
	hotWarmUp = 200
)

// BenchmarkHotPost is a post of Exchange until its consequences have been seen: the answer to a heartbeat, for a mail that came
// or was read elsewhere the acceptance by Apple. Allocations and bytes are those of the program that is measured, not of this
// process, with all that runs in it meanwhile. make bench-hot holds the former.
func BenchmarkHotPost(b *testing.B) {
	// What a commit waits for the disk differs most from machine to machine.
	s := settings{users: hotUsers, arrangement: arrangement{database: map[string]string{"fsync": "off"}}}
	x, err := setScene(b.Context(), s, b.Output())
	b.Cleanup(x.close)
	if err != nil {
		b.Fatal(err)
	}
	if err := x.start(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, kind := range []struct {
		name string
		event
		// inFlight is how many are under way at once. What the runtime does by the clock counts the more the longer an event
		// takes, some six allocations for each millisecond, and how many events share a statement differs from run to run: the
		// quick ones come one after the other, the others with many at once.
		inFlight int
	}{{"heartbeat", heartbeat, 1}, {"mail", newMail, 8}, {"read elsewhere", read, 8}} {
		b.Run(kind.name, func(b *testing.B) {
			d := newDriver(x)
			if err := d.repeat(b.Context(), hotWarmUp, kind.inFlight, kind.event); err != nil {
				b.Fatal(err)
			}
			before := x.allocated(b)
			b.ReportAllocs()
			b.ResetTimer()
			if err := d.repeat(b.Context(), b.N, kind.inFlight, kind.event); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			for unit, after := range x.allocated(b) {
				b.ReportMetric((after-before[unit])/float64(b.N), unit)
			}
		})
	}
	if a := x.ledger.account(); a.untold+a.twice+a.unknown > 0 {
		b.Errorf("%d notifications lost, %d shown twice, %d about no mail", a.untold, a.twice, a.unknown)
	}
}

// repeat has an event happen so many times.
func (d *driver) repeat(ctx context.Context, times, inFlight int, e event) error {
	var begun atomic.Int64
	return d.workers(inFlight, func(c *exchange.Connection, _ *rand.Rand) error {
		for begun.Add(1) <= int64(times) {
			if err := e(ctx, d, c, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// allocated is what the program has allocated so far, by the unit of a benchmark.
func (x *scene) allocated(b *testing.B) map[string]float64 {
	b.Helper()
	values := map[string]float64{}
	for unit, name := range map[string]string{"allocs/op": "go_memstats_mallocs_total", "B/op": "go_memstats_alloc_bytes_total"} {
		value, err := x.counter(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		values[unit] = value
	}
	return values
}
