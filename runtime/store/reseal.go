package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// ErrDamaged says that rows do not open, so that they stay sealed as they are.
var ErrDamaged = errors.New("what rests in the database does not open")

// Reseal is how the rows of a rotation are sealed anew. Each function opens what rests here and seals it under the
// current KEK.
type Reseal struct {
	// KEK is the number that rows are to be sealed under.
	KEK int
	// KeyPair seals a private key, SubscriptionKey a subscription's. A row for which they return
	// credential.ErrSealBroken or credential.ErrUnknownKey is left as it is; any other error ends the work.
	KeyPair         func(keyID string, sealed []byte) ([]byte, error)
	SubscriptionKey func(userID, generation int64, sealed []byte) ([]byte, error)
}

// resealChunk is how many rows are sealed anew in one transaction, so that nobody waits for their locks for long.
const resealChunk = 100

// resealLock is the second half of the advisory lock under which one replica at a time seals anew.
const resealLock = `SELECT pg_try_advisory_xact_lock($1, hashtext(current_schema() || ' reseal'))`

// Reseal seals the rows of all tables anew that are not under the wanted KEK, a chunk in each transaction, and returns
// how many there were. It returns ErrBusy if another replica is at it, and ErrDamaged, when all others are done, if rows
// did not open.
func (s *Store) Reseal(ctx context.Context, r Reseal) (int, error) {
	total := 0
	var left damage
	for _, table := range []resealing{resealUsers, resealPool, resealSubscriptions} {
		for next, more := (place{}), true; more; {
			rows, err := s.resealChunk(ctx, table, r, next)
			if err != nil {
				return total, err
			}
			total += len(rows) - left.note(rows)
			if more = len(rows) == resealChunk; more {
				next = rows[len(rows)-1].place
			}
		}
	}
	return total, left.err()
}

func (s *Store) resealChunk(ctx context.Context, table resealing, r Reseal, after place) (rows []sealed, err error) {
	err = s.inTransaction(ctx, "sealing under the current key-encryption key", func(tx pgx.Tx) error {
		var locked bool
		if err := tx.QueryRow(ctx, resealLock, refillLock).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			return ErrBusy
		}
		rows, err = table(ctx, tx, r, after)
		return err
	})
	return rows, err
}

// resealing seals up to resealChunk rows of a table anew that come after a place, and returns them.
type resealing func(ctx context.Context, tx pgx.Tx, r Reseal, after place) ([]sealed, error)

// place is where a row stands in the order of its table. A row that does not open is passed by, not met again and again.
type place struct{ id, generation int64 }

// sealed is a row that is to be sealed anew, and why it cannot be.
type sealed struct {
	place
	name         string
	key          []byte
	previousName string
	previous     []byte
	damage       error
}

func resealUsers(ctx context.Context, tx pgx.Tx, r Reseal, after place) ([]sealed, error) {
	const find = `SELECT id, key_id, private_key, coalesce(previous_key_id, ''), previous_private_key FROM users
WHERE (substr(private_key, 1, 4) <> $1 OR substr(previous_private_key, 1, 4) <> $1) AND id > $3
ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED`
	rows, err := collectSealed(ctx, tx, find, func(row pgx.CollectableRow, s *sealed) error {
		return row.Scan(&s.id, &s.name, &s.key, &s.previousName, &s.previous)
	}, kekNumber(r.KEK), resealChunk, after.id)
	return rows, eachSealed(rows, err, func(row sealed) error {
		key, err := r.KeyPair(row.name, row.key)
		if err != nil {
			return fmt.Errorf("the key pair of user %d: %w", row.id, err)
		}
		previous := row.previous
		if previous != nil {
			if previous, err = r.KeyPair(row.previousName, previous); err != nil {
				return fmt.Errorf("the previous key pair of user %d: %w", row.id, err)
			}
		}
		const write = `UPDATE users SET private_key = $2, previous_private_key = $3 WHERE id = $1`
		_, err = tx.Exec(ctx, write, row.id, key, previous)
		return err
	})
}

func resealPool(ctx context.Context, tx pgx.Tx, r Reseal, after place) ([]sealed, error) {
	const find = `SELECT id, key_id, private_key FROM key_pool WHERE substr(private_key, 1, 4) <> $1 AND id > $3
ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED`
	rows, err := collectSealed(ctx, tx, find, func(row pgx.CollectableRow, s *sealed) error {
		return row.Scan(&s.id, &s.name, &s.key)
	}, kekNumber(r.KEK), resealChunk, after.id)
	return rows, eachSealed(rows, err, func(row sealed) error {
		key, err := r.KeyPair(row.name, row.key)
		if err != nil {
			return fmt.Errorf("key pair %d of the pool: %w", row.id, err)
		}
		_, err = tx.Exec(ctx, `UPDATE key_pool SET private_key = $2 WHERE id = $1`, row.id, key)
		return err
	})
}

func resealSubscriptions(ctx context.Context, tx pgx.Tx, r Reseal, after place) ([]sealed, error) {
	const find = `SELECT user_id, generation, key_sealed FROM subscriptions
WHERE substr(key_sealed, 1, 4) <> $1 AND (user_id, generation) > ($3, $4)
ORDER BY user_id, generation LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED`
	rows, err := collectSealed(ctx, tx, find, func(row pgx.CollectableRow, s *sealed) error {
		return row.Scan(&s.id, &s.generation, &s.key)
	}, kekNumber(r.KEK), resealChunk, after.id, after.generation)
	return rows, eachSealed(rows, err, func(row sealed) error {
		key, err := r.SubscriptionKey(row.id, row.generation, row.key)
		if err != nil {
			return fmt.Errorf("the key of subscription %d of user %d: %w", row.generation, row.id, err)
		}
		const write = `UPDATE subscriptions SET key_sealed = $3 WHERE user_id = $1 AND generation = $2`
		_, err = tx.Exec(ctx, write, row.id, row.generation, key)
		return err
	})
}

// collectSealed finds rows that are not sealed under the KEK.
func collectSealed(ctx context.Context, tx pgx.Tx, query string, scan func(pgx.CollectableRow, *sealed) error, args ...any) ([]sealed, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (sealed, error) {
		var s sealed
		err := scan(row, &s)
		return s, err
	})
}

// eachSealed seals the rows that were found anew. One that does not open is marked, so that the others go on.
func eachSealed(rows []sealed, err error, seal func(sealed) error) error {
	for i := 0; err == nil && i < len(rows); i++ {
		err = seal(rows[i])
		if errors.Is(err, credential.ErrSealBroken) || errors.Is(err, credential.ErrUnknownKey) {
			rows[i].damage, err = err, nil
		}
	}
	return err
}

// damage is how many rows did not open, and the first of them.
type damage struct {
	rows  int
	first error
}

// note adds the rows that did not open and returns how many they are.
func (d *damage) note(rows []sealed) int {
	before := d.rows
	for _, row := range rows {
		if row.damage == nil {
			continue
		}
		if d.rows++; d.first == nil {
			d.first = row.damage
		}
	}
	return d.rows - before
}

func (d *damage) err() error {
	if d.rows == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d rows stay as they are, the first: %w", ErrDamaged, d.rows, d.first)
}
