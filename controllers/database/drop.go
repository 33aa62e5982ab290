package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// sessionEnd is how long a session may take to end after it was told to, in milliseconds.
const sessionEnd = 5000

// Drop removes everything that the tenant has in the database: it ends the sessions of the tenant's roles, drops the
// schema and then the roles. A schema of another tenant or role is left alone, with the roles (State.Refusal is the
// error). It may be called again after a failure, and when nothing is there. In a tenant's own database there are no roles,
// and no sessions are ended.
func (s *Server) Drop(ctx context.Context, tenant migrations.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
	defer cancel()
	names := NamesFor(tenant)
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		conn := c.Conn()
		state, err := s.inspect(ctx, conn, names)
		if err != nil {
			return err
		}
		if err := state.Refusal(tenant); err != nil {
			return err
		}
		if s.own != nil {
			return dropOwn(ctx, conn, names)
		}
		roles, err := existingRoles(ctx, conn, names)
		if err != nil {
			return err
		}
		if err := endSessions(ctx, conn, names, roles); err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return dropAll(ctx, tx, names, roles) })
	})
	return s.classify("removing schema "+names.Schema, err)
}

func existingRoles(ctx context.Context, conn *pgx.Conn, names Names) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)", names.roles())
	if err != nil {
		return nil, fmt.Errorf("looking for the roles: %w", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for the roles: %w", err)
	}
	return roles, nil
}

// endSessions lets nobody in any more and ends who is.
func endSessions(ctx context.Context, conn *pgx.Conn, names Names, roles []string) error {
	for _, role := range roles {
		if slices.Contains(names.Logins[:], role) {
			if _, err := conn.Exec(ctx, "ALTER ROLE "+quote(role)+" NOLOGIN"); err != nil {
				return fmt.Errorf("closing role %s: %w", role, err)
			}
		}
	}
	return endSessionsOf(ctx, conn, roles)
}

func endSession(ctx context.Context, conn *pgx.Conn, session int32) error {
	var gone bool
	const end = "SELECT pg_terminate_backend($1, $2) OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
	if err := conn.QueryRow(ctx, end, session, sessionEnd).Scan(&gone); err != nil {
		return fmt.Errorf("ending a session of the tenant: %w", err)
	}
	if !gone {
		return errors.New("a session of the tenant did not end in time")
	}
	return nil
}

func dropAll(ctx context.Context, tx pgx.Tx, names Names, roles []string) error {
	if _, err := tx.Exec(ctx, "DROP SCHEMA IF EXISTS "+quote(names.Schema)+" CASCADE"); err != nil {
		return fmt.Errorf("dropping the schema: %w", err)
	}
	if len(roles) == 0 {
		return nil
	}
	quoted := make([]string, len(roles))
	for i, role := range roles {
		quoted[i] = quote(role)
	}
	list := strings.Join(quoted, ", ")
	for _, statement := range []string{"DROP OWNED BY " + list, "DROP ROLE " + list} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("dropping the roles: %w", err)
		}
	}
	return nil
}
