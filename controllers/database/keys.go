package database

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// replacedGrace is how long Exchange may at least go on posting to a subscription that was replaced: until its next sign of
// life is answered Unsubscribe, and some time more for posts that it repeats.
const replacedGrace = time.Hour

// KeyUse is what uses the tenant's keys.
type KeyUse struct {
	// Replicas are those that were heard of lately.
	Replicas []Replica
	// Sealed counts what is sealed under a key-encryption key, by its number.
	Sealed map[int]int
	// Signed counts the subscriptions that Exchange may post to, by the number of the webhook key that signed their URL.
	// Replaced counts those that have been replaced lately and that Exchange may still post to.
	Signed, Replaced map[int]int
}

// Replica is what a replica says of its keys: which it has, and which it seals and signs with, 0 if it has not decided.
type Replica struct {
	KEKs, WebhookKeys          []int
	SealingKEK, SealingWebhook int
}

// KeyUse looks up what uses the tenant's keys, all of it at one moment. Exchange gives a sign of life at such intervals.
func (s *Server) KeyUse(ctx context.Context, names Names, interval time.Duration, now time.Time) (KeyUse, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var use KeyUse
	// One snapshot for all, or what moves from one table to another meanwhile would be in neither.
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		// As all names are the schema's, the search path ends with the transaction.
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+quote(names.Schema)); err != nil {
			return err
		}
		var err error
		if use.Replicas, err = replicas(ctx, tx, now); err != nil {
			return err
		}
		if use.Sealed, err = sealed(ctx, tx); err != nil {
			return err
		}
		use.Signed, use.Replaced, err = signed(ctx, tx, now.Add(-replacedGrace-interval))
		return err
	})
	return use, classify("looking what uses the keys of schema "+names.Schema, err)
}

func replicas(ctx context.Context, tx pgx.Tx, now time.Time) ([]Replica, error) {
	const find = `SELECT kek_ids, webhook_ids, coalesce(sealing_kek, 0), coalesce(sealing_webhook, 0) FROM instances WHERE seen_at >= $1`
	rows, err := tx.Query(ctx, find, now.Add(-migrations.InstanceTTL))
	if err != nil {
		return nil, fmt.Errorf("looking up the replicas: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Replica])
	if err != nil {
		return nil, fmt.Errorf("looking up the replicas: %w", err)
	}
	return found, nil
}

// kekNumberSize is how many bytes before what is sealed hold the number of its key. A row that has fewer is damaged and
// opens with no key.
const kekNumberSize = 4

func sealed(ctx context.Context, tx pgx.Tx) (map[int]int, error) {
	// As in the runtime's SealedUnder.
	const count = `SELECT number, count(*) FROM (
SELECT substr(private_key, 1, 4) FROM users
UNION ALL SELECT substr(previous_private_key, 1, 4) FROM users WHERE previous_private_key IS NOT NULL
UNION ALL SELECT substr(private_key, 1, 4) FROM key_pool
UNION ALL SELECT substr(key_sealed, 1, 4) FROM subscriptions) AS s(number) GROUP BY number`
	rows, err := tx.Query(ctx, count)
	if err != nil {
		return nil, fmt.Errorf("counting what is sealed: %w", err)
	}
	found := map[int]int{}
	var number []byte
	var rowsOf int
	_, err = pgx.ForEachRow(rows, []any{&number, &rowsOf}, func() error {
		if len(number) == kekNumberSize {
			found[int(binary.BigEndian.Uint32(number))] = rowsOf
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting what is sealed: %w", err)
	}
	return found, nil
}

// signed counts subscriptions; those that were replaced since a time count as replaced lately.
func signed(ctx context.Context, tx pgx.Tx, since time.Time) (inUse, replaced map[int]int, err error) {
	// The first as in the runtime's WebhookKeysInUse.
	const count = `SELECT webhook_key, count(*) FILTER (WHERE state <> 'retired'),
count(*) FILTER (WHERE state = 'retired' AND (SELECT min(n.promoted_at) FROM subscriptions n
    WHERE n.user_id = s.user_id AND n.generation > s.generation) >= $1)
FROM subscriptions s GROUP BY webhook_key`
	rows, err := tx.Query(ctx, count, since)
	if err != nil {
		return nil, nil, fmt.Errorf("counting what is signed: %w", err)
	}
	inUse, replaced = map[int]int{}, map[int]int{}
	var number, living, late int
	_, err = pgx.ForEachRow(rows, []any{&number, &living, &late}, func() error {
		inUse[number], replaced[number] = living, late
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("counting what is signed: %w", err)
	}
	return inUse, replaced, nil
}
