-- Which of a user's devices were told user_state.unread, in the row that changes anyway: devices.badge_sent was a further row
-- for each mail. Replicas of the version before still go by that column, so it is emptied where a newer one tells.
ALTER TABLE user_state ADD COLUMN badged bigint[] NOT NULL DEFAULT '{}';  -- devices.ref
