package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/credential"
)

// batches are the statements that many callers share.
type batches struct {
	lookups *batcher[lookup, Subscription]
	journal *batcher[[]Entry, []Claim]
	endings *batcher[Ending, bool]
	targets *batcher[int64, Target]
}

// afterwards is how long what nobody waits for any more, since the phones have been told, waits for company.
const afterwards = 20 * time.Millisecond

func (s *Store) startBatches() batches {
	return batches{
		lookups: newBatcher("looking up the subscription", 0, twice(s, s.selectSubscriptions)),
		journal: newBatcher("writing the journal", 0, twice(s, s.insertEntries)),
		endings: newBatcher("recording what was told", afterwards, twice(s, s.endWork)),
		targets: newBatcher("looking up the devices", 0, twice(s, s.selectTargets)),
	}
}

func (b *batches) close() {
	b.lookups.close()
	b.journal.close()
	b.endings.close()
	b.targets.close()
}

// Subscription is what a callback needs to know of the generation it names.
type Subscription struct {
	// Found is false if there is no such user or generation; the other fields are then empty.
	Found      bool
	UserHash   [sha256.Size]byte
	MailboxID  []byte
	State      State
	FillerHash [sha256.Size]byte
	// Key and Blob are what rests here of the credential, see credential.Sealed.
	Key, Blob      []byte
	SubscriptionID string
	// DeviceID is the device whose credential it carries.
	DeviceID string
	// Sequence is that of the credential. Update is a newer one that has not been opened yet, as the device sent it, empty
	// if there is none, and UpdateSequence that one's.
	Sequence       int64
	Update         string
	UpdateSequence int64
	Endpoint       string
	AuthType       credential.AuthType
	CreatedAt      time.Time
	// UnauthorizedAt is when Exchange first answered 401 since the credential last worked, RefusedAt since when it counts
	// as refused; both zero if all is well.
	UnauthorizedAt, RefusedAt time.Time
	// Owed says that the journal holds work of this user that nobody is at.
	Owed bool
}

type lookup struct {
	userID, generation int64
	now                time.Time
}

// Subscription looks a generation up. Batched.
func (s *Store) Subscription(ctx context.Context, userID, generation int64, now time.Time) (Subscription, error) {
	return s.batches.lookups.do(ctx, lookup{userID, generation, now})
}

const selectSubscriptions = `
SELECT i.ord, u.user_hash, u.mailbox_id, s.state, s.f_hash, s.key_sealed, s.subscription_id, s.endpoint, s.auth_type, s.created_at,
    s.blob, s.device_id, s.sequence, s.update_blob, s.update_sequence, s.unauthorized_at, s.refused_at,
    EXISTS (SELECT 1 FROM pending p WHERE p.user_id = s.user_id AND p.done_at IS NULL
            AND (p.lease_until IS NULL OR p.lease_until <= i.now))
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) WITH ORDINALITY AS i(user_id, generation, now, ord)
JOIN subscriptions s ON s.user_id = i.user_id AND s.generation = i.generation
JOIN users u ON u.id = s.user_id`

func (s *Store) selectSubscriptions(ctx context.Context, lookups []lookup) ([]Subscription, error) {
	userIDs, generations, times := make([]int64, len(lookups)), make([]int64, len(lookups)), make([]time.Time, len(lookups))
	for i, l := range lookups {
		userIDs[i], generations[i], times[i] = l.userID, l.generation, l.now
	}
	rows, err := s.hot.Query(ctx, selectSubscriptions, userIDs, generations, times)
	if err != nil {
		return nil, s.noting(err)
	}
	found := make([]Subscription, len(lookups))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		ord, subscription, err := scanSubscription(row)
		if err == nil {
			found[ord-1] = subscription
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, s.noting(err)
	}
	return found, nil
}

// subscriptionRow is what a row holds. It is one variable, because each that is scanned into is an allocation.
type subscriptionRow struct {
	ord                    int
	found                  Subscription
	hash, filler           []byte
	subscriptionID, update *string
	updateSequence         *int64
	unauthorized, refused  *time.Time
}

func scanSubscription(row pgx.CollectableRow) (ord int, found Subscription, err error) {
	var r subscriptionRow
	err = row.Scan(&r.ord, &r.hash, &r.found.MailboxID, &r.found.State, &r.filler, &r.found.Key, &r.subscriptionID, &r.found.Endpoint,
		&r.found.AuthType, &r.found.CreatedAt, &r.found.Blob, &r.found.DeviceID, &r.found.Sequence, &r.update, &r.updateSequence,
		&r.unauthorized, &r.refused, &r.found.Owed)
	if err != nil {
		return 0, Subscription{}, err
	}
	found = r.found
	found.Found = true
	found.UserHash, found.FillerHash = [sha256.Size]byte(r.hash), [sha256.Size]byte(r.filler)
	found.SubscriptionID, found.Update, found.UpdateSequence = orZero(r.subscriptionID), orZero(r.update), orZero(r.updateSequence)
	found.UnauthorizedAt, found.RefusedAt = orZero(r.unauthorized), orZero(r.refused)
	return r.ord, found, nil
}

// Sign is a sign of life: when Exchange has posted for a user.
type Sign struct {
	UserID int64
	At     time.Time
}

// maxSigns is how many signs one statement records: for many more at once Postgres would rather read the whole table.
const maxSigns = 100

// MarkAlive records that Exchange has posted for users. Many signs at once cost little more than one. Of several of one user
// the latest counts, and none that is older than what is on record. All are recorded, or none.
func (s *Store) MarkAlive(ctx context.Context, signs ...Sign) error {
	latest := make(map[int64]time.Time, len(signs))
	for _, sign := range signs {
		if sign.At.After(latest[sign.UserID]) {
			latest[sign.UserID] = sign.At
		}
	}
	mark := twice(s, func(ctx context.Context, _ []struct{}) ([]struct{}, error) { return nil, s.updateMarks(ctx, latest) })
	if _, err := mark(ctx, nil); err != nil {
		return fmt.Errorf("marking subscriptions alive: %w", err)
	}
	return nil
}

// updateMarks does not wait for the disk: a mark that is lost in a crash is made again by the next heartbeat. The rows come
// sorted, see updateStates.
const updateMarks = `
UPDATE user_state AS st SET last_callback = greatest(st.last_callback, i.at)
FROM unnest($1::bigint[], $2::timestamptz[]) AS i(user_id, at)
WHERE st.user_id = i.user_id`

func (s *Store) updateMarks(ctx context.Context, latest map[int64]time.Time) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue("SET LOCAL synchronous_commit = off")
	for userIDs := range slices.Chunk(slices.Sorted(maps.Keys(latest)), maxSigns) {
		times := make([]time.Time, len(userIDs))
		for i, id := range userIDs {
			times[i] = latest[id]
		}
		batch.Queue(updateMarks, userIDs, times)
	}
	batch.Queue("COMMIT")
	return s.noting(s.hot.SendBatch(ctx, batch).Close())
}
