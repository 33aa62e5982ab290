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

type recorded struct {
	Told
	now time.Time
}

// RecordTold remembers the unread count for the next badge, and how far the user has been told. Batched.
func (s *Store) RecordTold(ctx context.Context, told Told, now time.Time) error {
	if _, err := s.batches.told.do(ctx, recorded{told, now}); err != nil {
		return fmt.Errorf("user %d: %w", told.UserID, err)
	}
	return nil
}

// updateTold locks the users' states first and then the devices, as whoever removes a user does, and both in one order for
// all replicas: what counts the states waits until all of them are changed.
const updateTold = `
WITH i AS (
    SELECT user_id, unread, badged::bigint[] AS badged, delivered, now, newest, seen::bigint[] AS seen
    FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bool[], $5::timestamptz[], $6::timestamptz[], $7::text[])
        AS i(user_id, unread, badged, delivered, now, newest, seen)),
u AS (SELECT i.* FROM i JOIN user_state l ON l.user_id = i.user_id ORDER BY l.user_id FOR NO KEY UPDATE OF l),
state AS (
    UPDATE user_state AS st SET unread = coalesce(u.unread, st.unread),
        last_delivery = CASE WHEN u.delivered THEN u.now ELSE st.last_delivery END,
        newest_mail = greatest(st.newest_mail, u.newest),
        newest_items = CASE WHEN u.newest IS NULL OR u.newest < st.newest_mail THEN st.newest_items WHEN u.newest = st.newest_mail
            THEN ARRAY(SELECT DISTINCT unnest(st.newest_items || u.seen) LIMIT $8) ELSE u.seen[1:$8] END
    FROM u WHERE st.user_id = u.user_id RETURNING 1),
d AS (
    SELECT l.ref, i.unread FROM i JOIN devices l ON l.user_id = i.user_id AND l.ref = ANY (i.badged)
    WHERE (SELECT count(*) FROM state) > 0
    ORDER BY l.ref FOR NO KEY UPDATE OF l)
UPDATE devices SET badge_sent = d.unread FROM d WHERE devices.ref = d.ref`

func (s *Store) updateTold(ctx context.Context, calls []recorded) ([]struct{}, error) {
	for rest := calls; len(rest) > 0; {
		var later []recorded // one statement changes a row once
		users := make(map[int64]bool, len(rest))
		now := rest[:0:0]
		for _, r := range rest {
			if users[r.UserID] {
				later = append(later, r)
				continue
			}
			users[r.UserID] = true
			now = append(now, r)
		}
		if err := s.updateToldOnce(ctx, now); err != nil {
			return nil, s.noting(err)
		}
		rest = later
	}
	return make([]struct{}, len(calls)), nil
}

// updateToldOnce is updateTold for calls of different users.
func (s *Store) updateToldOnce(ctx context.Context, calls []recorded) error {
	n := len(calls)
	userIDs, unread, badged, delivered := make([]int64, n), make([]*int, n), make([]string, n), make([]bool, n)
	now, newest, seen := make([]time.Time, n), make([]*time.Time, n), make([]string, n)
	for i, r := range calls {
		userIDs[i], unread[i], badged[i], delivered[i], now[i] = r.UserID, r.Unread, arrayLiteral(r.Badged), r.Delivered, r.now
		seen[i] = arrayLiteral(r.Newest.Seen)
		if !r.Newest.IsZero() {
			newest[i] = &calls[i].Newest.Since
		}
	}
	_, err := s.hot.Exec(ctx, updateTold, userIDs, unread, badged, delivered, now, newest, seen, maxSeen)
	return err
}
