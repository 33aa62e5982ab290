package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Silent is a user whose mail is not told any more, because Exchange has stopped posting or refuses the credential.
type Silent struct {
	UserID   int64
	UserHash [sha256.Size]byte
	// Generation is that of the user's subscription, 0 if there is none.
	Generation int64
	// Nudges is how often the devices have been asked to register since they last did, this time included.
	Nudges int
}

// maxNudgePause is the longest time between two nudges.
const maxNudgePause = 24 * time.Hour

// A user counts as silent if nothing has been heard for the time after which a subscription counts as lost (H-03), has
// been refused for as long, or has had no subscription for as long. Whoever is taken is left alone for that time, then
// for twice, four times and so on, give or take a fifth, so that those who were lost together do not come back together.
//
// Of a million users the narrow rows alone are read. Of those who may be silent by these, one after the other is looked at in
// the wide ones, until enough are found: OFFSET 0 has Postgres not look at all of them first. They are locked after that, so
// that no callback waits for the search.
const takeSilent = `
WITH candidates AS (
    SELECT user_id, nudge_at FROM user_state
    WHERE (nudge_at IS NULL OR nudge_at <= $1) AND (last_callback IS NULL OR last_callback < $2)
    UNION ALL
    SELECT st.user_id, st.nudge_at FROM subscriptions s JOIN user_state st ON st.user_id = s.user_id
    WHERE s.refused_at < $2 AND s.state = 'active' AND (st.nudge_at IS NULL OR st.nudge_at <= $1) AND st.last_callback >= $2),
silent AS (
    SELECT c.user_id, found.user_hash, found.generation
    FROM (SELECT user_id FROM candidates ORDER BY nudge_at NULLS FIRST) c
    CROSS JOIN LATERAL (
        SELECT u.user_hash, coalesce(s.generation, 0) AS generation
        FROM users u LEFT JOIN subscriptions s ON s.user_id = u.id AND s.state = 'active'
        WHERE u.id = c.user_id AND u.registered_at IS NOT NULL
          AND (s.refused_at < $2 OR greatest(s.promoted_at, u.registered_at) < $2)
          AND EXISTS (SELECT 1 FROM devices d WHERE d.user_id = u.id AND d.retired_at IS NULL)
        OFFSET 0) found
    LIMIT $3),
locked AS (
    SELECT st.user_id FROM user_state st JOIN silent ON silent.user_id = st.user_id
    WHERE st.nudge_at IS NULL OR st.nudge_at <= $1 FOR NO KEY UPDATE OF st SKIP LOCKED)
UPDATE user_state st SET nudges = least(st.nudges + 1, 1000),
    nudge_at = $1 + make_interval(secs => least($4 * 2 ^ least(st.nudges, 20), $5) * (0.8 + 0.4 * random()))
FROM locked JOIN silent ON silent.user_id = locked.user_id
WHERE st.user_id = locked.user_id
RETURNING st.user_id, silent.user_hash, silent.generation, st.nudges`

// TakeSilent takes up to limit users who are to be asked to register again. lost is the time after which a subscription
// counts as lost. Of several replicas one gets each.
func (s *Store) TakeSilent(ctx context.Context, now time.Time, lost time.Duration, limit int) ([]Silent, error) {
	rows, err := s.pool.Query(ctx, takeSilent, now, now.Add(-lost), limit, lost.Seconds(), maxNudgePause.Seconds())
	if err != nil {
		return nil, fmt.Errorf("looking for users whose subscription is lost: %w", s.noting(err))
	}
	silent, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Silent, error) {
		var found Silent
		var hash []byte
		if err := row.Scan(&found.UserID, &hash, &found.Generation, &found.Nudges); err != nil {
			return found, err
		}
		found.UserHash = [sha256.Size]byte(hash)
		return found, nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for users whose subscription is lost: %w", s.noting(err))
	}
	return silent, nil
}

const (
	// firstCallback is how soon Exchange's first post is due: it comes at once (W-16).
	firstCallback = time.Minute
	// unheardWindow is how long one that has not come is counted.
	unheardWindow = 15 * time.Minute
)

// Unheard looks for subscriptions of the last quarter of an hour whose first post has not come within a minute. It returns
// how many there are, and the users of those that it has not returned before.
func (s *Store) Unheard(ctx context.Context, now time.Time) (count int, fresh []int64, err error) {
	const find = `
WITH unheard AS (
    SELECT s.user_id, s.generation, s.unheard_at FROM subscriptions s JOIN user_state st ON st.user_id = s.user_id
    WHERE s.state = 'active' AND s.promoted_at > $2 AND s.promoted_at <= $3
      AND (st.last_callback IS NULL OR st.last_callback < s.created_at)),
marked AS (
    UPDATE subscriptions s SET unheard_at = $1 FROM unheard n
    WHERE s.user_id = n.user_id AND s.generation = n.generation AND n.unheard_at IS NULL RETURNING s.user_id)
SELECT (SELECT count(*) FROM unheard), array(SELECT user_id FROM marked)`
	err = s.pool.QueryRow(ctx, find, now, now.Add(-unheardWindow), now.Add(-firstCallback)).Scan(&count, &fresh)
	if err != nil {
		return 0, nil, fmt.Errorf("looking for subscriptions that Exchange does not post to: %w", s.noting(err))
	}
	return count, fresh, nil
}
