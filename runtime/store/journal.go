package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
INSERT INTO pending AS p (user_id, kind, item, generation, lease_owner, lease_until, created_at)
SELECT i.user_id, i.kind, i.item, i.generation, i.owner, i.until, i.now
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::bigint[], $5::uuid[], $6::timestamptz[], $7::timestamptz[])
    AS i(user_id, kind, item, generation, owner, until, now)
JOIN users u ON u.id = i.user_id
ORDER BY i.user_id, i.kind, i.item FOR KEY SHARE OF u
ON CONFLICT (user_id, kind, item) DO UPDATE SET
    generation = excluded.generation, lease_owner = excluded.lease_owner, lease_until = excluded.lease_until,
    revision = p.revision + 1,
    done = CASE WHEN p.kind = 1 THEN ` + doneSoFar + ` WHEN p.done_at IS NULL AND p.lease_owner <> excluded.lease_owner THEN '{0}' ELSE '{}' END,
    done_at = NULL,
    attempts = CASE WHEN p.done_at IS NULL THEN p.attempts ELSE 0 END,
    created_at = CASE WHEN p.done_at IS NULL THEN p.created_at ELSE excluded.created_at END
WHERE p.kind <> 1 OR (p.done_at IS NULL AND (p.lease_until IS NULL OR p.lease_until <= excluded.created_at))
RETURNING user_id, kind, item, revision, attempts, done, created_at`

func (s *Store) insertEntries(ctx context.Context, calls [][]Entry) ([][]Claim, error) {
	// One statement must not meet the same key twice. The first caller's entry counts, since it gets the claim.
	byKey := map[Key]Entry{}
	for _, entries := range calls {
		for _, e := range entries {
			if _, there := byKey[e.Key]; !there {
				byKey[e.Key] = e
			}
		}
	}
	rows := slices.Collect(maps.Values(byKey))
	n := len(rows)
	userIDs, kinds, items := make([]int64, n), make([]int16, n), make([]string, n)
	generations, owners := make([]int64, n), make([][16]byte, n)
	until, now := make([]time.Time, n), make([]time.Time, n)
	for i, e := range rows {
		userIDs[i], kinds[i], items[i] = e.UserID, int16(e.Kind), e.Item
		generations[i], owners[i], until[i], now[i] = e.Generation, e.Owner, e.LeaseUntil, e.Now
	}
	claims, err := s.claims(ctx, insertEntries, userIDs, kinds, items, generations, owners, until, now)
	if err != nil {
		return nil, err
	}
	mine := map[Key]Claim{}
	for _, c := range claims {
		mine[c.Key] = c
	}
	out := make([][]Claim, len(calls))
	for i, entries := range calls {
		for _, e := range entries {
			if c, ok := mine[e.Key]; ok {
				out[i] = append(out[i], c)
				delete(mine, e.Key) // of several callers with the same key, one does the work
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
		err := row.Scan(&c.UserID, &c.Kind, &c.Item, &c.Revision, &c.Attempts, &c.Done, &c.CreatedAt)
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
RETURNING user_id, kind, item, revision, attempts, done, created_at`
	claims, err := s.claims(ctx, take, userID, owner, now, leaseUntil, maxOwed)
	if err != nil {
		return nil, fmt.Errorf("taking up what is owed: %w", err)
	}
	return claims, nil
}

// Completion is the end of a claim.
type Completion struct {
	Claim
	Owner Owner
	// Finished says that every device has been told, or never will be. Else the row stays owed, Done as it stands.
	Finished bool
	// Failed says that the work was tried and failed; else it was given back untried.
	Failed bool
	Now    time.Time
}

// Complete ends claims. Where what is owed has changed meanwhile, or the lease was lost, nothing changes. Batched.
func (s *Store) Complete(ctx context.Context, completions []Completion) error {
	_, err := s.batches.completions.do(ctx, completions)
	return err
}

// updateEntries leaves a failed row alone for a minute, then two, four, up to an hour, so that ten tries span hours
// however busy the mailbox is. It locks the rows by its inner query, in the order of insertEntries.
const updateEntries = `
UPDATE pending AS p SET
    done = i.done::bigint[],
    done_at = CASE WHEN i.finished THEN i.now END,
    attempts = p.attempts + CASE WHEN i.failed THEN 1 ELSE 0 END,
    lease_owner = NULL,
    lease_until = CASE WHEN i.failed AND NOT i.finished
        THEN i.now + make_interval(mins => least(2 ^ least(p.attempts, 6), 60)::int) END
FROM (SELECT i.* FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::int[], $5::uuid[], $6::bool[], $7::bool[],
        $8::timestamptz[], $9::text[]) AS i(user_id, kind, item, revision, owner, finished, failed, now, done)
      JOIN pending l ON l.user_id = i.user_id AND l.kind = i.kind AND l.item = i.item AND l.revision = i.revision
        AND l.lease_owner = i.owner
      ORDER BY i.user_id, i.kind, i.item FOR NO KEY UPDATE OF l) AS i
WHERE p.user_id = i.user_id AND p.kind = i.kind AND p.item = i.item AND p.revision = i.revision AND p.lease_owner = i.owner`

func (s *Store) updateEntries(ctx context.Context, calls [][]Completion) ([]struct{}, error) {
	rows := slices.Concat(calls...)
	n := len(rows)
	userIDs, kinds, items, revisions := make([]int64, n), make([]int16, n), make([]string, n), make([]int32, n)
	owners, finished, failed := make([][16]byte, n), make([]bool, n), make([]bool, n)
	now, done := make([]time.Time, n), make([]string, n)
	for i, c := range rows {
		userIDs[i], kinds[i], items[i], revisions[i] = c.UserID, int16(c.Kind), c.Item, int32(c.Revision)
		owners[i], finished[i], failed[i], now[i], done[i] = c.Owner, c.Finished, c.Failed, c.Now, arrayLiteral(c.Done)
	}
	_, err := s.hot.Exec(ctx, updateEntries, userIDs, kinds, items, revisions, owners, finished, failed, now, done)
	if err != nil {
		return nil, s.noting(err)
	}
	return make([]struct{}, len(calls)), nil
}

// arrayLiteral is PostgreSQL's text form of a bigint[]: unnest cannot take arrays of arrays of different lengths.
func arrayLiteral[T ~int64](numbers []T) string {
	text := []byte{'{'}
	for i, number := range numbers {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(number), 10)
	}
	return string(append(text, '}'))
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
