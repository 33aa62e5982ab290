package outbound

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause is the mean wait before the second attempt; it doubles for each further one.
const pause = 200 * time.Millisecond

// WaitToRetry waits after so many attempts, from 1, before the next one, at least for as long as the server asked. It
// reports false if the push would not have the time.
func WaitToRetry(ctx context.Context, made int, asked time.Duration) bool {
	mean := pause << (made - 1)
	// Half to one and a half of the mean, so that pushes that failed together do not come back together.
	wait := max(mean/2+rand.N(mean), asked)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
