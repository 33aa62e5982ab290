// Package idle gives memory back while there is nothing to do. A runtime that collects its garbage seldom (see cmd/runtime) keeps
// several times what it needs, and what a busy hour or the making of keys took stays with it through the night.
package idle

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/utils/clock"
)

const (
	// look is how often it is looked how much has been done.
	look = time.Minute
	// little is what an idle runtime allocates in that time at most: probes and scrapes take a few MiB, and a collection of the
	// garbage comes with the sixteenth.
	little = 16 << 20
)

// ReturnMemory returns what is not in use to the operating system, once each time that the process has become idle, until
// ctx ends.
func ReturnMemory(ctx context.Context, c clock.WithTickerAndDelayedExecution) {
	ticker := c.NewTicker(look)
	defer ticker.Stop()
	before, busy := allocated(), true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		now := allocated()
		was := busy
		busy = now-before > little
		before = now
		if was && !busy {
			debug.FreeOSMemory()
		}
	}
}

// allocated is how many bytes have been allocated since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
