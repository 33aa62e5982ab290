package callback

import (
	"context"
	"errors"
	"fmt"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// maxCaughtUp is how many of the newest items of the Inbox are looked at after a gap. It bounds what one registration can
// cost; beyond it the number that is told is too low, the badge never.
const maxCaughtUp = 100

// catchUp looks up, once, what came while nobody told us, and puts it into the journal as if Exchange had: what has been
// told is recognised there, and what has not is owed from now on, whatever becomes of this work. It returns the mails to
// work on.
func (d *delivery) catchUp(ctx context.Context, claim store.Claim) []store.Claim {
	gap, err := store.ParseGap(claim.Item)
	if err != nil { // nobody but us writes it
		d.processor.log.ErrorContext(ctx, "An entry of the journal is unreadable and is dropped", "kind", claim.Kind.String())
		d.end(outcome{claim, nothing})
		return nil
	}
	items, err := d.missed(ctx, gap)
	if err != nil {
		d.unanswered(ctx, claim, fmt.Errorf("looking up what came while there was no subscription: %w", err))
		return nil
	}
	claims, err := d.processor.journal(ctx, d.work, items)
	if err != nil {
		d.processor.log.WarnContext(ctx, "What came while there was no subscription could not be written to the journal", "error", err)
		d.again = append(d.again, claim)
		return nil
	}
	d.processor.steps.Reached(step.GapJournalled)
	if len(claims) > 0 {
		if d.work.caughtUp == nil {
			d.work.caughtUp = map[string]bool{}
		}
		for _, mail := range claims {
			d.work.caughtUp[mail.Item] = true
		}
		d.processor.note(ctx, d.work, store.ActivityCaughtUp, fmt.Sprintf("%d mails", len(claims)))
	}
	d.end(outcome{claim, nothing})
	return claims
}

// missed lists the unread mails of a gap.
func (d *delivery) missed(ctx context.Context, gap store.Gap) ([]string, error) {
	if !d.work.standing.usable(d.processor.clock.Now()) {
		return nil, errRefused
	}
	var newest []ews.Message
	err := d.ask(ctx, func(session *ews.Session) (err error) {
		newest, err = session.Newest(ctx, maxCaughtUp)
		return err
	})
	if err != nil {
		return nil, err
	}
	var items []string
	for _, message := range newest {
		if !message.IsRead && gap.Holds(message.ItemID, message.ReceivedAt) {
			items = append(items, message.ItemID)
		}
	}
	return items, nil
}

// see remembers a mail, so that no later gap begins before it.
func (d *delivery) see(m ews.Message) {
	switch {
	case m.ReceivedAt.After(d.processor.clock.Now().Add(registration.ClockTolerance)):
		// A restore or a wrong clock has dated it ahead: real mail would be taken for older.
	case !m.Found || m.ReceivedAt.Before(d.newest.Since):
	case m.ReceivedAt.Equal(d.newest.Since):
		d.newest.Seen = append(d.newest.Seen, store.HashItem(m.ItemID))
	default:
		d.newest = store.Gap{Since: m.ReceivedAt, Seen: []store.ItemHash{store.HashItem(m.ItemID)}}
	}
}

// journal writes new mails into the journal and returns those that nobody knew of.
func (p *Processor) journal(ctx context.Context, w *work, items []string) ([]store.Claim, error) {
	if len(items) == 0 {
		return nil, nil
	}
	now := p.clock.Now()
	entries := make([]store.Entry, len(items))
	for i, item := range items {
		entries[i] = store.Entry{
			Key: store.Key{UserID: w.userID, Kind: store.NewMail, Item: item}, Generation: w.generation, Owner: p.owner,
			Now: now, LeaseUntil: now.Add(w.tenant.Config.Callback.Lease()),
		}
	}
	claims, err := p.store.Write(ctx, entries)
	p.metrics.claim(claims, fromGap)
	return claims, err
}

// unanswered decides what becomes of a claim for which Exchange could not be asked: another round, the journal, or
// nothing. Nothing is shown instead.
func (d *delivery) unanswered(ctx context.Context, claim store.Claim, err error) {
	d.processor.log.WarnContext(ctx, "Exchange could not be asked", "kind", claim.Kind.String(), "error", err)
	switch {
	case unasked(err) && d.processor.clock.Since(claim.CreatedAt) <= maxAge:
		d.end(outcome{claim, returned})
	case errors.Is(err, errRefused) || credentialFailed(err):
		d.end(outcome{claim, nothing})
	case d.exhausted(claim):
		d.end(outcome{claim, expired})
	case ews.Transient(err):
		d.again = append(d.again, claim)
	default:
		d.end(outcome{claim, failed})
	}
}
