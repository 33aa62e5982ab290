package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
	"github.com/ens-operator/ens-operator/runtime/tracing"
)

const (
	// credentialLife is how long a credential may be held in memory for one work (protocol.md, rule 5: below two
	// minutes).
	credentialLife = 100 * time.Second
	// leaseMargin is the part of a lease that is left for completing its row.
	leaseMargin = 10
	// noteTimeout bounds an entry of the timeline, which runs likewise, and may hold up nothing.
	noteTimeout = 2 * time.Second
)

// Processor works on what the phones are owed: one work at a time for each user, so that a mailbox sees few calls at
// once, and a bounded number of users of each endpoint at a time.
type Processor struct {
	store   *store.Store
	clock   clock.WithTickerAndDelayedExecution
	log     *slog.Logger
	metrics *Metrics
	owner   store.Owner
	steps   step.Hook
	signs   *signs
	// endpoints tells users who are refused from servers that refuse everybody.
	endpoints *endpointFaults
	backOffs  *backOffs

	mu      sync.Mutex
	users   map[int64]*work // what comes next for a user who is being worked on; nil if nothing
	lanes   *lanes
	closing context.Context //nolint:containedctx // ends when the process has no more time for work under way
	stop    context.CancelFunc
	running sync.WaitGroup
	closed  bool
}

// errClosed says that the process has no more time for new work.
var errClosed = errors.New("the process is ending")

// NewProcessor makes a Processor with the given number of workers for each endpoint.
func NewProcessor(o Options, workers int) *Processor {
	closing, stop := context.WithCancel(context.Background())
	return &Processor{
		store: o.Store, clock: o.Clock, log: o.Logger, metrics: o.Metrics, owner: o.Owner, steps: o.Steps, signs: newSigns(o),
		endpoints: newEndpointFaults(o.Clock), backOffs: newBackOffs(o.Clock), users: map[int64]*work{}, lanes: newLanes(closing, o.Clock, workers), closing: closing, stop: stop,
	}
}

// Drain takes up what a user is owed after a registration. It implements registration.Drainer.
func (p *Processor) Drain(ctx context.Context, t *tenant.Tenant, r registration.Registered) {
	defer p.steps.Reached(step.Drained)
	p.submit(&work{
		tenant: t, userID: r.UserID, generation: r.Generation, user: hex.EncodeToString(r.UserHash[:]), mailboxID: r.MailboxID,
		endpoint: r.Endpoint, credential: r.Credential, owed: true, activity: requestid.From(ctx), span: trace.SpanFromContext(ctx),
		standing: standing{used: store.Used{UserID: r.UserID, Generation: r.Generation, Sequence: r.Sequence}},
	})
}

// Nudge asks a user's devices to register again, by a silent push that the journal keeps until it has been sent. It
// implements protocol.Nudger.
func (p *Processor) Nudge(ctx context.Context, t *tenant.Tenant, userID, generation int64, userHash [sha256.Size]byte) {
	if requestid.From(ctx) == "" { // no call led to it
		ctx = requestid.New(ctx)
	}
	p.submit(&work{
		tenant: t, userID: userID, generation: generation, user: hex.EncodeToString(userHash[:]), nudge: true, activity: requestid.From(ctx),
		span: trace.SpanFromContext(ctx),
	})
}

// Close lets work under way finish until ctx ends, then ends it. What is not done stays owed.
func (p *Processor) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		p.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		p.stop()
		<-done
	}
	p.stop()
}

// reserve keeps room for a user's work until release is called, which is after it was submitted. It reports false if there is
// none: the work would be left to the journal.
func (p *Processor) reserve(userID int64, endpoint string) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.users[userID]; busy {
		return func() {}, true
	}
	lane := p.lanes.of(endpoint)
	if lane.full() {
		return nil, false
	}
	lane.reserved++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		lane.reserved--
	}, true
}

// submit queues work. It never blocks: Exchange is waiting for its answer.
func (p *Processor) submit(w *work) {
	// The claims must be at an end before their lease is, or another replica tells the same once more.
	lease := w.tenant.Config.Callback.Lease()
	w.deadline = p.clock.Now().Add(min(credentialLife, lease-lease/leaseMargin))
	if joined := p.enqueue(w); joined != "" && p.log.Enabled(p.closing, slog.LevelDebug) {
		p.log.DebugContext(w.context(p.closing), "This is done together with what waits for the same user", "joined", joined)
	}
}

// enqueue is submit; it returns the activity that the work was merged with, empty if with none.
func (p *Processor) enqueue(w *work) (joined string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, busy := p.users[w.userID]
	lane := p.lanes.of(w.endpoint)
	switch {
	case p.closed:
		w.credential.Wipe() // the claims are taken up when their lease ends
		p.metrics.release(outcomes(w.claims, returned), errClosed)
	case !busy && !w.due(): // a heartbeat, most often
		w.credential.Wipe()
	case !busy && lane.crowded():
		p.running.Go(func() { p.giveBack(w) })
	case busy && next != nil:
		joined = next.activity
		next.merge(w)
	case busy:
		p.users[w.userID] = w
	default:
		p.users[w.userID] = nil
		lane.users++
		p.running.Go(func() { p.serve(w, lane) })
	}
	return joined
}

// busy says that a user is being worked on.
func (p *Processor) busy(userID int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, busy := p.users[userID]
	return busy
}

// serve works for one user, who counts in a lane, until nothing more has come.
func (p *Processor) serve(w *work, counted *lane) {
	for w != nil {
		w.place = &place{lanes: p.lanes, endpoint: w.endpoint, deadline: w.deadline}
		if w.place.take() {
			p.process(w)
			w.place.leave()
		} else {
			p.giveBack(w)
		}
		p.mu.Lock()
		next := p.users[w.userID]
		if next == nil {
			delete(p.users, w.userID)
			counted.users--
		} else {
			next.standing.learn(w.standing)
			p.users[w.userID] = nil
		}
		p.mu.Unlock()
		w = next
	}
}

// giveBack leaves work to the user's next callback.
func (p *Processor) giveBack(w *work) {
	w.credential.Wipe()
	p.complete(w, outcomes(append(w.claims, w.lapsing...), returned))
}

// process does one work. Whatever happens, the credential is wiped and the claims end.
func (p *Processor) process(w *work) {
	defer w.credential.Wipe()
	growStack()
	p.steps.Reached(step.WorkBegun)
	ctx, span := tracing.Start(w.context(p.closing), "work")
	defer span.End()
	for _, link := range w.links {
		span.AddLink(link)
	}
	w.span = span
	ctx, cancel := context.WithTimeout(ctx, w.deadline.Sub(p.clock.Now()))
	defer cancel()
	if w.lost {
		if _, err := p.store.Lost(ctx, w.userID, w.generation); err != nil {
			p.log.WarnContext(ctx, "A lost subscription could not be ended; the missing heartbeats will tell", "error", err)
		}
	}
	p.settle(ctx, w)
	p.complete(w, outcomes(w.lapsing, returned))
	if w.owed || len(w.lapsing) > 0 {
		p.takeOwed(ctx, w)
	}
	for tries := 1; len(w.claims) > 0; tries++ {
		if slices.ContainsFunc(w.claims, store.Claim.Interrupted) && !p.doubt(ctx, w) {
			p.complete(w, outcomes(w.claims, returned))
			break
		}
		if overtaken := p.finish(w, p.rounds(ctx, w)); !overtaken || tries == maxOvertaken {
			break
		}
		w.claims, w.unread = nil, nil
		p.takeOwed(ctx, w)
	}
	if w.nudge {
		p.askToRegister(ctx, w)
	}
}

// maxOvertaken is how often a work may find that another replica has told the same user meanwhile, and look again. What is owed
// after that is for the next callback.
const maxOvertaken = 4

// takeOwed adds what the user is owed and nobody is at.
func (p *Processor) takeOwed(ctx context.Context, w *work) {
	now := p.clock.Now()
	owed, err := p.store.TakeOwed(ctx, w.userID, p.owner, now, now.Add(w.tenant.Config.Callback.Lease()))
	if err != nil {
		p.log.WarnContext(ctx, "What a user is owed could not be taken up", "error", err)
	}
	p.metrics.claim(owed, fromJournal)
	w.claims = append(w.claims, owed...)
	p.steps.Reached(step.OwedTaken)
}

// doubt is for claims that somebody had before and did not end. They may have told the phones a count and not have put it
// on record, so all phones are told again, by way of the journal. It returns false if that could not be brought about: then
// the claims have to wait, since it is their mark that says so.
func (p *Processor) doubt(ctx context.Context, w *work) bool {
	err := p.store.ForgetTold(ctx, w.userID)
	if err == nil && !slices.ContainsFunc(w.claims, func(c store.Claim) bool { return c.Kind == store.Badge }) {
		err = p.claim(ctx, w, store.Badge, fromDoubt)
	}
	if err != nil {
		p.log.WarnContext(ctx, "What was interrupted cannot be taken up, and goes back to the journal", "error", err)
	}
	return err == nil
}

// claim writes to the journal what a user is owed, and adds it to the work.
func (p *Processor) claim(ctx context.Context, w *work, kind store.EntryKind, from source) error {
	now := p.clock.Now()
	claims, err := p.store.Write(ctx, []store.Entry{{
		Key: store.Key{UserID: w.userID, Kind: kind}, Generation: w.generation, Owner: p.owner,
		Now: now, LeaseUntil: now.Add(w.tenant.Config.Callback.Lease()),
	}})
	p.metrics.claim(claims, from)
	w.claims = append(w.claims, claims...)
	return err
}

// settle records what became of a newer credential.
func (p *Processor) settle(ctx context.Context, w *work) {
	if w.newer == nil {
		return
	}
	settled, err := w.newer.settle(ctx, p.store, w)
	switch {
	case err != nil:
		p.log.WarnContext(ctx, "What became of a newer credential could not be recorded; the next callback opens it again", "error", err)
	case settled && w.newer.blob == nil:
		p.log.WarnContext(ctx, "A newer credential does not open; if the device did not send it, somebody else did",
			"audit", true)
	case settled:
		p.note(ctx, w, store.ActivityCredentialNewer, "")
	}
}

// note adds to the user's timeline, best effort, even when the work's time is up: that is worth an entry, too.
func (p *Processor) note(ctx context.Context, w *work, kind store.ActivityKind, detail string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := p.store.Note(ctx, w.userID, kind, detail, p.clock.Now()); err != nil {
		p.log.WarnContext(ctx, "The user's timeline lacks an entry", "kind", string(kind), "error", err)
	}
}

// askToRegister sends a silent push to the user's devices, by way of the journal.
func (p *Processor) askToRegister(ctx context.Context, w *work) {
	p.steps.Reached(step.NudgeDue)
	w.claims = nil
	if err := p.claim(ctx, w, store.Resubscribe, fromNudge); err != nil {
		p.log.WarnContext(ctx, "The user's devices could not be asked to register again", "error", err)
		return
	}
	p.steps.Reached(step.NudgeWritten)
	p.finish(w, p.rounds(ctx, w))
}

// outcome is how the work on one claim ended.
type outcome struct {
	claim store.Claim
	end   ending
}

// ending is how the work on a claim can end. From told on nobody is owed anything more; before, the claim goes back to the
// journal.
type ending int

const (
	// returned: it was not tried, or not fairly.
	returned ending = iota
	// failed: it was tried, and counts as a try.
	failed
	// told: a provider has accepted it for at least one device.
	told
	// nothing: there was nothing to tell, or nobody to tell it to.
	nothing
	// expired: it was given up after a day or ten tries.
	expired
)

// String names the ending as metrics show it.
func (e ending) String() string {
	return [...]string{returned: "returned", failed: "failed", told: "told", nothing: "nothing_to_tell", expired: "expired"}[e]
}

// outcomes ends all claims in the same way.
func outcomes(claims []store.Claim, end ending) []outcome {
	all := make([]outcome, len(claims))
	for i, claim := range claims {
		all[i] = outcome{claim, end}
	}
	return all
}

// result is what came of the work on some claims.
type result struct {
	// told is nil if the devices were told nothing that is to be remembered; record is then nil, too.
	told   *store.Told
	record *record
	ended  []outcome
	// overtaken says that the journal owes the count anew already.
	overtaken bool
}

// complete ends claims of which nothing was told.
func (p *Processor) complete(w *work, ended []outcome) { p.finish(w, result{ended: ended}) }

// finish remembers what was told and ends the claims. It returns whether the journal owes the count anew, see store.Finish.
func (p *Processor) finish(w *work, r result) (overtaken bool) {
	if len(r.ended) == 0 && r.told == nil {
		return r.overtaken
	}
	ctx := w.context(context.Background()) // it runs even when the work's time is up
	completions := make([]store.Completion, len(r.ended))
	for i, o := range r.ended {
		completions[i] = store.Completion{Claim: o.claim, Owner: p.owner, Finished: o.end >= told, Failed: o.end == failed, Now: p.clock.Now()}
	}
	p.steps.Reached(step.CompletionDue)
	ctx, span := tracing.Start(ctx, "journal complete", tracing.Count.Int(len(r.ended)))
	overtaken, err := p.put(ctx, r, completions)
	tracing.End(span, err)
	p.metrics.release(r.ended, err)
	if err != nil {
		p.log.ErrorContext(ctx, "The journal could not be completed; its rows are taken up again when their lease ends", "error", err)
		return false
	}
	if r.told != nil {
		p.signs.recorded(w.userID, r.told.Heard)
		p.steps.Reached(step.ToldRecorded)
	}
	if len(r.ended) > 0 {
		p.steps.Reached(step.CompletionWritten)
	}
	return overtaken || r.overtaken
}

// The pauses between the rounds of one work. Together with the providers' own time-outs they stay below a minute; what
// takes longer waits in the journal for the next callback.
var pauses = []time.Duration{2 * time.Second, 8 * time.Second}

// rounds works on the claims, and again on those that failed for a passing reason. What it returns is not on record yet.
func (p *Processor) rounds(ctx context.Context, w *work) result {
	var all result
	for round := 0; ; round++ {
		r, again := p.round(ctx, w)
		all.ended = append(all.ended, r.ended...)
		all.told, all.record = r.told, r.record
		if len(again) == 0 {
			return all
		}
		if round == len(pauses) {
			all.ended = append(all.ended, outcomes(again, failed)...)
			return all
		}
		all.overtaken = p.finish(w, result{told: r.told, record: r.record}) || all.overtaken // the next round needs to know
		all.told = nil
		w.place.leave()
		if !p.pause(ctx, pauses[round]) { // the time was too short for a fair try
			all.ended = append(all.ended, outcomes(again, returned)...)
			return all
		}
		w.claims = again
	}
}

func (p *Processor) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-p.clock.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
