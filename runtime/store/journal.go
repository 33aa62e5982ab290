package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// EntryKind is what the phones are owed.
type EntryKind int16

// The kinds. The numbers stand in the database.
const (
	// NewMail: an alert for one item.
	NewMail EntryKind = 1
	// Badge: the unread count, one coalesced row a user.
	Badge EntryKind = 2
	// Resubscribe: a silent push that asks the phones to register again.
	Resubscribe EntryKind = 3
	// CatchUp: look up what came while there was no subscription.
	CatchUp EntryKind = 4
)

// Key names a row of the journal.
type Key struct {
	UserID int64
	Kind   EntryKind
	// Item is the EWS item id of a new mail, the Gap of a CatchUp, else empty.
	Item string
}

// shortItem is the length of a hash in the journal's key: 12 bytes in base64, enough among the mails of one user.
const shortItem = 16

// inRow is the key as it stands in the table: a hash for an item that is longer, since it is written to the log and to the
// index with each mail. What stands for no mail is kept as it is.
func (k Key) inRow() Key {
	if k.Kind == NewMail && len(k.Item) > shortItem {
		sum := sha256.Sum256([]byte(k.Item))
		k.Item = base64.RawURLEncoding.EncodeToString(sum[:shortItem/4*3])
	}
	return k
}

// Owner is a replica.
type Owner [16]byte

// Entry is an intent to be written to the journal.
type Entry struct {
	Key
	Generation int64
	Owner      Owner
	// Now and LeaseUntil bound the lease under which the writer works on it.
	Now, LeaseUntil time.Time
}

// Claim is a row of the journal that the caller now works on.
type Claim struct {
	Key
	// row is the item as it stands in the row's key.
	row string
	// Revision rises when what is owed changes under the work, and with every new claim.
	Revision int
	// Attempts counts the failed tries so far.
	Attempts int
	// Done are the refs of the devices that have been told, and interrupted.
	Done      []int64
	CreatedAt time.Time
}

// interrupted stands in Done, where it is no device's ref, if somebody had the claim and did not end it.
const interrupted = 0

// Interrupted reports whether somebody had the claim before and did not end it: the process died, or the database was
// away. What the devices have been told since then is not known.
func (c Claim) Interrupted() bool { return slices.Contains(c.Done, interrupted) }

// Told reports whether a device has been told.
func (c Claim) Told() bool {
	return slices.ContainsFunc(c.Done, func(ref int64) bool { return ref != interrupted })
}

// Write puts an intent into the journal before Exchange is answered, and claims it. A new mail that is there already is
// a repeat, and is claimed only if its lease has run out; a badge is asked for again. All entries are written, or none.
// It returns the claims to work on. Batched.
func (s *Store) Write(ctx context.Context, entries []Entry) ([]Claim, error) {
	return s.batches.journal.do(ctx, entries)
}

// doneSoFar are the devices that have been told when somebody else takes the row over, and the mark that says so: whoever
// ends a claim leaves no owner.
const doneSoFar = `CASE WHEN p.lease_owner IS NULL OR 0 = ANY (p.done) THEN p.done ELSE array_append(p.done, 0::bigint) END`

// A row that the join drops belongs to a user who has just unregistered: nobody is owed anything. The user's row is
// locked first, so that whoever unregisters now waits or is waited for, and rows are locked in one order for all
// replicas, whatever way the planner joins them.
const insertEntries = `
INSERT INTO pending AS p (user_id, kind, item, item_id, generation, lease_owner, lease_until, created_at)
SELECT i.user_id, i.kind, i.item, i.item_id, i.generation, i.owner, i.until, i.now
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::timestamptz[])
    AS i(user_id, kind, item, item_id, generation, owner, until, now)
JOIN users u ON u.id = i.user_id
ORDER BY i.user_id, i.kind, i.item COLLATE "C" FOR KEY SHARE OF u
ON CONFLICT (user_id, kind, item) DO UPDATE SET
    generation = excluded.generation, lease_owner = excluded.lease_owner, lease_until = excluded.lease_until,
    revision = p.revision + 1,
    done = CASE WHEN p.kind = 1 THEN ` + doneSoFar + ` WHEN p.done_at IS NULL AND p.lease_owner <> excluded.lease_owner THEN '{0}' ELSE '{}' END,
    done_at = NULL,
    attempts = CASE WHEN p.done_at IS NULL THEN p.attempts ELSE 0 END,
    created_at = CASE WHEN p.done_at IS NULL THEN p.created_at ELSE excluded.created_at END
WHERE p.kind <> 1 OR (p.done_at IS NULL AND (p.lease_until IS NULL OR p.lease_until <= excluded.created_at))
RETURNING user_id, kind, item, '', revision, attempts, done, created_at`

func (s *Store) insertEntries(ctx context.Context, calls [][]Entry) ([][]Claim, error) {
	// One statement must not meet the same key twice. The first caller's entry counts, since it gets the claim.
	byKey, rows := map[Key]Entry{}, make([][]Key, len(calls))
	for i, entries := range calls {
		for _, e := range entries {
			row := e.inRow()
			rows[i] = append(rows[i], row)
			if _, there := byKey[row]; !there {
				byKey[row] = e
			}
		}
	}
	n := len(byKey)
	userIDs, kinds, items, itemIDs := make([]int64, 0, n), make([]int16, 0, n), make([]string, 0, n), make([]*string, 0, n)
	generations, owners := make([]int64, 0, n), make([][16]byte, 0, n)
	until, now := make([]time.Time, 0, n), make([]time.Time, 0, n)
	for row, e := range byKey {
		var id *string
		if row.Item != e.Item {
			id = &e.Item
		}
		userIDs, kinds, items, itemIDs = append(userIDs, e.UserID), append(kinds, int16(e.Kind)), append(items, row.Item), append(itemIDs, id)
		generations, owners = append(generations, e.Generation), append(owners, e.Owner)
		until, now = append(until, e.LeaseUntil), append(now, e.Now)
	}
	claims, err := s.claims(ctx, insertEntries, userIDs, kinds, items, itemIDs, generations, owners, until, now)
	if err != nil {
		return nil, err
	}
	mine := map[Key]Claim{}
	for _, c := range claims {
		mine[Key{c.UserID, c.Kind, c.row}] = c
	}
	out := make([][]Claim, len(calls))
	for i, entries := range calls {
		for j, e := range entries {
			if c, ok := mine[rows[i][j]]; ok {
				c.Key = e.Key
				out[i] = append(out[i], c)
				delete(mine, rows[i][j]) // of several callers with the same key, one does the work
			}
		}
	}
	return out, nil
}

// claims runs a statement that returns claimed rows.
func (s *Store) claims(ctx context.Context, sql string, args ...any) ([]Claim, error) {
	rows, err := s.hot.Query(ctx, sql, args...)
	if err != nil {
		return nil, s.noting(err)
	}
	claims, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Claim, error) {
		var c Claim
		err := row.Scan(&c.UserID, &c.Kind, &c.row, &c.Item, &c.Revision, &c.Attempts, &c.Done, &c.CreatedAt)
		return c, err
	})
	return claims, s.noting(err)
}

// maxOwed is how many owed rows one callback takes up; the next callback takes more.
const maxOwed = 50

// TakeOwed claims what the user is owed and nobody is at.
func (s *Store) TakeOwed(ctx context.Context, userID int64, owner Owner, now, leaseUntil time.Time) ([]Claim, error) {
	const take = `
UPDATE pending AS p SET lease_owner = $2, lease_until = $4, revision = revision + 1, done = ` + doneSoFar + `
WHERE (user_id, kind, item) IN (
    SELECT user_id, kind, item FROM pending
    WHERE user_id = $1 AND done_at IS NULL AND (lease_until IS NULL OR lease_until <= $3)
    ORDER BY created_at LIMIT $5 FOR UPDATE SKIP LOCKED)
RETURNING user_id, kind, item, coalesce(item_id, item), revision, attempts, done, created_at`
	claims, err := s.claims(ctx, take, userID, owner, now, leaseUntil, maxOwed)
	if err != nil {
		return nil, fmt.Errorf("taking up what is owed: %w", err)
	}
	return claims, nil
}

// Owed returns how many rows of the journal are not done, and since when the oldest of them is owed.
func (s *Store) Owed(ctx context.Context) (rows int, since time.Time, err error) {
	var oldest *time.Time
	err = s.pool.QueryRow(ctx, `SELECT count(*), min(created_at) FROM pending WHERE done_at IS NULL`).Scan(&rows, &oldest)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("counting what is owed: %w", s.noting(err))
	}
	return rows, orZero(oldest), nil
}

// memory is how long a done row stays: it recognises Exchange's retries, NewMail after Created, and other replicas.
const memory = time.Hour

// DropDone forgets rows that have been done for an hour, at most limit of them.
func (s *Store) DropDone(ctx context.Context, now time.Time, limit int) (int64, error) {
	const drop = `DELETE FROM pending WHERE (user_id, kind, item) IN
(SELECT user_id, kind, item FROM pending WHERE done_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
	tag, err := s.pool.Exec(ctx, drop, now.Add(-memory), limit)
	if err != nil {
		return 0, fmt.Errorf("forgetting what is done: %w", s.noting(err))
	}
	return tag.RowsAffected(), nil
}

// String names the kind as metrics show it.
func (k EntryKind) String() string {
	switch k {
	case NewMail:
		return "new_mail"
	case Badge:
		return "badge"
	case Resubscribe:
		return "resubscribe"
	case CatchUp:
		return "catch_up"
	default:
		return "unknown"
	}
}
