package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// Rotation is what is known of the tenant's keys, to decide which to seal with and which are not needed any more.
type Rotation struct {
	// KEKs are the check values of all KEKs that were ever sealed with, by number, and Retired those of them that nothing
	// is sealed under any more.
	KEKs    map[int]string
	Retired []int
	// Webhooks are the check values of all webhook keys that URLs were ever signed with, by number.
	Webhooks map[int]string
	// Instances are the replicas that were heard of lately.
	Instances []Instance
}

// Rotation looks up how the rotation of keys stands.
func (s *Store) Rotation(ctx context.Context, now time.Time) (Rotation, error) {
	r := Rotation{KEKs: map[int]string{}, Webhooks: map[int]string{}}
	rows, err := s.pool.Query(ctx, `SELECT key, value FROM meta WHERE key LIKE 'kek%' OR key LIKE 'webhook/%'`)
	if err != nil {
		return r, fmt.Errorf("looking up the keys: %w", s.noting(err))
	}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		if number, err := strconv.Atoi(strings.TrimPrefix(key, migrations.KEKPrefix)); err == nil {
			r.KEKs[number] = value
		} else if number, err := strconv.Atoi(strings.TrimPrefix(key, migrations.RetiredKEKPrefix)); err == nil {
			r.Retired = append(r.Retired, number)
		} else if number, err := strconv.Atoi(strings.TrimPrefix(key, migrations.WebhookPrefix)); err == nil {
			r.Webhooks[number] = value
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("looking up the keys: %w", s.noting(err))
	}
	rows, err = s.pool.Query(ctx, `SELECT id, kek_ids, webhook_ids, coalesce(sealing_kek, 0), coalesce(sealing_webhook, 0)
FROM instances WHERE seen_at >= $1`, now.Add(-migrations.InstanceTTL))
	if err != nil {
		return r, fmt.Errorf("looking up the replicas: %w", s.noting(err))
	}
	r.Instances, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Instance, error) {
		var i Instance
		err := row.Scan(&i.ID, &i.KEKs, &i.WebhookKeys, &i.SealingKEK, &i.SealingWebhook)
		return i, err
	})
	if err != nil {
		return r, fmt.Errorf("looking up the replicas: %w", s.noting(err))
	}
	return r, nil
}

// Needed are the KEKs that something may be sealed under, in rising order.
func (r Rotation) Needed() []int {
	var needed []int
	for number := range r.KEKs {
		if !slices.Contains(r.Retired, number) {
			needed = append(needed, number)
		}
	}
	slices.Sort(needed)
	return needed
}

// CheckKEKs compares the KEKs at hand (check values by number) with those that something in the database may be sealed
// under. It returns ErrForeignKEK if one differs or is missing.
func (r Rotation) CheckKEKs(checks map[int]string) error {
	for _, number := range r.Needed() {
		check, found := checks[number]
		if check == r.KEKs[number] {
			continue
		}
		how := "differs"
		if !found {
			how = "is missing"
		}
		return foreignKEK(number, how)
	}
	return nil
}

// CheckWebhookKeys compares the webhook keys at hand (check values by number) with those that URLs were signed with. It
// returns ErrForeignWebhookKey if one differs: every post would be taken for forged, and its subscription ended. One that is
// missing may have been taken away.
func (r Rotation) CheckWebhookKeys(checks map[int]string) error {
	for _, number := range slices.Sorted(maps.Keys(checks)) {
		if known, found := r.Webhooks[number]; found && known != checks[number] {
			return foreignWebhookKey(number)
		}
	}
	return nil
}

// RecordKEK records that a KEK is sealed with from now on. It returns ErrForeignKEK if another key has that number.
func (s *Store) RecordKEK(ctx context.Context, number int, check string) error {
	same, err := s.recordKey(ctx, migrations.KEKPrefix+strconv.Itoa(number), check)
	if err == nil && !same {
		return foreignKEK(number, "differs")
	}
	return err
}

// RecordWebhookKey records that URLs are signed with a webhook key from now on. It returns ErrForeignWebhookKey if another key
// has that number.
func (s *Store) RecordWebhookKey(ctx context.Context, number int, check string) error {
	same, err := s.recordKey(ctx, migrations.WebhookPrefix+strconv.Itoa(number), check)
	if err == nil && !same {
		return foreignWebhookKey(number)
	}
	return err
}

// recordKey records a key's check value under its name, and reports whether it is the one that stands there.
func (s *Store) recordKey(ctx context.Context, name, check string) (same bool, err error) {
	const record = `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`
	if err := s.exec(ctx, "recording "+name, record, name, check); err != nil {
		return false, err
	}
	var known string
	if err := s.pool.QueryRow(ctx, `SELECT value FROM meta WHERE key = $1`, name).Scan(&known); err != nil {
		return false, fmt.Errorf("looking up %s: %w", name, s.noting(err))
	}
	return known == check, nil
}

func foreignKEK(number int, how string) error {
	return fmt.Errorf("%w: KEK %d %s; restore the Secret that holds the tenant's keys", ErrForeignKEK, number, how)
}

func foreignWebhookKey(number int) error {
	return fmt.Errorf("%w: webhook key %d differs; restore the Secret that holds the tenant's keys", ErrForeignWebhookKey, number)
}

// RetireKEK records that nothing is sealed under a KEK any more, so that it may be taken away.
func (s *Store) RetireKEK(ctx context.Context, number int, now time.Time) error {
	const record = `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`
	return s.exec(ctx, "retiring a key-encryption key", record, migrations.RetiredKEKPrefix+strconv.Itoa(number), now.UTC().Format(time.RFC3339))
}

// SealedUnder reports whether anything is still sealed under a KEK. The operator asks the same (database.KeyUse).
func (s *Store) SealedUnder(ctx context.Context, kek int) (bool, error) {
	const look = `SELECT EXISTS (SELECT 1 FROM users WHERE substr(private_key, 1, 4) = $1 OR substr(previous_private_key, 1, 4) = $1)
OR EXISTS (SELECT 1 FROM key_pool WHERE substr(private_key, 1, 4) = $1)
OR EXISTS (SELECT 1 FROM subscriptions WHERE substr(key_sealed, 1, 4) = $1)`
	var found bool
	if err := s.pool.QueryRow(ctx, look, kekNumber(kek)).Scan(&found); err != nil {
		return false, fmt.Errorf("looking for what is sealed under KEK %d: %w", kek, s.noting(err))
	}
	return found, nil
}

// kekNumber is a KEK's number as it stands before what is sealed under it (see credential.SealedUnder).
func kekNumber(kek int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(kek)) }

// WebhookKeysInUse counts the subscriptions that Exchange may post to by the webhook key that signed their URL. The operator
// asks the same (database.KeyUse).
func (s *Store) WebhookKeysInUse(ctx context.Context) (map[int]int, error) {
	rows, err := s.pool.Query(ctx, `SELECT webhook_key, count(*) FROM subscriptions WHERE state <> 'retired' GROUP BY webhook_key`)
	if err != nil {
		return nil, fmt.Errorf("counting the subscriptions of each webhook key: %w", s.noting(err))
	}
	inUse := map[int]int{}
	var number, count int
	_, err = pgx.ForEachRow(rows, []any{&number, &count}, func() error {
		inUse[number] = count
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting the subscriptions of each webhook key: %w", s.noting(err))
	}
	return inUse, nil
}
