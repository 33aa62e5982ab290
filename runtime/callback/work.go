package callback

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// work is what one callback, or one registration, brought: a credential, and what it is for.
type work struct {
	tenant             *tenant.Tenant
	userID, generation int64
	// user is the hash of the address, in lower-case hex.
	user string
	// mailboxID is empty if the first registration is not finished yet.
	mailboxID []byte
	endpoint  string
	// credential is empty if the work needs none.
	credential credential.Credential
	standing   standing
	// newer is a credential that came with an update and what became of it, nil if there was none.
	newer  *newerCredential
	claims []store.Claim
	// lapsing are claims whose lease ends too long before deadline. They go back to the journal, to be taken up anew.
	lapsing []store.Claim
	// changed says that something happened in the mailbox, unread is the count after it, nil if it is not known.
	changed bool
	unread  *int
	// heard is when Exchange posted it, zero if it did not.
	heard time.Time
	// owed says that the journal has more for this user.
	owed bool
	// lost says that Exchange says that the subscription is gone.
	lost bool
	// caughtUp are the items among the claims that came while nobody told us.
	caughtUp map[string]bool
	// outdated says that it came from a subscription that is not the current one any more, with that one's credential.
	outdated bool
	// nudge asks the user's devices to register again.
	nudge bool
	// noted says that the user's timeline has it already that mail could not be fetched.
	noted bool
	// activity is the id of the callback or the call that brought it.
	activity string
	// span is what brought it, and once it is worked on, that work. links are the spans of what was merged into it.
	span  trace.Span
	links []trace.Link
	// place is nil until the work begins.
	place *place
	// deadline is when the credential is wiped and the claims go back at the latest.
	deadline time.Time
}

// due says that there is something to do. A heartbeat of a user who is owed nothing needs no worker, and its credential none
// of the time that waiting for one takes; if the user is being worked on, it still brings a later credential.
func (w *work) due() bool {
	return len(w.claims) > 0 || len(w.lapsing) > 0 || w.owed || w.lost || w.nudge || w.newer != nil
}

// context is ctx with the work's id, user and span.
func (w *work) context(ctx context.Context) context.Context {
	ctx = requestid.With(ctx, w.activity)
	requestid.Identify(ctx, w.user)
	return trace.ContextWithSpan(ctx, w.span)
}

// maxLinks bounds the spans that a work is linked to.
const maxLinks = 32

// link has a work's span linked to another work's.
func (w *work) link(other *work) {
	if other.span.SpanContext().IsSampled() && len(w.links) < maxLinks {
		w.links = append(w.links, trace.Link{SpanContext: other.span.SpanContext()})
	}
}

// maxCut is how much of its time a work may lose to claims that waited for it, whose lease ends earlier.
const maxCut = 10 * time.Second

// merge adds what a later callback of the same user brought, and goes on with the later credential.
func (w *work) merge(later *work) {
	if later.endpoint == "" || later.generation < w.generation { // it brought no credential, or an outdated one
		if w.endpoint == "" && len(w.claims) == 0 { // nothing that must be at an end before
			w.deadline = later.deadline
		}
		w.link(later)
		later.credential.Wipe()
		w.claims, w.nudge = append(w.claims, later.claims...), w.nudge || later.nudge
		return
	}
	w.credential.Wipe()
	if later.deadline.Sub(w.deadline) > maxCut {
		w.lapsing, w.claims = append(w.lapsing, w.claims...), nil
	}
	deadline := later.deadline
	if len(w.claims) > 0 && w.deadline.Before(deadline) {
		deadline = w.deadline
	}
	claims, lapsing := append(w.claims, later.claims...), w.lapsing
	changed, unread := later.changed, later.unread
	if !changed { // nothing has made the earlier count old
		changed, unread = w.changed, w.unread
	}
	// A newer generation has taken the place of one that is lost.
	lost := later.lost || w.lost && w.generation == later.generation
	owed, nudge := w.owed || later.owed, w.nudge || later.nudge
	heard := later.heard
	if heard.IsZero() {
		heard = w.heard
	}
	earlier := *w
	*w = *later
	w.links = earlier.links
	w.link(&earlier)
	w.claims, w.lapsing, w.changed, w.unread = claims, lapsing, changed, unread
	w.owed, w.lost, w.nudge, w.deadline, w.heard = owed, lost, nudge, deadline, heard
}
