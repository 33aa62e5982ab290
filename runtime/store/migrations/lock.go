package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// lockWait is how long the tables are waited for at once. It is below the second after which Postgres looks for
	// deadlocks: a runtime that holds one table and wants another must not be the one whose transaction is ended.
	lockWait = 200 * time.Millisecond
	// lockPause is for those who have queued behind us meanwhile.
	lockPause = 100 * time.Millisecond
	// lockLimit is how long that is tried. Transactions of the runtime take milliseconds.
	lockLimit = 10 * time.Second
	// lockNotAvailable is the SQLSTATE of a lock that was not had in time.
	lockNotAvailable = "55P03"
)

// lockTables takes all tables of the schema at once, or none and tries again: scripts change one after the other, and who
// holds some of them while it waits for the rest may wait for somebody who waits for it.
func lockTables(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`)
	if err != nil {
		return fmt.Errorf("looking for the tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for the tables: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	for {
		err := pgx.BeginFunc(ctx, tx, func(attempt pgx.Tx) error { return lockAll(ctx, attempt, tables) })
		refused, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || refused.Code != lockNotAvailable {
			return err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return fmt.Errorf("the tables are in use: %w", err)
		}
	}
}

func lockAll(ctx context.Context, tx pgx.Tx, tables []string) error {
	var before string
	if err := tx.QueryRow(ctx, `SELECT current_setting('lock_timeout')`).Scan(&before); err != nil {
		return fmt.Errorf("reading the lock timeout: %w", err)
	}
	const set = `SELECT set_config('lock_timeout', $1, true)`
	if _, err := tx.Exec(ctx, set, fmt.Sprint(lockWait.Milliseconds())); err != nil {
		return fmt.Errorf("setting the lock timeout: %w", err)
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(tables, ", ")+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return fmt.Errorf("locking the tables: %w", err)
	}
	if _, err := tx.Exec(ctx, set, before); err != nil {
		return fmt.Errorf("setting the lock timeout back: %w", err)
	}
	return nil
}
