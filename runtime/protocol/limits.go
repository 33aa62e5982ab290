package protocol

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/turns"
)

const (
	// undecryptablePerMinute is protocol.md's rule 3: failed decryptions of one user.
	undecryptablePerMinute = 5
	// A user idle for a generation's length has its full allowance back, so that forgetting it changes nothing.
	generationLength = time.Minute
	// overLimit is when a caller over a limit of the tenant is to come again at the earliest, and returning the part of what
	// the limit allows that is left to those who do: others come for the first time, and a registration is two calls.
	overLimit = time.Second
	returning = 0.5
	// The number of users is a soft limit; counting them is not free.
	userCountAge = 5 * time.Second
)

// limits keeps the rates of this replica: of the tenant as a whole, and of each user. Client addresses do not count: a
// whole company behind one address is normal.
type limits struct {
	clock clock.PassiveClock

	// allTurns and newUserTurns say when those who are over the limit are to come again.
	allTurns, newUserTurns turns.Turns

	mu            sync.Mutex
	all, newUsers *rate.Limiter
	// users are those seen in this generation, idle those of the one before: what is kept is bound by the tenant's rate.
	users, idle map[[sha256.Size]byte]*userLimits
	began       time.Time
}

type userLimits struct {
	calls, undecryptable *rate.Limiter
	// decrypting counts the tries that are under way.
	decrypting int
}

func newLimits(c clock.PassiveClock) *limits {
	return &limits{clock: c, users: map[[sha256.Size]byte]*userLimits{}, began: c.Now()}
}

// tenant takes one call of the tenant's allowance. It returns how long to wait, 0 if the call may go on.
func (l *limits) tenant(c config.Limits) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take(&l.all, rate.Limit(c.RequestsPerSecond), int(c.RequestsPerSecond)) == 0 {
		return 0
	}
	return l.allTurns.After(l.clock.Now(), overLimit, float64(c.RequestsPerSecond)*returning)
}

// newUser takes one record that is to be made.
func (l *limits) newUser(c config.Limits) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take(&l.newUsers, perMinute(c.NewUsersPerMinute), int(c.NewUsersPerMinute)) == 0 {
		return 0
	}
	return l.newUserTurns.After(l.clock.Now(), overLimit, float64(perMinute(c.NewUsersPerMinute))*returning)
}

// user takes one call of a user's allowance.
func (l *limits) user(hash [sha256.Size]byte, c config.Limits) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(&l.of(hash).calls, perMinute(c.UserRequestsPerMinute), int(c.UserRequestsPerMinute))
}

// decrypting takes up one try at a user's payload. ok is false if failed decryptions leave no room for it, those under way
// counted in. done ends the try, once; it reports whether it was the last failure that is allowed for now.
func (l *limits) decrypting(hash [sha256.Size]byte) (done func(failed bool) (last bool), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(hash)
	if u.undecryptable == nil {
		u.undecryptable = rate.NewLimiter(perMinute(undecryptablePerMinute), undecryptablePerMinute)
	}
	if u.undecryptable.TokensAt(l.clock.Now()) < float64(u.decrypting+1) {
		return nil, false
	}
	u.decrypting++
	ended := false
	return func(failed bool) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if ended {
			return false
		}
		ended = true
		u.decrypting--
		now := l.clock.Now()
		return failed && u.undecryptable.AllowN(now, 1) && u.undecryptable.TokensAt(now) < 1
	}, true
}

func perMinute(n int32) rate.Limit { return rate.Limit(float64(n) / time.Minute.Seconds()) }

// take takes one from a limiter that is made, and changed, to the configured rate when it is needed.
func (l *limits) take(limiter **rate.Limiter, limit rate.Limit, burst int) time.Duration {
	now := l.clock.Now()
	if *limiter == nil {
		*limiter = rate.NewLimiter(limit, burst)
	}
	if (*limiter).Limit() != limit {
		(*limiter).SetLimitAt(now, limit)
		(*limiter).SetBurstAt(now, burst)
	}
	if (*limiter).AllowN(now, 1) {
		return 0
	}
	return max(time.Second, time.Duration(float64(time.Second)/float64(limit)))
}

// of finds a user's limiters.
func (l *limits) of(hash [sha256.Size]byte) *userLimits {
	if now := l.clock.Now(); now.Sub(l.began) > generationLength {
		l.idle, l.users, l.began = l.users, map[[sha256.Size]byte]*userLimits{}, now
	}
	u := l.users[hash]
	if u == nil {
		if u = l.idle[hash]; u == nil {
			u = &userLimits{}
		}
		l.users[hash] = u
	}
	return u
}

// userCount remembers the number of users for a while.
type userCount struct {
	count func(context.Context) (int, error)

	mu   sync.Mutex
	last int
	at   time.Time
}

func (c *userCount) get(ctx context.Context, now time.Time) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && now.Sub(c.at) < userCountAge {
		return c.last, nil
	}
	count, err := c.count(ctx)
	if err != nil {
		return 0, err
	}
	c.last, c.at = count, now
	return count, nil
}

// created takes note of a user that this replica has made.
func (c *userCount) created() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
}
