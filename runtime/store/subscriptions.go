package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// State is the state of a subscription's row (protocol.md, Subscriptions and generations).
type State string

// The states.
const (
	// Pending: Subscribe has been or is being sent.
	Pending State = "pending"
	// Active: Exchange has said yes. There is at most one a user.
	Active State = "active"
	// Retired: a newer one is active.
	Retired State = "retired"
)

// Attempt is one Subscribe attempt.
type Attempt struct {
	UserID, Generation int64
	FillerHash         [sha256.Size]byte
	// Key is the sealed subscription key, and Blob the credential, if it does not rest in the URL.
	Key, Blob []byte
	// WebhookKey is the number of the webhook key that signed the URL.
	WebhookKey int
	// Updatable says that the device may send newer credentials, and Sequence is that of this one.
	Updatable bool
	Sequence  int64
	// DeviceID is the device whose credential it carries.
	DeviceID string
	// Endpoint is the name of the tenant's endpoint.
	Endpoint string
	AuthType credential.AuthType
}

// NextGeneration returns a generation that nobody else has, higher than all before.
func (s *Store) NextGeneration(ctx context.Context) (int64, error) {
	var generation int64
	if err := s.pool.QueryRow(ctx, `SELECT nextval('generations')`).Scan(&generation); err != nil {
		return 0, fmt.Errorf("taking a generation: %w", s.noting(err))
	}
	return generation, nil
}

// Begin records an attempt as pending. It must be on record before Subscribe is sent, since Exchange's first post may
// be quicker than its answer. It is on disk when the attempt is promoted: one that is lost before has to be made again anyway.
func (s *Store) Begin(ctx context.Context, a Attempt, now time.Time) error {
	const insert = `
INSERT INTO subscriptions (user_id, generation, state, f_hash, key_sealed, device_id, endpoint, auth_type, created_at,
    webhook_key, blob, updatable, sequence)
VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	return s.execSoon(ctx, "recording the attempt to subscribe", insert,
		a.UserID, a.Generation, a.FillerHash[:], a.Key, a.DeviceID, a.Endpoint, a.AuthType, now,
		a.WebhookKey, a.Blob, a.Updatable, a.Sequence)
}

// Abandon forgets an attempt that Exchange has refused.
func (s *Store) Abandon(ctx context.Context, userID, generation int64) error {
	const remove = `DELETE FROM subscriptions WHERE user_id = $1 AND generation = $2 AND state = 'pending'`
	return s.exec(ctx, "forgetting the attempt to subscribe", remove, userID, generation)
}

// Promotion is an attempt that Exchange has said yes to.
type Promotion struct {
	UserID, Generation int64
	SubscriptionID     string
	MailboxID          []byte
	Device             Device
	MaxDevices         int
	// CatchUp is in which time mail may have come of which Exchange told nobody, zero if none can. It becomes a row of the
	// journal.
	CatchUp Gap
}

// Promote makes an attempt the active subscription unless a newer one is, retires the older ones, and attaches the
// device: all or nothing. It returns the device's ref and whether the attempt became active. Errors: ErrNotFound,
// ErrOtherMailbox, ErrTooManyDevices.
func (s *Store) Promote(ctx context.Context, p Promotion, now time.Time) (ref int64, promoted bool, err error) {
	err = s.inTransaction(ctx, "recording the subscription", func(tx pgx.Tx) error {
		if err := lockUser(ctx, tx, p.UserID, p.MailboxID, now); err != nil {
			return err
		}
		// The user's row is locked, so two registrations do this one after the other. The other tables' rows are locked in
		// the order of updateStates.
		if _, err := tx.Exec(ctx, `UPDATE user_state SET nudges = 0, nudge_at = NULL WHERE user_id = $1 AND nudges > 0`, p.UserID); err != nil {
			return err
		}
		if err := forgetBadge(ctx, tx, p.UserID, p.Device.ID); err != nil {
			return err
		}
		const retire = `UPDATE subscriptions SET state = 'retired'
WHERE user_id = $1 AND generation < $2 AND state <> 'retired'`
		if _, err := tx.Exec(ctx, retire, p.UserID, p.Generation); err != nil {
			return err
		}
		const activate = `
UPDATE subscriptions SET subscription_id = $3, promoted_at = $4,
    state = CASE WHEN EXISTS (SELECT 1 FROM subscriptions WHERE user_id = $1 AND state = 'active') THEN 'retired' ELSE 'active' END
WHERE user_id = $1 AND generation = $2 AND state = 'pending'
RETURNING state = 'active'`
		err := tx.QueryRow(ctx, activate, p.UserID, p.Generation, p.SubscriptionID, now).Scan(&promoted)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // no row: retired meanwhile by a newer one
			return err
		}
		if promoted && !p.CatchUp.IsZero() {
			if err := oweCatchUp(ctx, tx, p, now); err != nil {
				return err
			}
		}
		ref, err = attachDevice(ctx, tx, p.UserID, p.Device, p.MaxDevices, now)
		return err
	})
	return ref, promoted && err == nil, err
}

// oweCatchUp writes into the journal that what came since has to be looked up, for whoever gets a credential next. A look at
// the same gap that was there before does not count, done or under way: since then mail may have come that was waiting
// for the subscription before when that one ended.
func oweCatchUp(ctx context.Context, tx pgx.Tx, p Promotion, now time.Time) error {
	const insert = `INSERT INTO pending AS p (user_id, kind, item, generation, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, kind, item) DO UPDATE SET generation = excluded.generation, created_at = excluded.created_at,
    revision = p.revision + 1, attempts = 0, done = '{}', done_at = NULL, lease_owner = NULL, lease_until = NULL`
	_, err := tx.Exec(ctx, insert, p.UserID, CatchUp, p.CatchUp.String(), p.Generation, now)
	return err
}

// Attach adds or updates a device of a user who has a live subscription. Errors as of Promote.
func (s *Store) Attach(ctx context.Context, userID int64, mailboxID []byte, d Device, maxDevices int, now time.Time) (int64, error) {
	var ref int64
	err := s.inTransaction(ctx, "attaching the device", func(tx pgx.Tx) error {
		err := lockUser(ctx, tx, userID, mailboxID, now)
		if err == nil {
			err = forgetBadge(ctx, tx, userID, d.ID)
		}
		if err == nil {
			ref, err = attachDevice(ctx, tx, userID, d, maxDevices, now)
		}
		return err
	})
	return ref, err
}

// Standing is how a user stands.
type Standing struct {
	// Subscribed says that there is an active subscription; the fields up to LastCallback describe it.
	Subscribed     bool
	Generation     int64
	SubscriptionID string
	DeviceID       string
	Endpoint       string
	AuthType       credential.AuthType
	PromotedAt     time.Time
	// Refused says that Exchange refuses the credential it carries.
	Refused bool
	// Orphaned says that the device whose token or certificate it carries is gone.
	Orphaned bool
	// LastCallback is when Exchange last posted for the user, zero if never.
	LastCallback time.Time
	// RegisteredAt is when the first of the user's devices registered, zero if none has.
	RegisteredAt time.Time
	// Newest begins with the newest mail that was seen here, by Exchange's clock; zero if there was none.
	Newest Gap
	// OtherDevices counts the user's living devices but the one asked about.
	OtherDevices int
	// DeviceKnown says that the device asked about is registered, and DeviceRef is its ref.
	DeviceKnown bool
	DeviceRef   int64
}

// Fresh reports whether Exchange has posted within the given time.
func (s Standing) Fresh(now time.Time, within time.Duration) bool {
	return !s.LastCallback.IsZero() && now.Sub(s.LastCallback) < within
}

// Standing looks a user and one of the devices up. Error: ErrNotFound (no such user).
func (s *Store) Standing(ctx context.Context, hash [sha256.Size]byte, deviceID string) (Standing, error) {
	const query = `
SELECT s.generation, s.subscription_id, s.device_id, s.endpoint, s.auth_type, s.promoted_at, s.refused_at IS NOT NULL,
    s.auth_type <> $3 AND NOT EXISTS (SELECT 1 FROM devices c WHERE c.user_id = u.id AND c.device_id = s.device_id AND c.retired_at IS NULL),
    u.registered_at, st.last_callback, st.newest_mail, st.newest_items, d.ref,
    (SELECT count(*) FROM devices o WHERE o.user_id = u.id AND o.device_id <> $2 AND o.retired_at IS NULL)
FROM users u
LEFT JOIN subscriptions s ON s.user_id = u.id AND s.state = 'active'
LEFT JOIN user_state st ON st.user_id = u.id
LEFT JOIN devices d ON d.user_id = u.id AND d.device_id = $2 AND d.retired_at IS NULL
WHERE u.user_hash = $1`
	var generation, ref *int64
	var others int
	var subscriptionID, subscriber, endpoint *string
	var authType *credential.AuthType
	var promoted, registered, callback, newest *time.Time
	var refused, orphaned *bool
	var seen []ItemHash
	err := s.pool.QueryRow(ctx, query, hash[:], deviceID, credential.Basic).Scan(&generation, &subscriptionID, &subscriber,
		&endpoint, &authType, &promoted, &refused, &orphaned, &registered, &callback, &newest, &seen, &ref, &others)
	if errors.Is(err, pgx.ErrNoRows) {
		return Standing{}, fmt.Errorf("looking up how the user stands: %w", ErrNotFound)
	}
	if err != nil {
		return Standing{}, fmt.Errorf("looking up how the user stands: %w", s.noting(err))
	}
	standing := Standing{
		LastCallback: orZero(callback), RegisteredAt: orZero(registered), Newest: Gap{Since: orZero(newest), Seen: seen}, OtherDevices: others, DeviceKnown: ref != nil, DeviceRef: orZero(ref),
	}
	if generation != nil {
		standing.Subscribed = true
		standing.Generation = *generation
		standing.SubscriptionID = orZero(subscriptionID)
		standing.DeviceID = orZero(subscriber)
		standing.Endpoint = orZero(endpoint)
		standing.AuthType = orZero(authType)
		standing.PromotedAt = orZero(promoted)
		standing.Refused, standing.Orphaned = orZero(refused), orZero(orphaned)
	}
	return standing, nil
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// Lost ends a subscription of which Exchange itself has said that it is gone: the device's next status call then tells
// it to register again. It returns false if the generation is not active any more.
func (s *Store) Lost(ctx context.Context, userID, generation int64) (bool, error) {
	const retire = `UPDATE subscriptions SET state = 'retired' WHERE user_id = $1 AND generation = $2 AND state = 'active'`
	tag, err := s.pool.Exec(ctx, retire, userID, generation)
	if err != nil {
		return false, fmt.Errorf("ending the lost subscription: %w", s.noting(err))
	}
	return tag.RowsAffected() > 0, nil
}

// DropStaleSubscriptions forgets retired and never answered subscriptions made before the given time, unless another one
// has taken their place since: what Exchange still posts for one that has just been retired may be news.
func (s *Store) DropStaleSubscriptions(ctx context.Context, before time.Time) error {
	const drop = `DELETE FROM subscriptions s WHERE state <> 'active' AND created_at < $1
AND NOT EXISTS (SELECT 1 FROM subscriptions a WHERE a.user_id = s.user_id AND a.state = 'active' AND a.promoted_at >= $1)`
	return s.exec(ctx, "forgetting old subscriptions", drop, before)
}
