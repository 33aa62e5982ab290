// Package registration lets devices in, and nobody else: it opens the credential a device sent, proves with it whose
// mailbox it is, subscribes at Exchange and attaches the device (protocol.md, registerdevicev2).
package registration

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/secret"
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
	// ErrNotRecorded says that Exchange made the subscription but the database did not take it.
	ErrNotRecorded = errors.New("subscribed, but the database did not record it")
)

// Request is a registration whose form has been checked.
type Request struct {
	UserHash [sha256.Size]byte
	Device   store.Device
	AuthType credential.AuthType
	Scheme   credential.Scheme
	// Credentials and Email are base64 ciphertext; Email may be empty.
	Credentials, Email string
	// KeyID is empty if the device did not say.
	KeyID string
	// Endpoint is the tenant's endpoint that the device is to be subscribed at.
	Endpoint *tenant.Endpoint
	// Force makes a new subscription even where one is alive (P-26).
	Force bool
	// ActivityID is sent to Exchange.
	ActivityID string
}

// Result is a successful registration.
type Result struct {
	DeviceRef int64
	// SubscriptionID is empty if another registration of the user, under way at the same time, made the newer one.
	SubscriptionID string
	// New is false if a live subscription was there and the device was added to it.
	New bool
}

// Drainer takes up what a user is owed, now that a credential is at hand. It owns the credential from then on.
type Drainer interface {
	Drain(t *tenant.Tenant, userID, generation int64, userHash [sha256.Size]byte, mailboxID []byte, endpoint string, c credential.Credential)
}

// Service registers devices. It is safe for concurrent use.
type Service struct {
	Store   *store.Store
	Clock   clock.WithTicker
	Logger  *slog.Logger
	Drainer Drainer
}

// Register lets a device in. Everything that needs no Exchange is decided before it is asked, and no device is attached
// and no subscription replaced before Exchange has said yes. Errors, to be told apart by errors.Is: ErrUnknownUser, ErrWrongKey,
// credential.ErrUndecryptable, ErrProof, ErrExchange, store.ErrOtherMailbox, store.ErrTooManyDevices, ErrNotRecorded;
// any other is the database's.
func (s *Service) Register(ctx context.Context, t *tenant.Tenant, r Request) (Result, error) {
	user, err := s.Store.UserByHash(ctx, r.UserHash)
	if errors.Is(err, store.ErrNotFound) {
		return Result{}, ErrUnknownUser
	}
	if err != nil {
		return Result{}, err
	}
	c, email, err := open(t, user, r)
	if err != nil {
		return Result{}, err
	}
	defer func() { c.Wipe(); email.Wipe() }()

	session := r.Endpoint.Client.Session(c, r.ActivityID)
	mailboxID, err := prove(ctx, session, t.Config.MailboxProof, r.UserHash, c.Username, email)
	if err != nil {
		return Result{}, err
	}
	if user.MailboxID != nil && string(user.MailboxID) != string(mailboxID) {
		return Result{}, store.ErrOtherMailbox
	}
	standing, err := s.Store.Standing(ctx, r.UserHash, r.Device.ID)
	if err != nil {
		return Result{}, err
	}
	if standing.OtherDevices >= int(t.Config.Limits.MaxDevicesPerUser) {
		return Result{}, store.ErrTooManyDevices
	}
	if s.reusable(t, standing, r) {
		ref, err := s.Store.Attach(ctx, user.ID, mailboxID, r.Device, int(t.Config.Limits.MaxDevicesPerUser), s.Clock.Now())
		return Result{DeviceRef: ref, SubscriptionID: standing.SubscriptionID}, err
	}
	return s.subscribe(ctx, t, r, user, mailboxID, session, c)
}

// open decrypts what the device sent.
func open(t *tenant.Tenant, user store.User, r Request) (c credential.Credential, email secret.Value, err error) {
	if r.KeyID != "" && r.KeyID != user.Keys.ID {
		return c, email, ErrWrongKey
	}
	key, err := t.Keyring.OpenKeyPair(user.Keys)
	if err != nil {
		return c, email, err
	}
	if r.Email != "" {
		if email, err = credential.DecryptEmail(key, r.Email, r.UserHash); err != nil {
			return c, email, err
		}
	}
	if c, err = credential.Decrypt(key, r.Scheme, r.AuthType, r.Credentials); err != nil {
		email.Wipe()
	}
	return c, email, err
}

// reusable is the rule for 6 (protocol.md): a live subscription that would not be made any different.
func (s *Service) reusable(t *tenant.Tenant, standing store.Standing, r Request) bool {
	return standing.Subscribed && !r.Force &&
		standing.Fresh(s.Clock.Now(), 2*t.Config.Notifications.StatusFrequency()) &&
		standing.Endpoint == r.Endpoint.Name &&
		standing.AuthType == r.AuthType &&
		standing.DeviceID != r.Device.ID
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
func (s *Service) subscribe(ctx context.Context, t *tenant.Tenant, r Request, user store.User, mailboxID []byte,
	session *ews.Session, c credential.Credential,
) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+r.Endpoint.Timeout())
	defer cancel()
	deadline := s.Clock.Now().Add(patience)
	pause := firstPause
	for attempt := 1; ; attempt++ {
		generation, id, err := s.attempt(ctx, t, r, user, session, c)
		if err == nil {
			return s.promote(ctx, t, r, user, mailboxID, generation, id, c)
		}
		if !errors.Is(err, ErrExchange) || !ews.Transient(err) || attempt == attempts || s.Clock.Now().Add(pause).After(deadline) {
			return Result{}, err
		}
		s.Logger.InfoContext(ctx, "Subscribing failed and is tried again", "attempt", attempt, "error", err)
		select {
		case <-s.Clock.After(pause):
			pause *= 2
		case <-ctx.Done():
			return Result{}, err
		}
	}
}

func (s *Service) attempt(ctx context.Context, t *tenant.Tenant, r Request, user store.User, session *ews.Session,
	c credential.Credential,
) (generation int64, subscriptionID string, err error) {
	generation, err = s.Store.NextGeneration(ctx)
	if err != nil {
		return 0, "", err
	}
	sealed, err := t.Keyring.SealIntoURL(t.Config.Server.CallbackURL, user.ID, generation, c)
	if err != nil {
		return 0, "", err
	}
	defer sealed.URL.Wipe()
	begun := store.Attempt{
		UserID: user.ID, Generation: generation, FillerHash: sealed.FillerHash, Key: sealed.Key,
		DeviceID: r.Device.ID, Endpoint: r.Endpoint.Name, AuthType: r.AuthType,
	}
	if err := s.Store.Begin(ctx, begun, s.Clock.Now()); err != nil {
		return 0, "", err
	}
	subscriptionID, err = session.Subscribe(ctx, ews.SubscribeRequest{
		URL: sealed.URL.RevealString(), StatusFrequency: t.Config.Notifications.StatusFrequency(),
	})
	if err == nil {
		return generation, subscriptionID, nil
	}
	if refused(err) {
		// Best effort: a pending attempt is answered Unsubscribe two minutes from now anyway.
		if err := s.Store.Abandon(ctx, user.ID, generation); err != nil {
			s.Logger.WarnContext(ctx, "A refused attempt to subscribe stays on record", "error", err)
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

func (s *Service) promote(ctx context.Context, t *tenant.Tenant, r Request, user store.User, mailboxID []byte,
	generation int64, subscriptionID string, c credential.Credential,
) (Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordingPatience)
	defer cancel()
	ref, promoted, err := s.Store.Promote(ctx, store.Promotion{
		UserID: user.ID, Generation: generation, SubscriptionID: subscriptionID, MailboxID: mailboxID,
		Device: r.Device, MaxDevices: int(t.Config.Limits.MaxDevicesPerUser),
	}, s.Clock.Now())
	if errors.Is(err, store.ErrOtherMailbox) || errors.Is(err, store.ErrTooManyDevices) {
		return Result{}, err
	}
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	if !promoted { // another device of the user was quicker, and its subscription is the newer one
		return Result{DeviceRef: ref}, nil
	}
	s.Drainer.Drain(t, user.ID, generation, user.Hash, mailboxID, r.Endpoint.Name, c.Clone())
	return Result{DeviceRef: ref, SubscriptionID: subscriptionID, New: true}, nil
}
