package testenv

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Querier is what DumpSchemas needs of a connection or a pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// DumpSchemas returns every row of every table outside of PostgreSQL's own schemas as text, bytea in hex, to search for
// what must not stand there. The role must be able to read them all.
func DumpSchemas(ctx context.Context, conn Querier) (string, error) {
	const tables = `SELECT table_schema, table_name FROM information_schema.tables
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE' ORDER BY 1, 2`
	rows, err := conn.Query(ctx, tables)
	if err != nil {
		return "", fmt.Errorf("listing the tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (pgx.Identifier, error) {
		name := make(pgx.Identifier, 2)
		err := row.Scan(&name[0], &name[1])
		return name, err
	})
	if err != nil {
		return "", fmt.Errorf("listing the tables: %w", err)
	}
	var dump strings.Builder
	for _, name := range names {
		fmt.Fprintf(&dump, "-- %s.%s\n", name[0], name[1])
		rows, err := conn.Query(ctx, "SELECT t::text FROM "+name.Sanitize()+" AS t")
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", name[1], err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", name[1], err)
		}
		for _, line := range lines {
			dump.WriteString(line + "\n")
		}
	}
	return dump.String(), nil
}
