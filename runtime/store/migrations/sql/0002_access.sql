-- How devices get in: long and updatable credentials, refused ones, device secrets, replaced keys, rotation of keys.

-- The pair before the current one: a device may have encrypted under it before it was replaced.
ALTER TABLE users
    ADD COLUMN previous_key_id      text,
    ADD COLUMN previous_private_key bytea,          -- sealed under a KEK
    ADD COLUMN key_replaced_at      timestamptz;

ALTER TABLE devices
    ADD COLUMN secret_hash         bytea,           -- SHA-256 of the device secret
    ADD COLUMN secret_used         boolean NOT NULL DEFAULT false, -- it has sent it once, so it must from then on
    ADD COLUMN token_changes       smallint NOT NULL DEFAULT 0,    -- of the day that began at token_changes_since
    ADD COLUMN token_changes_since timestamptz;

ALTER TABLE subscriptions
    ADD COLUMN webhook_key     integer NOT NULL DEFAULT 1, -- the webhook key that signed its URL
    ADD COLUMN blob            bytea,               -- the credential under a data key of which only the URL knows
    ADD COLUMN sequence        bigint NOT NULL DEFAULT 0,     -- of the credential, as the device counts
    ADD COLUMN updatable       boolean NOT NULL DEFAULT false, -- the device has the data key too (rsa-split)
    ADD COLUMN update_blob     text,                -- a newer credential that has not been opened yet, as the device sent it
    ADD COLUMN update_sequence bigint,
    ADD COLUMN unauthorized_at timestamptz,         -- the first 401 since the credential last worked
    ADD COLUMN unheard_at      timestamptz,         -- Exchange should have posted by then, and had not
    ADD COLUMN refused_at      timestamptz;         -- Exchange refuses the credential: it is not used any more

ALTER TABLE user_state
    ADD COLUMN generic_at timestamptz,              -- the last notification that a refused credential led to
    ADD COLUMN nudges     smallint NOT NULL DEFAULT 0, -- how often the devices were asked to register since they last did
    ADD COLUMN nudge_at   timestamptz;              -- when they may be asked again

-- Which keys a replica seals and signs with, null as long as it has not decided.
ALTER TABLE instances
    ADD COLUMN sealing_kek     integer,
    ADD COLUMN sealing_webhook integer;
