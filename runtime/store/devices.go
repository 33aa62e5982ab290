package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/credential"
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
	// Registered is when the device last registered or changed its token; it is read, not written.
	Registered time.Time
	// BadgeSent is the unread count that the device is known to have been told last, nil if that is not known.
	BadgeSent *int
	// SecretHash is the SHA-256 of the device secret that the device is given, and SecretUsed says that it has sent it
	// already; both are written, not read.
	SecretHash [sha256.Size]byte
	SecretUsed bool
}

// lockUser locks the user's row for the transaction, and proves the mailbox against the one on record. Errors: ErrNotFound (the
// user is gone), ErrOtherMailbox.
func lockUser(ctx context.Context, tx pgx.Tx, userID int64, mailboxID []byte, now time.Time) error {
	const lock = `UPDATE users SET mailbox_id = coalesce(mailbox_id, $2), registered_at = coalesce(registered_at, $3)
WHERE id = $1 RETURNING mailbox_id`
	var known []byte
	err := tx.QueryRow(ctx, lock, userID, mailboxID, now).Scan(&known)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	if err == nil && (len(mailboxID) == 0 || !slices.Equal(known, mailboxID)) {
		return ErrOtherMailbox
	}
	return err
}

// forgetBadge takes off the record what a device was told, since an app that registers has forgotten it. It comes before
// attachDevice, and before the other tables: their rows are locked in the order of updateStates.
func forgetBadge(ctx context.Context, tx pgx.Tx, userID int64, deviceID string) error {
	const forget = `UPDATE user_state SET badged = array_remove(badged, (SELECT ref FROM devices WHERE user_id = $1 AND device_id = $2))
WHERE user_id = $1 AND badged <> '{}'`
	_, err := tx.Exec(ctx, forget, userID, deviceID)
	return err
}

// attachDevice adds or updates a device of a user whose row is locked. Error: ErrTooManyDevices.
func attachDevice(ctx context.Context, tx pgx.Tx, userID int64, d Device, maxDevices int, now time.Time) (int64, error) {
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
    locale, device_log_id, sync_key, app_version, os_version, registered_at, secret_hash, secret_used)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (user_id, device_id) DO UPDATE SET platform = excluded.platform, token = excluded.token,
    provider = excluded.provider, app_id = excluded.app_id, push_environment = excluded.push_environment,
    policy = excluded.policy, sound = excluded.sound, badge = excluded.badge, locale = excluded.locale,
    device_log_id = excluded.device_log_id, sync_key = excluded.sync_key, app_version = excluded.app_version,
    os_version = excluded.os_version, registered_at = excluded.registered_at, retired_at = NULL, badge_sent = NULL,
    secret_hash = excluded.secret_hash, secret_used = excluded.secret_used
RETURNING ref`
	var ref int64
	err := tx.QueryRow(ctx, upsert, userID, d.ID, d.Platform, d.Token, d.Provider, d.AppID, d.PushEnvironment, d.Policy,
		d.Sound, d.Badge, d.Locale, d.DeviceLogID, d.SyncKey, d.AppVersion, d.OSVersion, now,
		d.SecretHash[:], d.SecretUsed).Scan(&ref)
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

// Removed is what removing a device came to, and what it leaves.
type Removed struct {
	Removal
	// UserID is the user's, 0 if there is no such user.
	UserID int64
	// Orphaned is the generation of the user's subscription if it carries the credential of the device that was
	// removed, and that credential will not last: the other devices have to make a new one. Else it is 0.
	Orphaned int64
}

// RemoveDevice removes a device, and with the last one the user (U-02). An empty token or endpoint is not compared.
func (s *Store) RemoveDevice(ctx context.Context, hash [sha256.Size]byte, deviceID, token, endpoint string) (Removed, error) {
	var removed Removed
	err := s.inTransaction(ctx, "removing the device", func(tx pgx.Tx) error {
		var err error
		removed, err = removeDevice(ctx, tx, hash, deviceID, token, endpoint)
		return err
	})
	return removed, err
}

func removeDevice(ctx context.Context, tx pgx.Tx, hash [sha256.Size]byte, deviceID, token, endpoint string) (Removed, error) {
	var userID int64
	err := tx.QueryRow(ctx, `SELECT id FROM users WHERE user_hash = $1 FOR UPDATE`, hash[:]).Scan(&userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Removed{Removal: UnknownUser}, nil
	}
	if err != nil {
		return Removed{}, err
	}
	if endpoint != "" {
		var other bool
		const differs = `SELECT EXISTS (SELECT 1 FROM subscriptions WHERE user_id = $1 AND state = 'active' AND endpoint <> $2)`
		if err := tx.QueryRow(ctx, differs, userID, endpoint).Scan(&other); err != nil {
			return Removed{}, err
		}
		if other {
			return Removed{Removal: OtherEndpoint, UserID: userID}, nil
		}
	}
	// In the order in which those who work for the user lock them.
	for _, lock := range []string{
		`SELECT FROM user_state WHERE user_id = $1 FOR UPDATE`,
		`SELECT FROM pending WHERE user_id = $1 ORDER BY user_id, kind, item FOR UPDATE`,
	} {
		if _, err := tx.Exec(ctx, lock, userID); err != nil {
			return Removed{}, err
		}
	}
	const remove = `DELETE FROM devices WHERE user_id = $1 AND device_id = $2 AND ($3 = '' OR token = $3)`
	tag, err := tx.Exec(ctx, remove, userID, deviceID, token)
	if err != nil {
		return Removed{}, err
	}
	if tag.RowsAffected() == 0 {
		return Removed{Removal: UnknownDevice, UserID: userID}, nil
	}
	const removeLonely = `DELETE FROM users WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM devices WHERE user_id = $1 AND retired_at IS NULL)`
	tag, err = tx.Exec(ctx, removeLonely, userID)
	if err != nil {
		return Removed{}, err
	}
	if tag.RowsAffected() > 0 {
		return Removed{Removal: RemovedUser, UserID: userID}, nil
	}
	orphaned, err := orphaned(ctx, tx, userID, deviceID)
	return Removed{Removal: RemovedDevice, UserID: userID, Orphaned: orphaned}, err
}

// orphaned returns the generation of the user's subscription if it lives by a credential of the device that somebody
// else's cannot stand in for: a password is the user's, a token or a certificate the device's (protocol.md, unregister).
func orphaned(ctx context.Context, tx pgx.Tx, userID int64, deviceID string) (int64, error) {
	const carried = `SELECT generation FROM subscriptions WHERE user_id = $1 AND state = 'active' AND device_id = $2 AND auth_type <> $3`
	var generation int64
	err := tx.QueryRow(ctx, carried, userID, deviceID, credential.Basic).Scan(&generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return generation, err
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
