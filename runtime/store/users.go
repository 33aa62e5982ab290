package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// User is one user's cold row.
type User struct {
	ID   int64
	Hash [sha256.Size]byte
	Keys credential.KeyPair
	// Previous is the pair before Keys, without its public key; its ID is empty if there was none.
	Previous credential.KeyPair
	// MailboxID is the SHA-256 of the Inbox's folder id, nil until the first registration.
	MailboxID []byte
}

const selectUser = `
SELECT id, key_id, public_key, private_key, mailbox_id, coalesce(previous_key_id, ''), previous_private_key
FROM users WHERE user_hash = $1`

// UserByHash finds a user. Error: ErrNotFound.
func (s *Store) UserByHash(ctx context.Context, hash [sha256.Size]byte) (User, error) {
	user, err := scanUser(s.pool.QueryRow(ctx, selectUser, hash[:]), hash)
	if err != nil {
		return User{}, fmt.Errorf("looking up the user: %w", s.noting(err))
	}
	return user, nil
}

func scanUser(row pgx.Row, hash [sha256.Size]byte) (User, error) {
	user := User{Hash: hash}
	err := row.Scan(&user.ID, &user.Keys.ID, &user.Keys.Public, &user.Keys.Private, &user.MailboxID,
		&user.Previous.ID, &user.Previous.Private)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, ErrNotFound
	}
	return user, err
}

// CreateUser makes the user's record with a pair from the pool. If another replica was quicker, its record is
// returned. Error: ErrPoolEmpty.
func (s *Store) CreateUser(ctx context.Context, hash [sha256.Size]byte, now time.Time) (User, error) {
	var user User
	err := s.inTransaction(ctx, "creating the user", func(tx pgx.Tx) error {
		pair, err := takeKey(ctx, tx)
		if err != nil {
			return err
		}
		user, err = insertUser(ctx, tx, hash, pair, now)
		return err
	})
	return user, err
}

// takeKey takes a pair out of the pool. Error: ErrPoolEmpty.
func takeKey(ctx context.Context, tx pgx.Tx) (credential.KeyPair, error) {
	const take = `DELETE FROM key_pool WHERE id = (SELECT id FROM key_pool ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING key_id, public_key, private_key`
	var pair credential.KeyPair
	err := tx.QueryRow(ctx, take).Scan(&pair.ID, &pair.Public, &pair.Private)
	if errors.Is(err, pgx.ErrNoRows) {
		return pair, ErrPoolEmpty
	}
	return pair, err
}

// keyLife is how long a user's pair is kept at least (protocol.md, rule 3).
const keyLife = 24 * time.Hour

// ReplaceKey gives the user another pair from the pool, unless that has been done within a day. The old pair is kept
// until the next time. It returns whether it did. Error: ErrPoolEmpty.
func (s *Store) ReplaceKey(ctx context.Context, hash [sha256.Size]byte, now time.Time) (bool, error) {
	replaced := false
	err := s.inTransaction(ctx, "replacing the user's key pair", func(tx pgx.Tx) error {
		const due = `SELECT FROM users WHERE user_hash = $1 AND (key_replaced_at IS NULL OR key_replaced_at <= $2) FOR UPDATE`
		tag, err := tx.Exec(ctx, due, hash[:], now.Add(-keyLife))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		pair, err := takeKey(ctx, tx)
		if err != nil {
			return err
		}
		const replace = `UPDATE users SET previous_key_id = key_id, previous_private_key = private_key,
    key_id = $2, public_key = $3, private_key = $4, key_replaced_at = $5 WHERE user_hash = $1`
		_, err = tx.Exec(ctx, replace, hash[:], pair.ID, pair.Public, pair.Private, now)
		replaced = err == nil
		return err
	})
	return replaced && err == nil, err
}

// CreateUserWith makes the user's record with a pair made on the spot.
func (s *Store) CreateUserWith(ctx context.Context, hash [sha256.Size]byte, pair credential.KeyPair, now time.Time) (User, error) {
	var user User
	err := s.inTransaction(ctx, "creating the user", func(tx pgx.Tx) error {
		var err error
		user, err = insertUser(ctx, tx, hash, pair, now)
		return err
	})
	return user, err
}

func insertUser(ctx context.Context, tx pgx.Tx, hash [sha256.Size]byte, pair credential.KeyPair, now time.Time) (User, error) {
	const insert = `
WITH created AS (
    INSERT INTO users (user_hash, key_id, public_key, private_key, created_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_hash) DO NOTHING RETURNING id)
INSERT INTO user_state (user_id) SELECT id FROM created`
	if _, err := tx.Exec(ctx, insert, hash[:], pair.ID, pair.Public, pair.Private, now); err != nil {
		return User{}, err
	}
	return scanUser(tx.QueryRow(ctx, selectUser, hash[:]), hash)
}

// CountUsers counts all users.
func (s *Store) CountUsers(ctx context.Context) (int, error) {
	return s.count(ctx, "counting the users", `SELECT count(*) FROM users`)
}

// CountKeys counts the pairs in the pool.
func (s *Store) CountKeys(ctx context.Context) (int, error) {
	return s.count(ctx, "counting the key pool", `SELECT count(*) FROM key_pool`)
}

func (s *Store) count(ctx context.Context, doing, query string) (int, error) {
	var count int
	if err := s.pool.QueryRow(ctx, query).Scan(&count); err != nil {
		return 0, fmt.Errorf("%s: %w", doing, s.noting(err))
	}
	return count, nil
}

// AddKey puts a pair into the pool.
func (s *Store) AddKey(ctx context.Context, pair credential.KeyPair, now time.Time) error {
	const insert = `INSERT INTO key_pool (key_id, public_key, private_key, created_at) VALUES ($1, $2, $3, $4)`
	return s.exec(ctx, "adding to the key pool", insert, pair.ID, pair.Public, pair.Private, now)
}

// refillLock is the advisory lock under which one replica at a time fills the pool; the first half of the pair is ours
// ("ens" in ASCII), the second names the schema.
const refillLock = 0x656e73

// ErrBusy says that another replica is doing this right now.
var ErrBusy = errors.New("another replica is at it")

// RefillKeys runs fill while no other replica does; else it returns ErrBusy at once. The lock lasts as long as the
// transaction, so that a replica that dies does not keep it.
func (s *Store) RefillKeys(ctx context.Context, fill func(context.Context) error) error {
	return s.inTransaction(ctx, "filling the key pool", func(tx pgx.Tx) error {
		var locked bool
		const lock = `SELECT pg_try_advisory_xact_lock($1, hashtext(current_schema() || ' key pool'))`
		if err := tx.QueryRow(ctx, lock, refillLock).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			return ErrBusy
		}
		return fill(ctx)
	})
}

// DropStaleUsers removes users that asked for a key before the given time and never registered, at most limit of them.
func (s *Store) DropStaleUsers(ctx context.Context, before time.Time, limit int) (int64, error) {
	const drop = `DELETE FROM users WHERE id IN
(SELECT id FROM users WHERE registered_at IS NULL AND created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
	tag, err := s.pool.Exec(ctx, drop, before, limit)
	if err != nil {
		return 0, fmt.Errorf("removing users that never registered: %w", s.noting(err))
	}
	return tag.RowsAffected(), nil
}
