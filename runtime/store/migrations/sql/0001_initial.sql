-- The tenant's tables. search_path is the tenant's schema.
--
-- Cold, wide rows (users, subscriptions, devices) stand apart from hot, narrow ones (user_state, pending), which have
-- free space in each page and no index on what is updated, so that PostgreSQL updates them in place (HOT).

-- A user is known by the SHA-256 of the lower-cased e-mail address (P-08); the address itself is never stored.
CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_hash     bytea NOT NULL UNIQUE CHECK (octet_length(user_hash) = 32),
    key_id        text NOT NULL,
    public_key    bytea NOT NULL,            -- DER SubjectPublicKeyInfo
    private_key   bytea NOT NULL,            -- DER PKCS#8, sealed under a KEK
    mailbox_id    bytea,                     -- SHA-256 of the Inbox's folder id, from the first proof on
    created_at    timestamptz NOT NULL,
    registered_at timestamptz                -- null until a device registered; such users are removed after a day
);
CREATE INDEX users_never_registered ON users (created_at) WHERE registered_at IS NULL;

CREATE TABLE devices (
    ref              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the small number in the logs (N-10)
    user_id          bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    device_id        text NOT NULL,
    platform         text NOT NULL,
    token            text NOT NULL,
    provider         text NOT NULL,          -- name of the PushProvider that serves the device
    app_id           text NOT NULL,
    push_environment text NOT NULL,
    policy           smallint NOT NULL,
    sound            text NOT NULL,
    badge            boolean NOT NULL,
    locale           text NOT NULL,
    device_log_id    text NOT NULL,
    sync_key         text NOT NULL,
    app_version      text NOT NULL,
    os_version       text NOT NULL,
    badge_sent       integer,                -- the last unread count this device was told
    registered_at    timestamptz NOT NULL,
    retired_at       timestamptz,            -- the provider said that the token is dead
    UNIQUE (user_id, device_id)
) WITH (fillfactor = 90);

-- One row for each Subscribe attempt (protocol.md, Subscriptions and generations).
CREATE SEQUENCE generations;
CREATE TABLE subscriptions (
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    generation      bigint NOT NULL,
    state           text NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    f_hash          bytea NOT NULL CHECK (octet_length(f_hash) = 32),
    key_sealed      bytea NOT NULL,          -- the subscription key, sealed under a KEK
    subscription_id text,
    device_id       text NOT NULL,           -- the device whose credential f carries; it may be gone
    endpoint        text NOT NULL,
    auth_type       smallint NOT NULL,
    created_at      timestamptz NOT NULL,
    promoted_at     timestamptz,
    PRIMARY KEY (user_id, generation)
);
CREATE UNIQUE INDEX subscriptions_one_active ON subscriptions (user_id) WHERE state = 'active';

CREATE TABLE user_state (
    user_id       bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    last_callback timestamptz,
    unread        integer,
    last_delivery timestamptz
) WITH (fillfactor = 70);

-- The journal: what the phones are still owed, and for an hour what they were told (protocol.md, Callback semantics).
-- No credential and no mail content stands here.
CREATE TABLE pending (
    user_id     bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    kind        smallint NOT NULL,           -- 1 new mail, 2 badge, 3 re-subscription
    item        text NOT NULL,               -- the EWS item id of a new mail, else empty
    generation  bigint NOT NULL,
    revision    integer NOT NULL DEFAULT 1,  -- rises when what is owed changes under the work
    attempts    smallint NOT NULL DEFAULT 0,
    lease_owner uuid,
    lease_until timestamptz,
    done        bigint[] NOT NULL DEFAULT '{}', -- devices that have been told
    done_at     timestamptz,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, kind, item)
) WITH (fillfactor = 70);

CREATE TABLE key_pool (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id      text NOT NULL,
    public_key  bytea NOT NULL,
    private_key bytea NOT NULL,              -- sealed under a KEK
    created_at  timestamptz NOT NULL
);

-- What happened to a user, for support; at most 50 rows a user, 14 days, no content.
CREATE TABLE activity (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id  bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    at       timestamptz NOT NULL,
    kind     text NOT NULL,
    detail   text NOT NULL
);
CREATE INDEX activity_of_user ON activity (user_id, id);

-- Each replica says what it runs with; key rotation waits for all of them.
CREATE TABLE instances (
    id          uuid PRIMARY KEY,
    version     text NOT NULL,
    config_hash text NOT NULL,
    kek_ids     integer[] NOT NULL,
    webhook_ids integer[] NOT NULL,
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL
);
