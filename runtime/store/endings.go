package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Ending is how work for one user ends: what the devices were told, and what becomes of the claims.
type Ending struct {
	// Told is nil if nothing was.
	Told        *Told
	Completions []Completion
}

// Told is what was told to a user's devices.
type Told struct {
	UserID int64
	// At is when that was.
	At time.Time
	// Unread is the count they were told, nil if it is not known.
	Unread *int
	// Badged are the refs of the devices that were told Unread.
	Badged []int64
	// Delivered says that at least one notification was accepted by a provider.
	Delivered bool
	// Newest begins with the newest of the mails that were seen, by Exchange's clock; zero if none was.
	Newest Gap
	// Revision is that of the Target by which it was decided what to tell, Generation that of the subscription, and Owner the
	// replica that has told it.
	Revision   int
	Generation int64
	Owner      Owner
	// Heard is when Exchange posted what was told, zero if it did not: a sign of life, as for MarkAlive.
	Heard time.Time
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

// Finish remembers what was told, for the next badge and for how far the user has been told, and ends the claims: all or
// nothing. Where what is owed has changed meanwhile, or the lease was lost, the claim's row stays as it is. Batched.
//
// It returns whether another replica has told the same user's devices at the same time, so that nobody knows whose count they
// got last: then the journal owes it anew, as a claim that counts as interrupted.
func (s *Store) Finish(ctx context.Context, e Ending) (overtaken bool, err error) {
	return s.batches.endings.do(ctx, e)
}

// maxSeen bounds the mails of one second that are remembered: a Gap with so many fits the journal's index.
const maxSeen = 100

// The rows of a statement come sorted, and are found by their keys one after the other, so that they are locked in one order
// for all replicas. All who work for a user lock the rows of user_state first, then those of pending, then those of devices,
// as does whoever removes the user.
const (
	// A count that another replica is at is left to it: it will find that it was overtaken, too.
	updateStates = `
WITH changed AS (
    UPDATE user_state AS st SET unread = coalesce(i.unread, st.unread), revision = st.revision + 1,
        last_delivery = CASE WHEN i.delivered THEN i.at ELSE st.last_delivery END,
        last_callback = greatest(st.last_callback, i.heard),
        newest_mail = greatest(st.newest_mail, i.newest),
        newest_items = CASE WHEN i.newest IS NULL OR i.newest < st.newest_mail THEN st.newest_items WHEN i.newest = st.newest_mail
            THEN ARRAY(SELECT DISTINCT unnest(st.newest_items || i.seen::bigint[]) LIMIT $8) ELSE (i.seen::bigint[])[1:$8] END,
        badged = CASE WHEN i.unread IS NULL OR i.unread = st.unread AND i.badged::bigint[] <@ st.badged THEN st.badged
            WHEN i.unread = st.unread THEN st.badged || i.badged::bigint[] ELSE i.badged::bigint[] END
    FROM unnest($1::bigint[], $2::integer[], $3::bool[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::text[],
        $9::integer[], $10::bigint[], $11::uuid[], $12::text[])
        AS i(user_id, unread, delivered, at, heard, newest, seen, revision, generation, owner, badged)
    WHERE st.user_id = i.user_id
    RETURNING st.user_id, i.generation, i.at, i.owner, st.revision <> i.revision + 1 AS overtaken)
INSERT INTO pending AS p (user_id, kind, item, generation, created_at, lease_owner, done)
SELECT user_id, 2, '', generation, at, owner, '{0}'::bigint[] FROM changed WHERE overtaken
ON CONFLICT (user_id, kind, item) DO UPDATE SET generation = excluded.generation, created_at = excluded.created_at,
    revision = p.revision + 1, attempts = 0, done = excluded.done, done_at = NULL, lease_owner = NULL, lease_until = NULL
WHERE p.done_at IS NOT NULL OR p.lease_until IS NULL OR p.lease_until <= excluded.created_at OR p.lease_owner = excluded.lease_owner
RETURNING user_id`

	// A row that failed is left alone for a minute, then two, four, up to an hour, so that ten tries span hours however busy
	// the mailbox is. Once it is done, nobody asks for the mail any more.
	updateEntries = `
UPDATE pending AS p SET
    done = i.done::bigint[],
    done_at = CASE WHEN i.finished THEN i.now END,
    item_id = CASE WHEN NOT i.finished THEN p.item_id END,
    attempts = p.attempts + CASE WHEN i.failed THEN 1 ELSE 0 END,
    lease_owner = NULL,
    lease_until = CASE WHEN i.failed AND NOT i.finished
        THEN i.now + make_interval(mins => least(2 ^ least(p.attempts, 6), 60)::int) END
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::int[], $5::uuid[], $6::bool[], $7::bool[], $8::timestamptz[], $9::text[])
    AS i(user_id, kind, item, revision, owner, finished, failed, now, done)
WHERE p.user_id = i.user_id AND p.kind = i.kind AND p.item = i.item AND p.revision = i.revision AND p.lease_owner = i.owner`

	// A replica of the version before 0009_badged.sql must not go by what it has told itself.
	forgetBadges = `
UPDATE devices AS d SET badge_sent = NULL
FROM unnest($1::bigint[]) AS i(ref)
WHERE d.ref = i.ref AND d.badge_sent IS NOT NULL`
)

// endWork sends everything in one go, which is one transaction. It returns for each ending whether it was overtaken.
func (s *Store) endWork(ctx context.Context, endings []Ending) ([]bool, error) {
	batch := &pgx.Batch{}
	overtaken := map[int64]bool{}
	waves := inWaves(endings)
	for _, told := range waves {
		queueStates(batch, told, overtaken)
	}
	queueEntries(batch, endings)
	for _, told := range waves {
		queueForgetting(batch, told)
	}
	if batch.Len() > 0 {
		if err := s.noting(s.hot.SendBatch(ctx, batch).Close()); err != nil {
			return nil, err
		}
	}
	out := make([]bool, len(endings))
	for i, e := range endings {
		out[i] = e.Told != nil && overtaken[e.Told.UserID]
	}
	return out, nil
}

// inWaves sorts by user, and puts what is of the same user into one wave after the other: a statement changes a row once.
func inWaves(endings []Ending) (waves [][]*Told) {
	seen := make(map[int64]int, len(endings))
	for _, e := range endings {
		if e.Told == nil {
			continue
		}
		wave := seen[e.Told.UserID]
		seen[e.Told.UserID]++
		if wave == len(waves) {
			waves = append(waves, nil)
		}
		waves[wave] = append(waves[wave], e.Told)
	}
	for _, wave := range waves {
		slices.SortFunc(wave, func(a, b *Told) int { return cmp.Compare(a.UserID, b.UserID) })
	}
	return waves
}

// queueStates adds the users whose count is owed anew to overtaken, once the batch is sent.
func queueStates(batch *pgx.Batch, told []*Told, overtaken map[int64]bool) {
	n := len(told)
	userIDs, unread, delivered, at := make([]int64, n), make([]*int, n), make([]bool, n), make([]time.Time, n)
	heard, newest, seen := make([]*time.Time, n), make([]*time.Time, n), make([]string, n)
	revisions, generations, owners, badged := make([]int32, n), make([]int64, n), make([][16]byte, n), make([]string, n)
	for i, t := range told {
		userIDs[i], unread[i], delivered[i], at[i] = t.UserID, t.Unread, t.Delivered, t.At
		heard[i], newest[i], seen[i] = orNull(t.Heard), orNull(t.Newest.Since), arrayLiteral(t.Newest.Seen)
		revisions[i], generations[i], owners[i], badged[i] = int32(t.Revision), t.Generation, t.Owner, arrayLiteral(t.Badged)
	}
	batch.Queue(updateStates, userIDs, unread, delivered, at, heard, newest, seen, maxSeen, revisions, generations, owners, badged).Query(func(rows pgx.Rows) error {
		users, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, id := range users {
			overtaken[id] = true
		}
		return err
	})
}

// orNull is nil for no time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// queueEntries ends the claims of all endings, of which none comes twice: who has the lease ends it.
func queueEntries(batch *pgx.Batch, endings []Ending) {
	var rows []Completion
	for _, e := range endings {
		rows = append(rows, e.Completions...)
	}
	if len(rows) == 0 {
		return
	}
	slices.SortFunc(rows, func(a, b Completion) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.row, b.row))
	})
	n := len(rows)
	userIDs, kinds, items, revisions := make([]int64, n), make([]int16, n), make([]string, n), make([]int32, n)
	owners, finished, failed := make([][16]byte, n), make([]bool, n), make([]bool, n)
	now, done := make([]time.Time, n), make([]string, n)
	for i, c := range rows {
		userIDs[i], kinds[i], items[i], revisions[i] = c.UserID, int16(c.Kind), c.row, int32(c.Revision)
		owners[i], finished[i], failed[i], now[i], done[i] = c.Owner, c.Finished, c.Failed, c.Now, arrayLiteral(c.Done)
	}
	batch.Queue(updateEntries, userIDs, kinds, items, revisions, owners, finished, failed, now, done)
}

func queueForgetting(batch *pgx.Batch, told []*Told) {
	var refs []int64
	for _, t := range told {
		refs = append(refs, t.Badged...)
	}
	if len(refs) > 0 {
		slices.Sort(refs)
		batch.Queue(forgetBadges, refs)
	}
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
