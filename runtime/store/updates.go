package store

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/push"
)

var (
	// ErrSecret says that a device secret is wrong, or missing where it has been used before.
	ErrSecret = errors.New("the device secret is missing or wrong")
	// ErrTooManyChanges says that the device's token has been changed as often as it may in a day.
	ErrTooManyChanges = errors.New("the device's token has been changed too often today")
	// ErrSequence says that a credential is not newer than the one that is there.
	ErrSequence = errors.New("the sequence must be larger than the last")
)

// Identity is a device that a call is about.
type Identity struct {
	UserID, Ref int64
	Platform    push.Platform
	// SecretUsed says that the device has sent its secret, now or before.
	SecretUsed bool
}

// Identify finds a device and checks its secret: SHA-256 of what it sent, nil if it sent none. Once it has sent the right
// one it has to from then on. Errors: ErrNotFound (user or device), ErrSecret.
func (s *Store) Identify(ctx context.Context, hash [sha256.Size]byte, deviceID string, secretHash []byte) (Identity, error) {
	const find = `SELECT u.id, d.ref, d.platform, d.secret_hash, d.secret_used FROM users u JOIN devices d ON d.user_id = u.id
WHERE u.user_hash = $1 AND d.device_id = $2`
	var found Identity
	var known []byte
	err := s.pool.QueryRow(ctx, find, hash[:], deviceID).Scan(&found.UserID, &found.Ref, &found.Platform, &known, &found.SecretUsed)
	if errors.Is(err, pgx.ErrNoRows) {
		return Identity{}, ErrNotFound
	}
	if err != nil {
		return Identity{}, fmt.Errorf("looking up the device: %w", s.noting(err))
	}
	switch {
	case secretHash == nil && !found.SecretUsed:
		return found, nil
	case len(known) == 0 || subtle.ConstantTimeCompare(known, secretHash) == 0:
		return Identity{}, ErrSecret
	case !found.SecretUsed:
		found.SecretUsed = true
		return found, s.exec(ctx, "recording that the device has a secret", `UPDATE devices SET secret_used = true WHERE ref = $1`, found.Ref)
	default:
		return found, nil
	}
}

const (
	// maxTokenChanges is how often a device's token may be changed in tokenChangesDay (protocol.md, Updates): whoever holds
	// the API token could send a colleague's notifications elsewhere.
	maxTokenChanges = 3
	tokenChangesDay = 24 * time.Hour
)

// ChangeToken gives a device another token. The token it has already is no change. A device whose token was dead lives
// again. Errors: ErrNotFound, ErrTooManyChanges.
func (s *Store) ChangeToken(ctx context.Context, ref int64, token string, now time.Time) error {
	return s.inTransaction(ctx, "changing the device's token", func(tx pgx.Tx) error {
		// Before the device's row, as all do.
		const forget = `UPDATE user_state SET badged = array_remove(badged, $1)
WHERE user_id = (SELECT user_id FROM devices WHERE ref = $1 AND token <> $2) AND $1 = ANY (badged)`
		if _, err := tx.Exec(ctx, forget, ref, token); err != nil {
			return err
		}
		var known string
		var changes int
		var since *time.Time
		const look = `SELECT token, token_changes, token_changes_since FROM devices WHERE ref = $1 FOR UPDATE`
		err := tx.QueryRow(ctx, look, ref).Scan(&known, &changes, &since)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || known == token {
			return err
		}
		if since == nil || now.Sub(*since) >= tokenChangesDay {
			changes, since = 0, &now
		}
		if changes >= maxTokenChanges {
			return ErrTooManyChanges
		}
		const change = `UPDATE devices SET token = $2, token_changes = $3, token_changes_since = $4,
    retired_at = NULL, registered_at = $5, badge_sent = NULL WHERE ref = $1`
		_, err = tx.Exec(ctx, change, ref, token, changes+1, since, now)
		return err
	})
}

// ChangeSyncKey gives all devices of the user another synchronization key (P-15). Error: ErrNotFound (no such user).
func (s *Store) ChangeSyncKey(ctx context.Context, hash [sha256.Size]byte, syncKey string) error {
	const change = `WITH found AS (SELECT id FROM users WHERE user_hash = $1),
changed AS (UPDATE devices SET sync_key = $2 WHERE user_id = (SELECT id FROM found))
SELECT count(*) FROM found`
	var users int
	if err := s.pool.QueryRow(ctx, change, hash[:], syncKey).Scan(&users); err != nil {
		return fmt.Errorf("changing the synchronization key: %w", s.noting(err))
	}
	if users == 0 {
		return ErrNotFound
	}
	return nil
}

// Settings are what a device may change of itself without registering again; what is nil stays as it is.
type Settings struct {
	Policy *int
	Sound  *string
	Badge  *bool
	Locale *string
}

// ChangeSettings changes a device's settings. Error: ErrNotFound.
func (s *Store) ChangeSettings(ctx context.Context, ref int64, settings Settings) error {
	const change = `UPDATE devices SET policy = coalesce($2, policy), sound = coalesce($3, sound), badge = coalesce($4, badge),
    locale = coalesce($5, locale) WHERE ref = $1`
	tag, err := s.pool.Exec(ctx, change, ref, settings.Policy, settings.Sound, settings.Badge, settings.Locale)
	if err != nil {
		return fmt.Errorf("changing the device's settings: %w", s.noting(err))
	}
	if tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// OfferCredential keeps a newer credential for the user's subscription, as the device sealed it, until a callback brings
// the key that shows whether it opens. The same offer again is no fault. Errors: ErrNotFound if there is no subscription
// that the device made and may update, ErrSequence.
func (s *Store) OfferCredential(ctx context.Context, userID int64, deviceID string, sequence int64, blob string) error {
	return s.inTransaction(ctx, "keeping the credential", func(tx pgx.Tx) error {
		const look = `SELECT generation, greatest(sequence, update_sequence), coalesce(update_blob, '') FROM subscriptions
WHERE user_id = $1 AND state = 'active' AND device_id = $2 AND updatable FOR UPDATE`
		var generation, last int64
		var waiting string
		err := tx.QueryRow(ctx, look, userID, deviceID).Scan(&generation, &last, &waiting)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || sequence == last && blob == waiting {
			return err
		}
		if sequence <= last {
			return ErrSequence
		}
		const offer = `UPDATE subscriptions SET update_blob = $3, update_sequence = $4 WHERE user_id = $1 AND generation = $2`
		_, err = tx.Exec(ctx, offer, userID, generation, blob, sequence)
		return err
	})
}

// AcceptCredential makes a credential that was offered the subscription's own, now that it has opened: blob is what
// rests here of it from now on. Its predecessor may have been refused, it has not.
func (s *Store) AcceptCredential(ctx context.Context, userID, generation, sequence int64, blob []byte) (bool, error) {
	const accept = `UPDATE subscriptions SET blob = $4, sequence = $3, update_blob = NULL, update_sequence = NULL,
    unauthorized_at = NULL, refused_at = NULL
WHERE user_id = $1 AND generation = $2 AND update_sequence = $3`
	return s.changed(ctx, "taking the newer credential", accept, userID, generation, sequence, blob)
}

// RejectCredential forgets a credential that was offered and did not open. The one before stays. It returns false if
// somebody else was quicker.
func (s *Store) RejectCredential(ctx context.Context, userID, generation, sequence int64) (bool, error) {
	const reject = `UPDATE subscriptions SET update_blob = NULL, update_sequence = NULL
WHERE user_id = $1 AND generation = $2 AND update_sequence = $3`
	return s.changed(ctx, "forgetting a credential that does not open", reject, userID, generation, sequence)
}

// changed runs a statement and returns whether it changed anything.
func (s *Store) changed(ctx context.Context, doing, sql string, args ...any) (bool, error) {
	tag, err := s.pool.Exec(ctx, sql, args...)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, s.noting(err))
	}
	return tag.RowsAffected() > 0, nil
}
