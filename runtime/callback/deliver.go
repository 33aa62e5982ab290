package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/wording"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
	"github.com/ens-operator/ens-operator/runtime/tracing"
)

// The notification policies (PolicyLimitNotificationText, N-01 to N-05): each shows less than the one before.
const (
	policyPreview = 0
	policySubject = 1
	policySender  = 2
	policyGeneric = 3
	policyNothing = 4
)

// collapseIDSize keeps the collapse id, in hex, below APNs' 64 bytes.
const collapseIDSize = 16

func (d *delivery) policy(device store.Device) int {
	return max(device.Policy, int(d.work.tenant.Config.Notifications.PolicyCeiling))
}

// fields are the parts of a mail that the least restricted device shows; nothing else is fetched.
func (d *delivery) fields() ews.Fields {
	least := policyNothing
	for _, device := range d.target.Devices {
		least = min(least, d.policy(device))
	}
	return ews.Fields{Sender: least <= policySender, Subject: least <= policySubject, Preview: least <= policyPreview}
}

// compose makes a device's notification of a mail, cut to its policy.
func (d *delivery) compose(device store.Device, item string, m ews.Message) push.Notification {
	policy, title := d.policy(device), ""
	if policy <= policySender {
		title = senderOf(m.SenderName, m.SenderAddress)
	}
	if title == "" {
		title = wording.NewMessage(device.Locale)
	}
	n := d.bare(device, item, title)
	n.MessageID = item
	if policy <= policySubject {
		n.Subtitle = display(m.Subject)
	}
	if policy <= policyPreview {
		n.Body = display(m.Preview)
	}
	return n
}

// generic says that there is new mail and nothing about it.
func (d *delivery) generic(device store.Device, item string) push.Notification {
	n := d.bare(device, item, wording.NewMessage(device.Locale))
	n.MessageID = item
	return n
}

// summary says how many new mails there are and nothing about them.
func (d *delivery) summary(device store.Device, items []string) push.Notification {
	return d.bare(device, strings.Join(items, " "), wording.NewMessages(device.Locale, len(items)))
}

// bare is a notification with a title, unless the policy is to show nothing. What it is about gives it its collapse id.
func (d *delivery) bare(device store.Device, about, title string) push.Notification {
	sum := sha256.Sum256([]byte(about))
	n := push.Notification{
		Kind: push.NewMail, UserID: d.userID(), CollapseID: hex.EncodeToString(sum[:collapseIDSize]),
	}
	if device.Badge {
		n.Unread = d.unread
	}
	if d.policy(device) <= policyGeneric {
		n.Title, n.Sound = title, device.Sound
	}
	return n
}

func (d *delivery) userID() string { return d.work.user }

// tell sends a claim's notification to every device that has not been told, and ends the claim. message says what a device
// gets, and whether it gets one.
func (d *delivery) tell(ctx context.Context, claim store.Claim, message func(store.Device) (push.Notification, bool)) {
	d.tellTogether(ctx, []store.Claim{claim}, func(device store.Device, _ []store.Claim) (push.Notification, bool) {
		return message(device)
	})
}

// tellTogether sends one notification for several claims to every device that has not been told of all of them, all at
// once, so that one slow provider does not delay this notification on the others' devices, and ends the claims. message
// says what a device gets for the claims that it has not been told of.
func (d *delivery) tellTogether(ctx context.Context, claims []store.Claim, message func(store.Device, []store.Claim) (push.Notification, bool)) {
	pushes := &pushes{results: make([]pushed, len(d.target.Devices)), ended: make(chan struct{})}
	var due []duePush
	for i, device := range d.target.Devices {
		owed := slices.DeleteFunc(slices.Clone(claims), func(c store.Claim) bool { return slices.Contains(c.Done, device.Ref) })
		if len(owed) == 0 {
			continue
		}
		if claims[0].Kind != store.Resubscribe && d.withheld(device) {
			d.processor.metrics.withheld.Inc()
			pushes.results[i] = pushed{outcome: push.Misconfigured} // until the device is compliant again, or the claim is too old
			continue
		}
		if notification, wanted := message(device, owed); wanted {
			due = append(due, duePush{i, device, notification})
		}
	}
	if len(due) == 0 { // as of most badges: the mail that changed it has told it
		d.conclude(claims, pushes.results)
		return
	}
	ctx, cancel := d.processor.untilDeadline(ctx)
	pushes.left = len(due)
	for _, next := range due {
		d.processor.running.Go(func() {
			growStack()
			outcome := d.push(ctx, next.device, next.notification)
			pushes.set(next.place, pushed{outcome: outcome, accepted: outcome == 0, unread: next.notification.Unread})
		})
	}
	d.await(pushes, func(d *delivery) {
		cancel()
		d.conclude(claims, pushes.results)
	})
}

// duePush is what a device is to be sent; place is the device's among the target's.
type duePush struct {
	place        int
	device       store.Device
	notification push.Notification
}

// conclude ends the claims of a notification by what came of it, a result for each device.
func (d *delivery) conclude(claims []store.Claim, results []pushed) {
	accepted := slices.ContainsFunc(results, func(r pushed) bool { return r.accepted })
	for _, claim := range claims {
		d.concludeOne(claim, results, accepted)
	}
}

// concludeOne ends one claim. accepted says that a provider has just taken it for at least one device.
func (d *delivery) concludeOne(claim store.Claim, results []pushed, accepted bool) {
	end := nothing
	if accepted || claim.Told() {
		end = told
	}
	claim.Done = slices.Clone(claim.Done)
	retry, misconfigured, deferred := false, false, false
	for i, result := range results {
		switch result.outcome {
		case push.Retry:
			retry = true
		case push.Misconfigured:
			misconfigured = true
		case push.Deferred:
			deferred = true
		default: // told, or never to be told
			if !slices.Contains(claim.Done, d.target.Devices[i].Ref) {
				claim.Done = append(claim.Done, d.target.Devices[i].Ref)
			}
		}
	}
	switch {
	case !retry && !misconfigured && !deferred:
		d.end(outcome{claim, end})
	case d.outdated(claim) || d.exhausted(claim) && !deferred:
		d.end(outcome{claim, expired})
	case retry:
		d.again = append(d.again, claim)
	case deferred: // an outage of hours must not use up the tries
		d.end(outcome{claim, returned})
	default: // an administrator has to act first
		d.end(outcome{claim, failed})
	}
}

// push delivers one notification to one device. The result is 0 if the provider accepted it.
func (d *delivery) push(ctx context.Context, device store.Device, n push.Notification) push.Outcome {
	p := d.processor
	provider := d.work.tenant.Provider(device.Provider)
	if provider == nil {
		p.log.WarnContext(ctx, "A device's push provider is not among the tenant's any more", "device", device.Ref, "provider", device.Provider)
		p.metrics.pushing.WithLabelValues(device.Provider).Inc()
		p.metrics.pushed.WithLabelValues(device.Provider, push.Misconfigured.String()).Inc()
		return push.Misconfigured
	}
	p.metrics.pushing.WithLabelValues(device.Provider).Inc()
	p.steps.Reached(step.PushDue)
	d.logPush(ctx, device, n, provider)
	ctx, span := tracing.StartCall(ctx, "push", tracing.Provider.String(device.Provider), tracing.Device.Int64(device.Ref))
	err := provider.Push(ctx, push.Device{
		Ref: device.Ref, Platform: device.Platform, Token: device.Token, AppID: device.AppID, Registered: device.Registered,
	}, n)
	result := push.OutcomeOf(err)
	tracing.EndAs(span, outcomeName(result))
	if err != nil {
		if result != push.Deferred { // that a provider is left alone is logged once
			p.log.WarnContext(ctx, "A notification was not delivered", "device", device.Ref, "error", err)
		}
		p.metrics.pushed.WithLabelValues(device.Provider, result.String()).Inc()
		if refusal, ok := errors.AsType[*push.Error](err); ok && result == push.DeadToken {
			d.retire(ctx, device, refusal)
		}
		return result
	}
	p.steps.Reached(step.PushAccepted)
	p.metrics.pushed.WithLabelValues(device.Provider, outcomeName(result)).Inc()
	d.logAccepted(ctx, device)
	if provider.SNS != nil {
		enslog.SNSSent.Log(ctx, p.log, strconv.FormatInt(device.Ref, 10))
	}
	return 0
}

// logAccepted logs the one line that each notification has. Where in the program that is, which no handler shows, is not looked
// up: that takes as long as the line.
func (d *delivery) logAccepted(ctx context.Context, device store.Device) {
	log := d.processor.log
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "Notification accepted by the push provider", 0)
	record.AddAttrs(slog.Int64("device", device.Ref), slog.String("deviceLogId", device.DeviceLogID), slog.String("provider", device.Provider))
	_ = log.Handler().Handle(ctx, record) // there is nowhere to say that logging failed
}

// outcomeName is how metrics and traces show an outcome.
func outcomeName(result push.Outcome) string {
	if result == 0 {
		return "accepted"
	}
	return result.String()
}

// logPush logs what is about to be pushed, in the original's words (N-09 to N-11).
func (d *delivery) logPush(ctx context.Context, device store.Device, n push.Notification, provider *tenant.Provider) {
	log, ref := d.processor.log, strconv.FormatInt(device.Ref, 10)
	enslog.Posting.Log(ctx, log, ref)
	if n.Unread != nil {
		enslog.UnreadTold.Log(ctx, log, count(n.Unread))
	}
	enslog.Sending.Log(ctx, log, ref, device.DeviceLogID, n.MessageID)
	if provider.SNS != nil {
		enslog.SNSSending.Log(ctx, log)
	}
}

func (d *delivery) retire(ctx context.Context, device store.Device, refusal *push.Error) {
	if err := d.processor.store.RetireDevice(ctx, device.Ref, device.Token, refusal.DeadSince, d.processor.clock.Now()); err != nil {
		d.processor.log.WarnContext(ctx, "A device with a dead token could not be retired", "device", device.Ref, "error", err)
	}
}
