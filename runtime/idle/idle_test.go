package idle_test

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/idle"
)

const (
	// rush is what a busy minute leaves behind, trickle what an idle one does.
	rush, trickle = 128 << 20, 4 << 20
	// small is more than the test itself holds.
	small = 32 << 20
)

// held is how much memory the heap has from the operating system, but for what its collector needs.
func held() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	var sum uint64
	for _, sample := range samples {
		sum += sample.Value.Uint64()
	}
	return sum
}

// piece keeps the compiler from finding out that nobody needs one.
var piece []byte

func litter(size int) {
	for range size >> 20 {
		piece = make([]byte, 1<<20)
	}
	piece = nil
}

// It is about the whole process, and so nothing else is tested meanwhile.
func TestMemoryIsReturnedOnceWhenAProcessHasBecomeIdle(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nobody else collects
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go idle.ReturnMemory(ctx, clock.RealClock{})
		minute := func(garbage int) {
			synctest.Wait()
			litter(garbage)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		for range 2 {
			minute(rush)
			if got := held(); got < rush {
				t.Errorf("%d MiB are held after a busy minute: it was collected at once", got>>20)
			}
			minute(trickle)
			rest := held()
			if rest > small {
				t.Errorf("%d MiB are held after a minute of idleness", rest>>20)
			}
			minute(trickle)
			if got := held(); got < rest+trickle/2 {
				t.Errorf("%d MiB are held after another minute, %d before: it is collected each minute", got>>20, rest>>20)
			}
		}
	})
}
