// Package registration lets devices in, and nobody else: it opens the credential a device sent, proves with it whose
// mailbox it is, subscribes at Exchange and attaches the device (protocol.md, registerdevicev2).
package registration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

var (
	// ErrUnknownUser says that the user has not asked for a key yet.
	ErrUnknownUser = errors.New("the user has no key pair; call getpublickey first")
	// ErrWrongKey says that the device encrypted under another key than the user's current one.
	ErrWrongKey = errors.New("the payload was encrypted under a key that is not the user's current one")
	// ErrProof says that the credential does not belong to the mailbox of the userId.
	ErrProof = errors.New("the credential does not open the mailbox of this userId")
	// ErrExchange says that Exchange could not be asked or said no; the wrapped error says why.
	ErrExchange = errors.New("Exchange did not make the subscription") //nolint:staticcheck // ST1005: a proper name
	// ErrNoEndpoint says that none of the tenant's endpoints serves the user, or that it cannot be found out which.
	ErrNoEndpoint = errors.New("none of the tenant's endpoints could be chosen for the user")
	// ErrNotRecorded says that Exchange made the subscription but the database did not take it.
	ErrNotRecorded = errors.New("subscribed, but the database did not record it")
)

// Request is a registration whose form has been checked.
type Request struct {
	UserHash [sha256.Size]byte
	Device   store.Device
	// Payload is the encrypted credential.
	Payload credential.Payload
	// Email is base64 ciphertext, or empty.
	Email string
	// KeyID is empty if the device did not say.
	KeyID string
	// Endpoint is the tenant's endpoint that the device is to be subscribed at, nil if it is to be discovered.
	Endpoint *tenant.Endpoint
	// Force makes a new subscription even where one is alive (P-26).
	Force bool
	// ActivityID is sent to Exchange.
	ActivityID string
	// Decrypted is told, before Exchange is asked, whether the payload could be decrypted.
	Decrypted func(ok bool)
}

// Result is a successful registration.
type Result struct {
	DeviceRef int64
	// SubscriptionID is empty if another registration of the user, under way at the same time, made the newer one.
	SubscriptionID string
	// New is false if a live subscription was there and the device was added to it.
	New bool
}

// Registered is a subscription that has just been made, with its credential.
type Registered struct {
	UserID, Generation, Sequence int64
	UserHash                     [sha256.Size]byte
	MailboxID                    []byte
	Endpoint                     string
	Credential                   credential.Credential
}

// Drainer takes up what a user is owed, now that a credential is at hand. It owns the credential from then on.
type Drainer interface {
	Drain(ctx context.Context, t *tenant.Tenant, r Registered)
}

// Service registers devices. It is safe for concurrent use.
type Service struct {
	Store   *store.Store
	Clock   clock.WithTickerAndDelayedExecution
	Logger  *slog.Logger
	Drainer Drainer
	// Steps is told of each step; nil tells nobody.
	Steps step.Hook
}

// Register lets a device in. Everything that needs no Exchange is decided before it is asked, and no device is attached
// and no subscription replaced before Exchange has said yes. Errors, to be told apart by errors.Is: ErrUnknownUser,
// ErrWrongKey, credential.ErrUndecryptable, ErrProof, ErrExchange, ErrNoEndpoint, store.ErrOtherMailbox,
// store.ErrTooManyDevices, credential.ErrUndecided, ErrNotRecorded; any other is the database's.
func (s *Service) Register(ctx context.Context, t *tenant.Tenant, r Request) (Result, error) {
	user, err := s.Store.UserByHash(ctx, r.UserHash)
	if errors.Is(err, store.ErrNotFound) {
		return Result{}, ErrUnknownUser
	}
	if err != nil {
		return Result{}, err
	}
	opened, err := open(t, user, r)
	r.Decrypted(!errors.Is(err, credential.ErrUndecryptable))
	if err != nil {
		return Result{}, err
	}
	defer opened.wipe()
	a := &attempt{Service: s, tenant: t, request: r, user: user, opened: opened}
	result, err := a.enter(ctx)
	if errors.Is(err, ErrExchange) && !a.undiscovered {
		enslog.SubscribingFailed.Log(ctx, s.Logger, err.Error())
	}
	s.note(ctx, user.ID, r, result, err)
	return result, err
}

// note adds the outcome to the user's timeline, best effort.
func (s *Service) note(ctx context.Context, userID int64, r Request, result Result, err error) {
	kind, detail := store.ActivityRegistered, r.Payload.AuthType.String()
	if err != nil {
		kind, detail = store.ActivityRefused, err.Error()
	} else if !result.New {
		detail += ", added to the subscription"
	}
	if err := s.Store.Note(context.WithoutCancel(ctx), userID, kind, detail, s.Clock.Now()); err != nil {
		s.Logger.WarnContext(ctx, "The user's timeline lacks a registration", "error", err)
	}
}

// opened is what a device sent, decrypted.
type opened struct {
	credential     credential.Credential
	dataKey, email secret.Value
}

func (o *opened) wipe() {
	o.credential.Wipe()
	o.dataKey.Wipe()
	o.email.Wipe()
}

// open decrypts what the device sent, under the user's key pair or, if the device has not heard of that yet, the one
// before.
func open(t *tenant.Tenant, user store.User, r Request) (o opened, err error) {
	pairs := []credential.KeyPair{user.Keys}
	if user.Previous.ID != "" {
		pairs = append(pairs, user.Previous)
	}
	if r.KeyID != "" {
		pairs = slices.DeleteFunc(pairs, func(pair credential.KeyPair) bool { return pair.ID != r.KeyID })
	}
	err = ErrWrongKey
	for _, pair := range pairs {
		if o, err = openWith(t, pair, r); !errors.Is(err, credential.ErrUndecryptable) {
			return o, err
		}
	}
	return opened{}, err
}

func openWith(t *tenant.Tenant, pair credential.KeyPair, r Request) (o opened, err error) {
	key, err := t.Keyring.OpenKeyPair(pair)
	if err != nil {
		return o, err
	}
	if r.Email != "" {
		if o.email, err = credential.DecryptEmail(key, r.Email, r.UserHash); err != nil {
			return opened{}, err
		}
	}
	if o.credential, o.dataKey, err = credential.Decrypt(key, r.Payload); err != nil {
		o.wipe()
		return opened{}, err
	}
	return o, nil
}

// attempt is one registration on its way.
type attempt struct {
	*Service
	tenant  *tenant.Tenant
	request Request
	user    store.User
	opened
	endpoint  *tenant.Endpoint
	mailboxID []byte
	// catchUp is as of store.Promotion.
	catchUp store.Gap
	// undiscovered says that Autodiscover found no endpoint, which has been logged.
	undiscovered bool
}

// enter finds the endpoint, proves the mailbox and subscribes, or adds the device to the subscription that is there.
func (a *attempt) enter(ctx context.Context) (Result, error) {
	if err := a.credential.Fault(a.Clock.Now()); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrExchange, err)
	}
	session, err := a.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	defer session.Close()
	if a.user.MailboxID != nil && string(a.user.MailboxID) != string(a.mailboxID) {
		return Result{}, store.ErrOtherMailbox
	}
	standing, err := a.Store.Standing(ctx, a.request.UserHash, a.request.Device.ID)
	if err != nil {
		return Result{}, err
	}
	maxDevices := int(a.tenant.Config.Limits.MaxDevicesPerUser)
	if standing.OtherDevices >= maxDevices {
		return Result{}, store.ErrTooManyDevices
	}
	if a.reusable(standing) {
		ref, err := a.Store.Attach(ctx, a.user.ID, a.mailboxID, a.request.Device, maxDevices, a.Clock.Now())
		if err == nil {
			a.Steps.Reached(step.DeviceAttached)
		}
		return Result{DeviceRef: ref, SubscriptionID: standing.SubscriptionID}, err
	}
	a.catchUp = gap(standing, a.Clock.Now())
	return a.subscribe(ctx, session)
}

const (
	// catchUpWindow bounds a gap: what is older than a day is not news any more.
	catchUpWindow = 24 * time.Hour
	// ClockTolerance is how far Exchange's clock may be off ours.
	ClockTolerance = 5 * time.Minute
)

// gap is in which time mail may have come of which Exchange has told nobody, zero if none can: since it last posted, but not
// before what has been seen already. Whether the subscription before had died cannot be known for certain, so each new one
// looks.
func gap(standing store.Standing, now time.Time) store.Gap {
	heard := standing.LastCallback
	if heard.IsZero() { // a subscription that was never heard of may have been told of mail, and have been lost with it
		heard = standing.RegisteredAt
	}
	if heard.IsZero() {
		return store.Gap{}
	}
	since := heard.Add(-ClockTolerance)
	if window := now.Add(-catchUpWindow); window.After(since) {
		since = window
	}
	if newest := standing.Newest.Since; newest.Before(since) || newest.After(now.Add(ClockTolerance)) {
		return store.Gap{Since: since}
	}
	return standing.Newest
}

// reusable is the rule for 6 (protocol.md): a live subscription that would not be made any different.
func (a *attempt) reusable(standing store.Standing) bool {
	return standing.Subscribed && !a.request.Force && !standing.Refused && !standing.Orphaned &&
		standing.Fresh(a.Clock.Now(), 2*a.tenant.Config.Notifications.StatusFrequency()) &&
		standing.Endpoint == a.endpoint.Name &&
		standing.AuthType == a.credential.AuthType &&
		standing.DeviceID != a.request.Device.ID
}

const (
	// attempts and patience bound the retries of Subscribe (E-07).
	attempts = 4
	patience = 10 * time.Second
	// firstPause doubles from attempt to attempt: 0.5, 1, 2 s.
	firstPause = 500 * time.Millisecond
)

// subscribe makes up to four attempts, each with a generation of its own, since one whose answer was lost may have
// succeeded.
func (a *attempt) subscribe(ctx context.Context, session *ews.Session) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+a.endpoint.Timeout())
	defer cancel()
	deadline := a.Clock.Now().Add(patience)
	pause := firstPause
	for try := 1; ; try++ {
		generation, id, err := a.subscribeOnce(ctx, session)
		if err == nil {
			enslog.Subscribed.Log(ctx, a.Logger, id)
			return a.promote(ctx, generation, id)
		}
		if !errors.Is(err, ErrExchange) || !ews.Transient(err) || try == attempts || a.Clock.Now().Add(pause).After(deadline) {
			return Result{}, err
		}
		enslog.SubscribingAgain.Log(ctx, a.Logger, err.Error())
		select {
		case <-a.Clock.After(pause):
			pause *= 2
		case <-ctx.Done():
			return Result{}, err
		}
	}
}

func (a *attempt) subscribeOnce(ctx context.Context, session *ews.Session) (generation int64, subscriptionID string, err error) {
	generation, err = a.Store.NextGeneration(ctx)
	if err != nil {
		return 0, "", err
	}
	sealed, err := a.tenant.Keyring.SealIntoURL(a.tenant.Config.Server.CallbackURL, a.user.ID, generation, a.credential, a.dataKey)
	if err != nil {
		return 0, "", err
	}
	defer sealed.URL.Wipe()
	begun := store.Attempt{
		UserID: a.user.ID, Generation: generation, FillerHash: sealed.FillerHash, Key: sealed.Key, Blob: sealed.Blob,
		WebhookKey: sealed.WebhookKey, Updatable: !a.dataKey.IsZero(), Sequence: a.request.Payload.Binding.Sequence,
		DeviceID: a.request.Device.ID, Endpoint: a.endpoint.Name, AuthType: a.credential.AuthType,
	}
	if err := a.Store.Begin(ctx, begun, a.Clock.Now()); err != nil {
		return 0, "", err
	}
	a.Steps.Reached(step.GenerationWritten)
	enslog.Subscribing.Log(ctx, a.Logger, a.endpoint.URL)
	enslog.SubscribingWith.Log(ctx, a.Logger, a.credential.AuthType.String())
	subscriptionID, err = session.Subscribe(ctx, ews.SubscribeRequest{
		URL: sealed.URL.RevealString(), StatusFrequency: a.tenant.Config.Notifications.StatusFrequency(),
	})
	if err == nil {
		a.Steps.Reached(step.Subscribed)
		return generation, subscriptionID, nil
	}
	if refused(err) {
		// Best effort: a pending attempt is answered Unsubscribe two minutes from now anyway.
		if err := a.Store.Abandon(ctx, a.user.ID, generation); err != nil {
			a.Logger.WarnContext(ctx, "A refused attempt to subscribe stays on record", "error", err)
		}
	}
	return 0, "", fmt.Errorf("%w: %w", ErrExchange, err)
}

// refused reports whether Exchange has certainly not made a subscription: it said so in a response code, or by a status
// that comes before the work. In all other cases the answer may have been lost.
func refused(err error) bool {
	e, ok := errors.AsType[*ews.Error](err)
	if !ok {
		return false
	}
	return e.Code != "" || errors.Is(err, ews.ErrUnauthorized) || errors.Is(err, ews.ErrForbidden) ||
		errors.Is(err, ews.ErrNotFound) || errors.Is(err, ews.ErrRedirect) || errors.Is(err, ews.ErrCertificate)
}

// recordingPatience bounds the last statement, which runs even if the device has hung up: Exchange has said yes.
const recordingPatience = 5 * time.Second

func (a *attempt) promote(ctx context.Context, generation int64, subscriptionID string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordingPatience)
	defer cancel()
	ref, promoted, err := a.Store.Promote(ctx, store.Promotion{
		UserID: a.user.ID, Generation: generation, SubscriptionID: subscriptionID, MailboxID: a.mailboxID,
		Device: a.request.Device, MaxDevices: int(a.tenant.Config.Limits.MaxDevicesPerUser), CatchUp: a.catchUp,
	}, a.Clock.Now())
	if errors.Is(err, store.ErrOtherMailbox) || errors.Is(err, store.ErrTooManyDevices) {
		return Result{}, err
	}
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	if !promoted { // another device of the user was quicker, and its subscription is the newer one
		return Result{DeviceRef: ref}, nil
	}
	a.Steps.Reached(step.Promoted)
	a.Drainer.Drain(ctx, a.tenant, Registered{
		UserID: a.user.ID, Generation: generation, Sequence: a.request.Payload.Binding.Sequence, UserHash: a.user.Hash,
		MailboxID: a.mailboxID, Endpoint: a.endpoint.Name, Credential: a.credential.Clone(),
	})
	return Result{DeviceRef: ref, SubscriptionID: subscriptionID, New: true}, nil
}
