package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Target is what a user's notifications need: the user's living devices, and the last known unread count.
type Target struct {
	Devices []Device
	Unread  *int
	// Revision is that of what was told, see Told.
	Revision int
	// Heard is the last post on record, by whichever replica got it; zero if there is none.
	Heard time.Time
}

const selectTargets = `
SELECT i.ord, d.ref, d.device_id, d.platform, d.token, d.provider, d.app_id, d.policy, d.sound, d.badge, d.locale,
    d.device_log_id, d.registered_at, CASE WHEN d.ref = ANY (st.badged) THEN st.unread END, st.unread, coalesce(st.revision, 0), st.last_callback
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
	var revision int
	var heard *time.Time
	fields := []any{&ord, &d.Ref, &d.ID, &d.Platform, &d.Token, &d.Provider, &d.AppID, &d.Policy, &d.Sound, &d.Badge,
		&d.Locale, &d.DeviceLogID, &d.Registered, &d.BadgeSent, &unread, &revision, &heard}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		target := &targets[ord-1]
		target.Devices = append(target.Devices, d)
		target.Unread, target.Revision, target.Heard = unread, revision, orZero(heard)
		d.BadgeSent, unread, heard = nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, s.noting(err)
	}
	return targets, nil
}

// ForgetTold takes off the record which unread count the user's devices were told: it is not known any more.
func (s *Store) ForgetTold(ctx context.Context, userID int64) error {
	return s.exec(ctx, "forgetting what was told", `
WITH before AS (UPDATE devices SET badge_sent = NULL WHERE user_id = $1 AND badge_sent IS NOT NULL)
UPDATE user_state SET badged = '{}' WHERE user_id = $1 AND badged <> '{}'`, userID)
}
