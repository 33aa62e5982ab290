// Package standing is what a replica knows of its push providers: whether notifications are accepted, since when, and what
// was last said against it. It holds no credential, no token and nothing of a notification. The operator reads what the
// runtime writes.
package standing

import (
	"sync"
	"time"
)

// State is how a push provider fares.
type State string

// The states.
const (
	// Untried: nothing has been pushed yet that would tell.
	Untried State = "untried"
	// Delivering: notifications are accepted.
	Delivering State = "delivering"
	// Failing: the service is out of order, answers nothing, or has asked to wait.
	Failing State = "failing"
	// Refused: every push is refused until an administrator acts (push.Error.Lasting), as with a withdrawn key.
	Refused State = "refused"
)

// settles is how long nothing may have gone wrong before it counts that notifications are accepted again: where one of two
// apps is refused and the other not, the state would else change with every push.
const settles = time.Minute

// Report is a provider's state at one replica. Times are the replica's.
type Report struct {
	// Name is the provider's name in the configuration.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Since is when the state began, At when it was last seen; zero if untried.
	Since time.Time `json:"since,omitzero"`
	At    time.Time `json:"at,omitzero"`
	// Reason is the service's own code for what was wrong last, such as InvalidProviderToken; empty if all is well, or
	// nothing was said.
	Reason string `json:"reason,omitempty"`
}

// Record gathers what becomes of pushes. The zero value is of a provider that has not been tried. It is safe for concurrent
// use.
type Record struct {
	mu sync.Mutex
	// good and bad are when a push was last accepted, and when something was last wrong; goodSince and badSince when the
	// present row of such began.
	good, goodSince, bad, badSince time.Time
	// state and reason are those of the last that was wrong.
	state  State
	reason string
}

// Accepted notes that the service has taken a notification.
func (r *Record) Accepted(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.good.After(r.bad) {
		r.goodSince = now
	}
	r.good = now
}

// Wrong notes that the service is Failing or has Refused.
func (r *Record) Wrong(now time.Time, state State, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good.After(r.bad) || r.state != state {
		r.badSince = now
	}
	r.bad, r.state, r.reason = now, state, reason
}

// Report tells of the provider of that name.
func (r *Record) Report(name string, now time.Time) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.bad.IsZero() && (!r.good.After(r.bad) || now.Sub(r.bad) < settles):
		return Report{Name: name, State: r.state, Since: r.badSince, At: r.bad, Reason: r.reason}
	case !r.good.IsZero():
		return Report{Name: name, State: Delivering, Since: r.goodSince, At: r.good}
	}
	return Report{Name: name, State: Untried}
}

// fresh is how much older a replica's word may be than another's and still count: one that cannot reach the service goes on
// trying, and one that has not pushed for long knows nothing of today.
const fresh = 10 * time.Minute

// Sum is the state of a provider at several replicas: the worst of what they have seen lately, and Untried only if none of
// them has seen anything.
func Sum(name string, reports []Report) Report {
	var newest time.Time
	for _, r := range reports {
		if r.Name == name && r.At.After(newest) {
			newest = r.At
		}
	}
	sum := Report{Name: name, State: Untried}
	for _, r := range reports {
		if r.Name != name || newest.Sub(r.At) > fresh || badness(r.State) < badness(sum.State) {
			continue
		}
		if badness(r.State) > badness(sum.State) || r.Since.Before(sum.Since) {
			sum = r
		}
	}
	return sum
}

// badness orders states; one that is not known says nothing.
func badness(s State) int {
	switch s {
	case Refused:
		return 3
	case Failing:
		return 2
	case Delivering:
		return 1
	default:
		return 0
	}
}
