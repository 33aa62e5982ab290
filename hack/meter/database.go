package meter

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Parameters have Postgres count statements.
func Parameters() map[string]string {
	return map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "on", "pg_stat_statements.max": "1000",
	}
}

// Database measures one database of a Postgres that was started with Parameters.
type Database struct{ pool *pgxpool.Pool }

// NewDatabase measures by the connections of a superuser, whose own statements do not count.
func NewDatabase(ctx context.Context, pool *pgxpool.Pool) (*Database, error) {
	for _, extension := range []string{"pg_stat_statements", "pg_walinspect"} {
		if _, err := pool.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS "+pgx.Identifier{extension}.Sanitize()); err != nil {
			return nil, fmt.Errorf("adding the extension %s (of Postgres' contrib package): %w", extension, err)
		}
	}
	return &Database{pool: pool}, nil
}

// Position is where a database stands: subtract two.
type Position struct {
	// LSN is the end of the write-ahead log.
	LSN string
	// Statements is how many the runtime has sent: each of a transaction's own counts, BEGIN too.
	Statements int64
	// Updates and HotUpdates are those of all tables of the schema.
	Updates, HotUpdates int64
}

// Position reads it.
func (d *Database) Position(ctx context.Context, role, schema string) (Position, error) {
	var p Position
	const query = `SELECT pg_current_wal_insert_lsn()::text,
    (SELECT coalesce(sum(s.calls), 0)::bigint FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1),
    (SELECT coalesce(sum(n_tup_upd), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $2),
    (SELECT coalesce(sum(n_tup_hot_upd), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $2)`
	err := d.pool.QueryRow(ctx, query, role, schema).Scan(&p.LSN, &p.Statements, &p.Updates, &p.HotUpdates)
	if err != nil {
		return Position{}, fmt.Errorf("reading the database's counters: %w", err)
	}
	return p, nil
}

// Statement is one that was sent.
type Statement struct {
	Text  string
	Calls int64
	// Milliseconds is how long all calls together took on the server.
	Milliseconds float64
}

// Statements are those of a role since Forget, the longest first.
func (d *Database) Statements(ctx context.Context, role string) ([]Statement, error) {
	const query = `SELECT s.query, s.calls, s.total_exec_time FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = $1 ORDER BY s.total_exec_time DESC`
	rows, err := d.pool.Query(ctx, query, role)
	if err != nil {
		return nil, fmt.Errorf("reading the statements: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Statement])
}

// Forget begins to count statements anew.
func (d *Database) Forget(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, `SELECT pg_stat_statements_reset()`)
	return err
}

// WAL is what was written to the log between two positions, in bytes: the records, and the images of whole pages among
// them, which depend on how often there is a checkpoint.
func (d *Database) WAL(ctx context.Context, from, to Position) (records, images int64, err error) {
	if from.LSN == to.LSN {
		return 0, 0, nil
	}
	// What is told is what has reached the disk: a commit that waits for it takes all before it along.
	if _, err := d.pool.Exec(ctx, `SELECT pg_logical_emit_message(true, 'loadgen', '')`); err != nil {
		return 0, 0, fmt.Errorf("flushing the write-ahead log: %w", err)
	}
	const query = `SELECT coalesce(sum(record_size), 0)::bigint, coalesce(sum(fpi_size), 0)::bigint FROM pg_get_wal_stats($1::pg_lsn, $2::pg_lsn)`
	if err := d.pool.QueryRow(ctx, query, from.LSN, to.LSN).Scan(&records, &images); err != nil {
		return 0, 0, fmt.Errorf("reading the write-ahead log: %w", err)
	}
	return records, images, nil
}

// Record is one kind of record in the write-ahead log.
type Record struct {
	Kind  string
	Count int64
	// Bytes is the size of all without images of pages.
	Bytes int64
}

// Records are the kinds of records between two positions of which WAL was asked, the largest first.
func (d *Database) Records(ctx context.Context, from, to Position) ([]Record, error) {
	const query = `SELECT "resource_manager/record_type", count::bigint, record_size::bigint
FROM pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true) WHERE count > 0 ORDER BY record_size DESC`
	rows, err := d.pool.Query(ctx, query, from.LSN, to.LSN)
	if err != nil {
		return nil, fmt.Errorf("reading the write-ahead log: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Record])
}

// Size is how much a schema's tables take with their indexes, in bytes.
func (d *Database) Size(ctx context.Context, schema string) (int64, error) {
	var size int64
	const query = `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'`
	if err := d.pool.QueryRow(ctx, query, schema).Scan(&size); err != nil {
		return 0, fmt.Errorf("reading the schema's size: %w", err)
	}
	return size, nil
}

// Connections is how many sessions a role has.
func (d *Database) Connections(ctx context.Context, role string) (int, error) {
	var count int
	if err := d.pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, role).Scan(&count); err != nil {
		return 0, fmt.Errorf("counting the sessions: %w", err)
	}
	return count, nil
}

// Table is how a table stands.
type Table struct {
	Name string
	// Heap and Indexes are sizes in bytes; what is stored apart (TOAST) is part of the heap.
	Heap, Indexes int64
	// Updates, HotUpdates and Vacuums have been counted since the table was made; the latter those of autovacuum.
	Updates, HotUpdates, Vacuums int64
}

// Tables are those of a schema, by name.
func (d *Database) Tables(ctx context.Context, schema string) ([]Table, error) {
	const query = `SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_tup_upd, n_tup_hot_upd, autovacuum_count
FROM pg_stat_user_tables WHERE schemaname = $1 ORDER BY relname`
	rows, err := d.pool.Query(ctx, query, schema)
	if err != nil {
		return nil, fmt.Errorf("reading the tables: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
}
