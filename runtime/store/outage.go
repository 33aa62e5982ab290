package store

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// hostPatience is how long one of the database's hosts may take to let us in, unless the URL says otherwise, before the
// next one is tried: a node that is down does not even refuse. Two hosts have their turn within statementTimeout.
const hostPatience = 2 * time.Second

// staleCodes are the SQLSTATEs after which every pooled connection is of no use: the server has become read only, because
// another one is the primary now, or it stops or starts.
var staleCodes = []string{
	"25006", // read_only_sql_transaction
	"57P01", // admin_shutdown; also a single connection that was ended
	"57P02", // crash_shutdown
	"57P03", // cannot_connect_now
}

func stale(err error) bool {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(staleCodes, refusal.Code)
}

// cut reports whether a statement failed for its connection, so that it may succeed on another one.
func cut(err error) bool {
	if _, refused := errors.AsType[*pgconn.ConnectError](err); refused { // that was another one
		return false
	}
	if stale(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) {
		return true
	}
	broken, ok := errors.AsType[*net.OpError](err)
	return ok && !broken.Timeout()
}

// unpreparedCodes are the SQLSTATEs by which it turns out that sessions are not ours alone.
var unpreparedCodes = []string{
	"08P01", // protocol_violation: a pooler does not take a parameter that only Postgres knows
	"26000", // invalid_sql_statement_name: this session does not have it
	"42P05", // duplicate_prepared_statement: it has it of somebody else
}

// unprepares reports whether a statement failed because prepared ones cannot be used here. They are not, from then on.
func (s *Store) unprepares(err error) bool {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !slices.Contains(unpreparedCodes, refusal.Code) {
		return false
	}
	s.unprepared.Store(true)
	return true
}

// deadlocked reports whether Postgres has ended a statement that another one waited for as this one did for it. It has changed
// nothing, and the other one has its way.
func deadlocked(err error) bool {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refusal.Code == "40P01"
}

// twice has a statement sent once more, on a new connection if its connection was cut: what Exchange or a notification
// waits for must not fail because Postgres was restarted a second ago. Only for statements that may be repeated.
func twice[In, Out any](s *Store, run func(context.Context, []In) ([]Out, error)) func(context.Context, []In) ([]Out, error) {
	return func(ctx context.Context, inputs []In) ([]Out, error) {
		outputs, err := run(ctx, inputs)
		switch {
		case err == nil || ctx.Err() != nil:
			return outputs, err
		case deadlocked(err):
		case s.unprepares(err) || cut(err):
			s.reset()
		default:
			return outputs, err
		}
		return run(ctx, inputs)
	}
}
