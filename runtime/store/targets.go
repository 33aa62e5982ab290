package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	// Newest begins with the newest of the mails that were seen, by Exchange's clock; zero if none was.
	Newest Gap
}

// ForgetTold takes off the record which unread count the user's devices were told: it is not known any more.
func (s *Store) ForgetTold(ctx context.Context, userID int64) error {
	return s.exec(ctx, "forgetting what was told", `UPDATE devices SET badge_sent = NULL WHERE user_id = $1 AND badge_sent IS NOT NULL`, userID)
}

// maxSeen bounds the mails of one second that are remembered: a Gap with so many fits the journal's index.
const maxSeen = 100

// RecordTold remembers the unread count for the next badge, and how far the user has been told.
func (s *Store) RecordTold(ctx context.Context, told Told, now time.Time) error {
	const record = `
WITH badge AS (UPDATE devices SET badge_sent = $2 WHERE user_id = $1 AND ref = ANY($3))
UPDATE user_state SET unread = coalesce($2, unread), last_delivery = CASE WHEN $4 THEN $5 ELSE last_delivery END,
    newest_mail = greatest(newest_mail, $6),
    newest_items = CASE WHEN $6 IS NULL OR $6 < newest_mail THEN newest_items WHEN $6 = newest_mail
        THEN ARRAY(SELECT DISTINCT unnest(newest_items || $7::bigint[]) LIMIT $8) ELSE ($7::bigint[])[1:$8] END
WHERE user_id = $1`
	var newest *time.Time
	if !told.Newest.IsZero() {
		newest = &told.Newest.Since
	}
	err := s.exec(ctx, "recording what was told", record, told.UserID, told.Unread, told.Badged, told.Delivered, now, newest, told.Newest.Seen, maxSeen)
	if err != nil {
		return fmt.Errorf("user %d: %w", told.UserID, err)
	}
	return nil
}
