package callback

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// What becomes of a credential that Exchange answers 401 (protocol.md, Callback semantics): it is left alone for five
// minutes, tried once more, and then counts as refused. A refused one is not used any more, since every try brings the
// account closer to being locked; the phones are asked to register again. If everybody is refused, it is the server.

// errRefused says that the credential is not to be used.
var errRefused = errors.New("the credential is not used: Exchange has refused it")

// standing is how the work's credential stands.
type standing struct {
	used store.Used
	// unauthorizedAt and refusedAt are as of store.Subscription.
	unauthorizedAt, refusedAt time.Time
	// judged says that Exchange has been asked since, by this work or by earlier work of the same user.
	judged bool
}

// learn takes over what earlier work of the same user found out about the same credential, after this was looked up.
func (s *standing) learn(earlier standing) {
	if !earlier.judged || earlier.used != s.used {
		return
	}
	s.judged = true // for the work after this, which may have been looked up as early
	s.unauthorizedAt = earlier.unauthorizedAt
	if s.refusedAt.IsZero() {
		s.refusedAt = earlier.refusedAt
	}
}

// refused reports whether the credential is marked, so that the phones have been asked to register again.
func (s standing) refused() bool { return !s.refusedAt.IsZero() }

// usable reports whether the credential may be used now: it is neither marked nor left alone after a first 401.
func (s standing) usable(now time.Time) bool {
	return !s.refused() && (s.unauthorizedAt.IsZero() || now.Sub(s.unauthorizedAt) >= store.RefusalGap)
}

// authorized takes note that Exchange took the credential.
func (d *delivery) authorized(ctx context.Context) {
	w := d.work
	w.standing.judged = true
	d.processor.endpoints.note(w.endpoint, w.userID, false)
	if w.standing.unauthorizedAt.IsZero() {
		return
	}
	w.standing.unauthorizedAt = time.Time{}
	if err := d.processor.store.NoteAuthorized(ctx, w.standing.used); err != nil {
		d.processor.log.WarnContext(ctx, "That a credential works again could not be recorded", "error", err)
	}
}

// unauthorized takes note that Exchange did not take the credential. certain says that the credential itself has ended:
// that is nobody else's fault, however many end at once, as tokens do within the hour.
func (d *delivery) unauthorized(ctx context.Context, certain bool) {
	w, p := d.work, d.processor
	w.standing.judged = true
	now := p.clock.Now()
	if !certain && p.endpoints.note(w.endpoint, w.userID, true) {
		p.log.WarnContext(ctx, "More than a tenth of an endpoint's users are refused: the endpoint is at fault, not they", "endpoint", w.endpoint)
		// Some of them may have a wrong password all the same, and each try brings their accounts closer to being locked.
		w.standing.unauthorizedAt = now
		if err := p.store.LeaveAlone(ctx, w.standing.used, now); err != nil {
			p.log.WarnContext(ctx, "That a credential is left alone could not be recorded", "error", err)
		}
		return
	}
	if w.standing.unauthorizedAt.IsZero() {
		w.standing.unauthorizedAt = now
	}
	refused, err := p.store.NoteUnauthorized(ctx, w.standing.used, certain, now)
	if err != nil {
		p.log.WarnContext(ctx, "A refused credential could not be recorded", "error", err)
		return
	}
	if refused {
		p.steps.Reached(step.CredentialRefused)
		w.standing.refusedAt = now
		w.nudge = true
		p.metrics.refused.Inc()
		p.log.WarnContext(ctx, "A credential counts as refused; the user's devices are asked to register again")
		p.note(ctx, w, store.ActivityCredential, "")
	}
}

// certainly reports whether Exchange said that the credential itself has ended.
func certainly(err error) bool {
	return errors.Is(err, ews.ErrAccountUnusable) || errors.Is(err, ews.ErrTokenExpired)
}

const (
	// faultWindow is the time over which refusals are compared (protocol.md, Callback semantics).
	faultWindow = time.Minute
	// faultyPart is the part of an endpoint's users that must be refused for the endpoint to be at fault.
	faultyPart = 10
	// faultyUsers is how many users it takes at least: one user with a wrong password may be the only one who gets mail.
	faultyUsers = 3
	// pruneInterval is how often the users of more than a window ago are looked for.
	pruneInterval = time.Second
)

// endpointFaults tells users who are refused from a server that refuses everybody. It looks at those who were asked for
// within the last minute, on this replica.
type endpointFaults struct {
	clock clock.PassiveClock

	mu        sync.Mutex
	endpoints map[string]*faults
}

// faults are an endpoint's users by when they were last asked for, and refused.
type faults struct {
	asked, refused map[int64]time.Time
	pruned         time.Time
	// atFault lasts until the server takes somebody's credential again: whoever is asked for first after a quiet minute
	// must not pay for all.
	atFault bool
}

func newEndpointFaults(c clock.PassiveClock) *endpointFaults {
	return &endpointFaults{clock: c, endpoints: map[string]*faults{}}
}

// note takes note of an answer to a user's credential and reports whether the endpoint is at fault.
func (e *endpointFaults) note(endpoint string, userID int64, refused bool) (atFault bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.Now()
	f := e.endpoints[endpoint]
	if f == nil {
		f = &faults{asked: map[int64]time.Time{}, refused: map[int64]time.Time{}, pruned: now}
		e.endpoints[endpoint] = f
	}
	f.asked[userID] = now
	if refused {
		f.refused[userID] = now
	} else {
		delete(f.refused, userID)
	}
	if now.Sub(f.pruned) >= pruneInterval {
		prune(f.refused, now)
		prune(f.asked, now)
		f.pruned = now
	}
	many := len(f.refused) >= faultyUsers && len(f.refused)*faultyPart > len(f.asked)
	f.atFault = many || refused && f.atFault
	return f.atFault
}

// prune forgets the users of more than a window ago.
func prune(users map[int64]time.Time, now time.Time) {
	for id, at := range users {
		if now.Sub(at) > faultWindow {
			delete(users, id)
		}
	}
}
