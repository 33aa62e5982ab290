package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/push"
)

// Device is one phone of a user.
type Device struct {
	// Ref is the small number in the logs; the store gives it.
	Ref int64
	// ID is the device's own id (EAS id), at most 128 characters.
	ID       string
	Platform push.Platform
	Token    string
	// Provider is the name of the push provider that serves the device.
	Provider        string
	AppID           string
	PushEnvironment string
	// Policy is the device's own limit of what it is shown, 0..4 (N-01 to N-05).
	Policy      int
	Sound       string
	Badge       bool
	Locale      string
	DeviceLogID string
	SyncKey     string
	AppVersion  string
	OSVersion   string
	// BadgeSent is the last unread count the device was told, nil if none.
	BadgeSent *int
}

// attach proves the mailbox against the one on record, and adds or updates the device, within a transaction that has
// locked the user. Errors: ErrNotFound (the user is gone), ErrOtherMailbox, ErrTooManyDevices.
func attach(ctx context.Context, tx pgx.Tx, userID int64, mailboxID []byte, d Device, maxDevices int, now time.Time) (int64, error) {
	const lockUser = `UPDATE users SET mailbox_id = coalesce(mailbox_id, $2), registered_at = coalesce(registered_at, $3)
WHERE id = $1 RETURNING mailbox_id`
	var known []byte
	err := tx.QueryRow(ctx, lockUser, userID, mailboxID, now).Scan(&known)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	if len(mailboxID) == 0 || !slices.Equal(known, mailboxID) {
		return 0, ErrOtherMailbox
	}
	var others int
	const countOthers = `SELECT count(*) FROM devices WHERE user_id = $1 AND device_id <> $2`
	if err := tx.QueryRow(ctx, countOthers, userID, d.ID).Scan(&others); err != nil {
		return 0, err
	}
	if others >= maxDevices {
		// A device whose token is dead stays on record, since it may register again, until its room is needed.
		const makeRoom = `DELETE FROM devices WHERE user_id = $1 AND device_id <> $2 AND retired_at IS NOT NULL`
		tag, err := tx.Exec(ctx, makeRoom, userID, d.ID)
		if err != nil {
			return 0, err
		}
		if others-int(tag.RowsAffected()) >= maxDevices {
			return 0, ErrTooManyDevices
		}
	}
	const upsert = `
INSERT INTO devices (user_id, device_id, platform, token, provider, app_id, push_environment, policy, sound, badge,
    locale, device_log_id, sync_key, app_version, os_version, registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (user_id, device_id) DO UPDATE SET platform = excluded.platform, token = excluded.token,
    provider = excluded.provider, app_id = excluded.app_id, push_environment = excluded.push_environment,
    policy = excluded.policy, sound = excluded.sound, badge = excluded.badge, locale = excluded.locale,
    device_log_id = excluded.device_log_id, sync_key = excluded.sync_key, app_version = excluded.app_version,
    os_version = excluded.os_version, registered_at = excluded.registered_at, retired_at = NULL, badge_sent = NULL
RETURNING ref`
	var ref int64
	err = tx.QueryRow(ctx, upsert, userID, d.ID, d.Platform, d.Token, d.Provider, d.AppID, d.PushEnvironment, d.Policy,
		d.Sound, d.Badge, d.Locale, d.DeviceLogID, d.SyncKey, d.AppVersion, d.OSVersion, now).Scan(&ref)
	return ref, err
}

// Removal is what removing a device came to.
type Removal int

// The removals.
const (
	// RemovedDevice: other living devices of the user remain.
	RemovedDevice Removal = iota + 1
	// RemovedUser: it was the last living one, and everything of the user is gone.
	RemovedUser
	// UnknownDevice: there is no such device, or it has another token.
	UnknownDevice
	// UnknownUser: there is no such user.
	UnknownUser
	// OtherEndpoint: the caller named another endpoint than the subscription's.
	OtherEndpoint
)

// RemoveDevice removes a device, and with the last one the user (U-02). An empty token or endpoint is not compared.
func (s *Store) RemoveDevice(ctx context.Context, hash [sha256.Size]byte, deviceID, token, endpoint string) (Removal, error) {
	var removal Removal
	err := s.inTransaction(ctx, "removing the device", func(tx pgx.Tx) error {
		var err error
		removal, err = removeDevice(ctx, tx, hash, deviceID, token, endpoint)
		return err
	})
	return removal, err
}

func removeDevice(ctx context.Context, tx pgx.Tx, hash [sha256.Size]byte, deviceID, token, endpoint string) (Removal, error) {
	var userID int64
	err := tx.QueryRow(ctx, `SELECT id FROM users WHERE user_hash = $1 FOR UPDATE`, hash[:]).Scan(&userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return UnknownUser, nil
	}
	if err != nil {
		return 0, err
	}
	if endpoint != "" {
		var other bool
		const differs = `SELECT EXISTS (SELECT 1 FROM subscriptions WHERE user_id = $1 AND state = 'active' AND endpoint <> $2)`
		if err := tx.QueryRow(ctx, differs, userID, endpoint).Scan(&other); err != nil {
			return 0, err
		}
		if other {
			return OtherEndpoint, nil
		}
	}
	// In the order in which those who work for the user lock them.
	for _, lock := range []string{
		`SELECT FROM user_state WHERE user_id = $1 FOR UPDATE`,
		`SELECT FROM pending WHERE user_id = $1 ORDER BY user_id, kind, item FOR UPDATE`,
	} {
		if _, err := tx.Exec(ctx, lock, userID); err != nil {
			return 0, err
		}
	}
	const remove = `DELETE FROM devices WHERE user_id = $1 AND device_id = $2 AND ($3 = '' OR token = $3)`
	tag, err := tx.Exec(ctx, remove, userID, deviceID, token)
	if err != nil {
		return 0, err
	}
	if tag.RowsAffected() == 0 {
		return UnknownDevice, nil
	}
	const removeLonely = `DELETE FROM users WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM devices WHERE user_id = $1 AND retired_at IS NULL)`
	tag, err = tx.Exec(ctx, removeLonely, userID)
	if err != nil {
		return 0, err
	}
	if tag.RowsAffected() > 0 {
		return RemovedUser, nil
	}
	return RemovedDevice, nil
}

// RetireDevice stops pushing to a device whose token the provider called dead, if that is still its token and it has
// not registered again since the time the provider named (or, if it named none, since before).
func (s *Store) RetireDevice(ctx context.Context, ref int64, token string, deadSince, now time.Time) error {
	const retire = `UPDATE devices SET retired_at = $4
WHERE ref = $1 AND token = $2 AND retired_at IS NULL AND ($3::timestamptz IS NULL OR registered_at <= $3)`
	var since *time.Time
	if !deadSince.IsZero() {
		since = &deadSince
	}
	return s.exec(ctx, "retiring a device", retire, ref, token, since, now)
}

// Target is what a user's notifications need: the user's living devices, and the last known unread count.
type Target struct {
	Devices []Device
	Unread  *int
}

const selectTargets = `
SELECT i.ord, d.ref, d.device_id, d.platform, d.token, d.provider, d.app_id, d.policy, d.sound, d.badge, d.locale,
    d.device_log_id, d.badge_sent, st.unread
FROM unnest($1::bigint[]) WITH ORDINALITY AS i(user_id, ord)
JOIN devices d ON d.user_id = i.user_id AND d.retired_at IS NULL
LEFT JOIN user_state st ON st.user_id = i.user_id
ORDER BY i.ord, d.ref`

// Target returns the devices of a user. Batched.
func (s *Store) Target(ctx context.Context, userID int64) (Target, error) {
	return s.batches.targets.do(ctx, userID)
}

func (s *Store) selectTargets(ctx context.Context, userIDs []int64) ([]Target, error) {
	rows, err := s.hot.Query(ctx, selectTargets, userIDs)
	if err != nil {
		return nil, s.noting(err)
	}
	targets := make([]Target, len(userIDs))
	var ord int
	var d Device
	var unread *int
	fields := []any{&ord, &d.Ref, &d.ID, &d.Platform, &d.Token, &d.Provider, &d.AppID, &d.Policy, &d.Sound, &d.Badge,
		&d.Locale, &d.DeviceLogID, &d.BadgeSent, &unread}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		target := &targets[ord-1]
		target.Devices = append(target.Devices, d)
		target.Unread = unread
		d.BadgeSent, unread = nil, nil
		return nil
	})
	if err != nil {
		return nil, s.noting(err)
	}
	return targets, nil
}

// Told is what was told to a user's devices.
type Told struct {
	UserID int64
	// Unread is the count they were told, nil if it is not known.
	Unread *int
	// Badged are the refs of the devices that were told Unread.
	Badged []int64
	// Delivered says that at least one notification was accepted by a provider.
	Delivered bool
}

// RecordTold remembers the unread count for the next badge.
func (s *Store) RecordTold(ctx context.Context, told Told, now time.Time) error {
	const record = `
WITH badge AS (UPDATE devices SET badge_sent = $2 WHERE user_id = $1 AND ref = ANY($3))
UPDATE user_state SET unread = coalesce($2, unread), last_delivery = CASE WHEN $4 THEN $5 ELSE last_delivery END
WHERE user_id = $1`
	if err := s.exec(ctx, "recording what was told", record, told.UserID, told.Unread, told.Badged, told.Delivered, now); err != nil {
		return fmt.Errorf("user %d: %w", told.UserID, err)
	}
	return nil
}
