package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// refusalGap is how far apart two answers 401 must lie before a credential counts as refused (protocol.md, Callback
// semantics): a directory that is away for a moment refuses everybody.
const refusalGap = 5 * time.Minute

// RefusalGap is how long a credential that was answered 401 is left alone before it is tried again.
const RefusalGap = refusalGap

// Used names the credential that was used: that of a subscription, in the version that the device counts.
type Used struct {
	UserID, Generation, Sequence int64
}

// NoteUnauthorized takes note of a 401. The credential is marked refused if Exchange said why (certain), or if the first
// 401 since it last worked is at least RefusalGap ago. It returns whether that is the case from now on; the devices are
// then owed a Resubscribe.
func (s *Store) NoteUnauthorized(ctx context.Context, used Used, certain bool, now time.Time) (refused bool, err error) {
	const note = `UPDATE subscriptions SET unauthorized_at = coalesce(unauthorized_at, $4),
    refused_at = CASE WHEN $5 OR unauthorized_at <= $6 THEN $4 END
WHERE user_id = $1 AND generation = $2 AND sequence = $3 AND state = 'active' AND refused_at IS NULL
RETURNING refused_at IS NOT NULL`
	err = s.inTransaction(ctx, "taking note of a refused credential", func(tx pgx.Tx) error {
		// In the order in which those who unregister lock them.
		if _, err := tx.Exec(ctx, `SELECT FROM users WHERE id = $1 FOR KEY SHARE`, used.UserID); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, note, used.UserID, used.Generation, used.Sequence, now, certain, now.Add(-refusalGap)).Scan(&refused)
		if errors.Is(err, pgx.ErrNoRows) { // refused already, or replaced by another credential
			return nil
		}
		if err != nil || !refused {
			return err
		}
		return oweResubscribe(ctx, tx, used, now)
	})
	return refused && err == nil, err
}

// oweResubscribe puts it on record that the user's devices are to be asked to register again, so that they are even if
// this replica dies before it does.
func oweResubscribe(ctx context.Context, tx pgx.Tx, used Used, now time.Time) error {
	const owe = `INSERT INTO pending AS p (user_id, kind, item, generation, created_at) VALUES ($1, $2, '', $3, $4)
ON CONFLICT (user_id, kind, item) DO UPDATE SET generation = excluded.generation, revision = p.revision + 1, done = '{}',
    done_at = NULL, attempts = 0, created_at = excluded.created_at, lease_owner = NULL, lease_until = NULL`
	_, err := tx.Exec(ctx, owe, used.UserID, int16(Resubscribe), used.Generation, now)
	return err
}

// LeaveAlone takes note of a 401 that says nothing about the credential, because everybody was refused: it is not tried
// again for RefusalGap, and does not count as refused.
func (s *Store) LeaveAlone(ctx context.Context, used Used, now time.Time) error {
	const note = `UPDATE subscriptions SET unauthorized_at = $4
WHERE user_id = $1 AND generation = $2 AND sequence = $3 AND state = 'active' AND refused_at IS NULL`
	return s.exec(ctx, "leaving a credential alone", note, used.UserID, used.Generation, used.Sequence, now)
}

// NoteAuthorized takes note that a credential that was answered 401 works after all.
func (s *Store) NoteAuthorized(ctx context.Context, used Used) error {
	const note = `UPDATE subscriptions SET unauthorized_at = NULL WHERE user_id = $1 AND generation = $2 AND refused_at IS NULL`
	return s.exec(ctx, "taking note that a credential works", note, used.UserID, used.Generation)
}

// genericGap is how far apart the notifications lie that a refused credential leads to (protocol.md).
const genericGap = 5 * time.Minute

// TakeGeneric asks for the one notification in five minutes that a user with a refused credential gets. It returns
// whether it may be sent.
func (s *Store) TakeGeneric(ctx context.Context, userID int64, now time.Time) (bool, error) {
	const take = `UPDATE user_state SET generic_at = $2 WHERE user_id = $1 AND (generic_at IS NULL OR generic_at <= $3)`
	tag, err := s.pool.Exec(ctx, take, userID, now, now.Add(-genericGap))
	if err != nil {
		return false, fmt.Errorf("asking for a notification: %w", s.noting(err))
	}
	return tag.RowsAffected() > 0, nil
}
