package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// ActivityKind is what happened to a user, for whoever helps them.
type ActivityKind string

// The kinds.
const (
	ActivityRegistered      ActivityKind = "registered"
	ActivityRefused         ActivityKind = "registration refused"
	ActivityUnregistered    ActivityKind = "unregistered"
	ActivityTokenChanged    ActivityKind = "device token changed"
	ActivityCredential      ActivityKind = "credential refused"
	ActivityCredentialNewer ActivityKind = "credential replaced"
	ActivityGateway         ActivityKind = "gateway refused"
	ActivityUnheard         ActivityKind = "no callback"
	ActivityNudged          ActivityKind = "asked to register"
	ActivityCaughtUp        ActivityKind = "caught up"
	ActivityFetchFailed     ActivityKind = "mail not fetched"
)

const (
	// maxActivities and activityLife bound what is kept of a user (architecture.md, Data).
	maxActivities = 50
	activityLife  = 14 * 24 * time.Hour
	// maxDetail is enough for a sentence, in bytes.
	maxDetail = 500
)

// Note adds a row to a user's timeline and drops what is beyond the newest 50. detail must hold no credential, no address
// and no mail content. It does not wait for the disk.
func (s *Store) Note(ctx context.Context, userID int64, kind ActivityKind, detail string, now time.Time) error {
	const note = `WITH noted AS (
    INSERT INTO activity (user_id, at, kind, detail) SELECT id, $2, $3, $4 FROM users WHERE id = $1)
DELETE FROM activity WHERE user_id = $1 AND id <= (
    SELECT id FROM activity WHERE user_id = $1 ORDER BY id DESC OFFSET $5 LIMIT 1)`
	// The row that is just being added is not among those that are counted.
	return s.execSoon(ctx, "adding to the user's timeline", note, userID, now, string(kind), truncate(detail), maxActivities-1)
}

func truncate(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…" // the cut may have gone through a character
}

// DropActivity forgets what happened more than 14 days ago, at most limit rows.
func (s *Store) DropActivity(ctx context.Context, now time.Time, limit int) (int64, error) {
	// Rows are numbered in the order of time, so that the oldest are found by their number.
	const drop = `DELETE FROM activity WHERE id IN
(SELECT id FROM (SELECT id, at FROM activity ORDER BY id LIMIT $2) oldest WHERE at < $1)`
	tag, err := s.pool.Exec(ctx, drop, now.Add(-activityLife), limit)
	if err != nil {
		return 0, fmt.Errorf("forgetting old activity: %w", s.noting(err))
	}
	return tag.RowsAffected(), nil
}
