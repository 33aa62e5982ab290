package callback

import (
	"context"
	"fmt"
	"slices"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// The unread count comes to the phones with each mail. It has a row of its own in the journal only where it changes without a
// mail that is told.

// oweCount adds the count, if it is known, to what is owed if a mail is left untold, by now or for good: it may have changed the
// count all the same. A mail that is told brings the count with it, and so does one that somebody can be told of only later.
func (d *delivery) oweCount(ctx context.Context, others []store.Claim) []store.Claim {
	untold := slices.ContainsFunc(d.ended, func(o outcome) bool {
		return o.claim.Kind == store.NewMail && (o.end == failed || o.end == nothing)
	})
	if !untold || d.unread == nil || slices.ContainsFunc(others, func(c store.Claim) bool { return c.Kind == store.Badge }) {
		return nil
	}
	before := len(d.work.claims)
	if err := d.processor.claim(ctx, d.work, store.Badge, fromUntold); err != nil {
		d.processor.log.WarnContext(ctx, "The count cannot be owed, so its mails stay owed instead", "error", err)
		d.ended = slices.DeleteFunc(d.ended, func(o outcome) bool {
			stays := o.claim.Kind == store.NewMail && o.end == nothing
			if stays {
				d.again = append(d.again, o.claim)
			}
			return stays
		})
	}
	return d.work.claims[before:]
}

// badge tells the unread count to the devices that were last told another one, or to all if the tenant wants that.
func (d *delivery) badge(ctx context.Context, claim store.Claim) {
	if d.unread == nil {
		if err := d.countUnread(ctx); err != nil {
			d.unanswered(ctx, claim, fmt.Errorf("counting unread mail: %w", err))
			return
		}
	}
	enslog.BadgeUpdated.Log(ctx, d.processor.log, count(d.unread), count(d.target.Unread))
	d.tell(ctx, claim, func(device store.Device) (push.Notification, bool) {
		unchanged := device.BadgeSent != nil && *device.BadgeSent == *d.unread
		worth := !unchanged || d.work.tenant.Config.Notifications.UnchangedBadges == config.UnchangedSend
		return push.Notification{Kind: push.Badge, Unread: d.unread, UserID: d.userID()}, device.Badge && worth
	})
}

// countUnread asks Exchange for the unread count.
func (d *delivery) countUnread(ctx context.Context) error {
	if !d.work.standing.usable(d.processor.clock.Now()) {
		return errRefused
	}
	return d.ask(ctx, func(session *ews.Session) error {
		enslog.Counting.Log(ctx, d.processor.log, d.ewsURL())
		inbox, err := session.Inbox(ctx, "")
		if err == nil {
			d.unread = &inbox.UnreadCount
		}
		return err
	})
}
