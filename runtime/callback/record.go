package callback

import (
	"context"
	"sync"

	"github.com/ens-operator/ens-operator/runtime/store"
)

// record is what is on record of what a user's devices were told. It is one for a round and for what it leaves to be told in the
// background: they tell the same count, and do not overtake one another.
type record struct {
	mu sync.Mutex
	// revision is that by which it was decided what to tell, see store.Told, and what has been recorded since.
	revision int
}

// put puts on record what came of the work.
func (p *Processor) put(ctx context.Context, r result, completions []store.Completion) (overtaken bool, err error) {
	if r.told == nil {
		return p.store.Finish(ctx, store.Ending{Completions: completions})
	}
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	r.told.Revision = r.record.revision
	overtaken, err = p.store.Finish(ctx, store.Ending{Told: r.told, Completions: completions})
	if err == nil && !overtaken {
		r.record.revision++
	}
	return overtaken, err
}
