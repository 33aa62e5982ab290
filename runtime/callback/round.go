package callback

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
)

const (
	// A row that is older or was tried more often ends in one generic notification (protocol.md, Callback semantics).
	maxAge      = 24 * time.Hour
	maxAttempts = 10
	// maxItems go into one GetItem.
	maxItems = 50
)

// round tells the user's devices what the work's claims are about. It returns what is to be put on record, and the claims that
// a further round may get done.
func (p *Processor) round(ctx context.Context, w *work) (r result, again []store.Claim) {
	target, err := p.store.Target(ctx, w.userID)
	if err != nil {
		p.log.WarnContext(ctx, "The user's devices could not be looked up", "error", err)
		return result{}, w.claims
	}
	p.steps.Reached(step.TargetLookedUp)
	if len(target.Devices) == 0 {
		// The first registration may be under way; the work after it tells its device. If none comes, nobody is owed.
		for _, claim := range w.claims {
			end := returned
			if p.clock.Since(claim.CreatedAt) > maxAge {
				end = expired
			}
			r.ended = append(r.ended, outcome{claim, end})
		}
		return r, nil
	}
	d := &delivery{processor: p, work: w, target: target, record: &record{revision: target.Revision}, unread: w.unread}
	defer d.close()
	if target.Heard.After(w.heard) { // another replica may have told of a later post, whose count is the newer one
		d.unread = nil
	}
	mails, others := split(d.tellable(w.claims))
	if d.throughGateway() {
		d.unread, d.posted = nil, d.unread // a count is told to those whose fetch the gateway permits, wherever it comes from
	}
	for _, claim := range others {
		if claim.Kind == store.CatchUp {
			mails = append(mails, d.catchUp(ctx, claim)...)
		}
	}
	for batch := range slices.Chunk(mails, maxItems) {
		d.mails(ctx, batch)
	}
	d.alert(ctx)
	others = append(others, d.oweCount(ctx, others)...)
	for _, claim := range others {
		switch claim.Kind {
		case store.Badge:
			d.badge(ctx, claim)
		case store.Resubscribe:
			d.resubscribe(ctx, claim)
		}
	}
	return d.result(), d.again
}

func split(claims []store.Claim) (mails, others []store.Claim) {
	for _, claim := range claims {
		if claim.Kind == store.NewMail {
			mails = append(mails, claim)
		} else {
			others = append(others, claim)
		}
	}
	return mails, others
}

// delivery is one round for one user.
type delivery struct {
	processor *Processor
	work      *work
	target    store.Target
	record    *record
	// session is open once Exchange has been asked.
	session *ews.Session
	// permitted are the refs of the devices that the secure email gateway permits what was fetched, see fetchPermitted.
	permitted map[int64]bool
	// unread is the Inbox's count once it is known, posted what Exchange has said of it and a gateway has permitted to nobody yet.
	unread, posted *int
	// alerts are the mails that are to be told.
	alerts []alert
	// newest begins with the newest of the mails that were fetched.
	newest store.Gap

	badged    []int64
	delivered bool

	ended []outcome
	again []store.Claim
}

// mails fetches new mails, several in one call, and finds out which of them are to be told.
func (d *delivery) mails(ctx context.Context, claims []store.Claim) {
	if !d.work.standing.usable(d.processor.clock.Now()) {
		d.withoutCredential(ctx, claims)
		return
	}
	messages, err := d.fetch(ctx, claims)
	if err != nil {
		d.unfetched(ctx, claims, err)
		return
	}
	d.processor.steps.Reached(step.MailFetched)
	for i, claim := range claims {
		message := messages[i]
		d.see(message)
		switch {
		case message.Err != nil:
			d.unfetched(ctx, []store.Claim{claim}, message.Err)
		case d.worthAnAlert(message):
			enslog.NewMail.Log(ctx, d.processor.log, count(d.unread))
			d.alerts = append(d.alerts, alert{claim, message})
		default: // read, moved or deleted meanwhile, or a receipt: no alert
			d.end(outcome{claim, nothing})
		}
	}
}

// alert is a mail that is to be told.
type alert struct {
	claim   store.Claim
	message ews.Message
}

// maxSingle is how many mails of a burst are told one by one; the others are told as a number, so that nobody's phone
// rings a hundred times.
const maxSingle = 3

// alert tells the mails that are to be told, the oldest first.
func (d *delivery) alert(ctx context.Context) {
	slices.SortStableFunc(d.alerts, func(a, b alert) int { return a.message.ReceivedAt.Compare(b.message.ReceivedAt) })
	var missed, fresh []alert // what came during a gap is of the past: one notification is enough
	for _, a := range d.alerts {
		if d.work.caughtUp[a.claim.Item] {
			missed = append(missed, a)
		} else {
			fresh = append(fresh, a)
		}
	}
	d.alertTogether(ctx, missed)
	single := len(fresh)
	if single > maxSingle+1 { // a single further one is told as itself
		single = maxSingle
	}
	for _, a := range fresh[:single] {
		d.alertAlone(ctx, a)
	}
	d.alertTogether(ctx, fresh[single:])
}

func (d *delivery) alertAlone(ctx context.Context, a alert) {
	d.tell(ctx, a.claim, func(device store.Device) (push.Notification, bool) {
		n := d.compose(device, a.claim.Item, a.message)
		return n, n.Title != "" || n.Unread != nil
	})
}

// alertTogether tells how many mails there are, unless there is just one.
func (d *delivery) alertTogether(ctx context.Context, alerts []alert) {
	switch len(alerts) {
	case 0:
		return
	case 1:
		d.alertAlone(ctx, alerts[0])
		return
	}
	claims := make([]store.Claim, len(alerts))
	for i, a := range alerts {
		claims[i] = a.claim
	}
	d.tellTogether(ctx, claims, func(device store.Device, owed []store.Claim) (push.Notification, bool) {
		items := make([]string, len(owed))
		for i, claim := range owed {
			items[i] = claim.Item
		}
		n := d.summary(device, items)
		return n, n.Title != "" || n.Unread != nil
	})
}

func (d *delivery) worthAnAlert(m ews.Message) bool {
	if !m.Found || m.IsRead || m.Receipt {
		return false
	}
	folder := sha256.Sum256([]byte(m.ParentFolderID))
	return slices.Equal(folder[:], d.work.mailboxID)
}

// fetch gets the parts of the mails that the policies show, and what else the notifications need.
func (d *delivery) fetch(ctx context.Context, claims []store.Claim) ([]ews.Message, error) {
	items := make([]string, len(claims))
	for i, claim := range claims {
		items[i] = claim.Item
	}
	var messages []ews.Message
	unread := cmp.Or(d.unread, d.posted)
	err := d.ask(ctx, func(session *ews.Session) error {
		if unread == nil || len(d.work.mailboxID) == 0 {
			enslog.Counting.Log(ctx, d.processor.log, d.ewsURL())
			inbox, err := session.Inbox(ctx, "")
			if err != nil {
				return err
			}
			id := sha256.Sum256([]byte(inbox.ID))
			unread, d.work.mailboxID = &inbox.UnreadCount, id[:]
		}
		// Through a gateway this is asked for each device: what one of them is denied, another has been given.
		enslog.Fetching.Log(ctx, d.processor.log, d.ewsURL())
		fetched, err := session.Messages(ctx, items, d.fields())
		if err == nil {
			enslog.Fetched.Log(ctx, d.processor.log)
			messages = fetched
		}
		return err
	})
	if err == nil {
		d.unread = unread
	}
	return messages, err
}

// ask calls Exchange with the user's credential, for the devices that a gateway permits, and takes note of how that went.
func (d *delivery) ask(ctx context.Context, call func(*ews.Session) error) error {
	box := mailbox{d.work.userID, d.work.endpoint}
	if err := d.processor.backOffs.check(box); err != nil {
		return err
	}
	if !d.work.place.take() {
		return errNoPlace
	}
	err := d.connect()
	if err == nil {
		err = d.fetchPermitted(ctx, call)
		d.processor.backOffs.note(box, err)
	}
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	d.processor.metrics.fetched.WithLabelValues(outcome).Inc()
	switch {
	case err == nil:
		d.authorized(ctx)
	case credentialFailed(err):
		d.unauthorized(ctx, certainly(err))
	}
	return err
}

// unasked reports whether Exchange was not even asked, so that it counts as no try.
func unasked(err error) bool { return errors.Is(err, errBackedOff) || errors.Is(err, errNoPlace) }

// credentialFailed reports whether Exchange did not take the credential.
func credentialFailed(err error) bool { return errors.Is(err, ews.ErrUnauthorized) || certainly(err) }

// errNoEndpoint says that the endpoint was taken from the tenant.
var errNoEndpoint = errors.New("the endpoint is not among the tenant's endpoints any more")

func (d *delivery) connect() error {
	if d.session != nil {
		return nil
	}
	endpoint := d.work.tenant.Endpoint(d.work.endpoint)
	if endpoint == nil {
		return fmt.Errorf("endpoint %q: %w", d.work.endpoint, errNoEndpoint)
	}
	d.session = endpoint.Client.Session(d.work.credential, d.work.activity)
	return nil
}

func (d *delivery) close() {
	if d.session != nil {
		d.session.Close()
	}
}

// emailFetchFailed is what the original calls it, code 21. No phone is ever answered it, since none asks for a fetch.
const emailFetchFailed = "EmailFetchfailed"

// unfetched decides what becomes of mails that could not be fetched: another round, the journal, or a notification that
// says only that there is new mail.
func (d *delivery) unfetched(ctx context.Context, claims []store.Claim, err error) {
	d.processor.log.WarnContext(ctx, "Mail could not be fetched", "responseCode", emailFetchFailed, "mails", len(claims), "error", err)
	if !d.work.noted && !unasked(err) { // what made us back off is on the timeline already
		d.work.noted = true
		d.processor.note(ctx, d.work, store.ActivityFetchFailed, emailFetchFailed+": "+err.Error())
	}
	if credentialFailed(err) {
		d.withoutCredential(ctx, claims)
		return
	}
	for _, claim := range claims {
		switch {
		case unasked(err) && d.processor.clock.Since(claim.CreatedAt) <= maxAge:
			d.end(outcome{claim, returned})
		case d.exhausted(claim):
			d.tellGenerically(ctx, claim)
		case ews.Transient(err):
			d.again = append(d.again, claim)
		default:
			d.end(outcome{claim, failed})
		}
	}
}

// withoutCredential is what becomes of mails while the credential is not to be used: each is told without a word of what
// is in it, until the credential counts as refused; then one in five minutes is.
func (d *delivery) withoutCredential(ctx context.Context, claims []store.Claim) {
	if d.work.outdated { // the current subscription's next post brings another credential
		d.ended = append(d.ended, outcomes(claims, returned)...)
		return
	}
	if !d.work.standing.refused() {
		for _, claim := range claims {
			d.tellGenerically(ctx, claim)
		}
		return
	}
	may, err := d.processor.store.TakeGeneric(ctx, d.work.userID, d.processor.clock.Now())
	if err != nil {
		d.processor.log.WarnContext(ctx, "Mail waits, since it is not known when its user was last notified", "error", err)
		d.again = append(d.again, claims...)
		return
	}
	for _, claim := range claims {
		if may {
			d.tellGenerically(ctx, claim)
			may = false
			continue
		}
		d.end(outcome{claim, nothing})
	}
}

// tellGenerically tells that there is a mail and nothing about it. Through a gateway nothing is told: nobody has been
// permitted.
func (d *delivery) tellGenerically(ctx context.Context, claim store.Claim) {
	if d.throughGateway() {
		d.processor.metrics.withheld.Inc()
		d.end(outcome{claim, nothing})
		return
	}
	d.tell(ctx, claim, func(device store.Device) (push.Notification, bool) {
		n := d.generic(device, claim.Item)
		return n, n.Title != "" || n.Unread != nil
	})
}

// exhausted reports whether a claim has been tried often or long enough.
func (d *delivery) exhausted(c store.Claim) bool {
	return c.Attempts+1 >= maxAttempts || d.outdated(c)
}

// count is an unread count as the log shows it, nothing for one that is not known.
func count(unread *int) string {
	if unread == nil {
		return ""
	}
	return strconv.Itoa(*unread)
}

// ewsURL is the address that Exchange is asked at; it has no query.
func (d *delivery) ewsURL() string {
	if endpoint := d.work.tenant.Endpoint(d.work.endpoint); endpoint != nil {
		return endpoint.URL
	}
	return ""
}

func (d *delivery) resubscribe(ctx context.Context, claim store.Claim) {
	d.tell(ctx, claim, func(store.Device) (push.Notification, bool) {
		return push.Notification{Kind: push.Resubscribe, UserID: d.userID()}, true
	})
}

func (d *delivery) end(o outcome) { d.ended = append(d.ended, o) }

// result is what is to be put on record: also a count that nobody needed to be told, which another replica may be telling
// otherwise just now.
func (d *delivery) result() result {
	if !d.delivered && d.unread == nil && d.newest.IsZero() {
		return result{ended: d.ended}
	}
	return result{ended: d.ended, record: d.record, told: &store.Told{
		UserID: d.work.userID, At: d.processor.clock.Now(), Unread: d.unread, Badged: d.badged, Delivered: d.delivered, Newest: d.newest,
		Generation: d.work.generation, Owner: d.processor.owner, Heard: d.work.heard,
	}}
}
