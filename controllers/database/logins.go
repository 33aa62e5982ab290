package database

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// A login role that is out of use has no password and is marked by an expiry that has always been over: unlike a password,
// that can be looked up by whoever is no superuser. So it is Postgres that tells how far a change of passwords has come.
// A role without any expiry is of an operator of before there was the mark, and may be in use.
const closedUntil = "-infinity"

// instanceTTL is after how long without a word a replica counts as gone, as the runtime counts it.
const instanceTTL = 10 * time.Minute

// Other is the login role beside that one.
func (n Names) Other(login string) string {
	if login == n.Logins[0] {
		return n.Logins[1]
	}
	return n.Logins[0]
}

// SetPassword sets the password of a login role and opens it if it was closed. The server gets the password's SCRAM
// verifier only, so that the password cannot appear in the server's log.
func (s *Server) SetPassword(ctx context.Context, role string, password secret.Value) error {
	verifier, err := scramVerifier(password)
	if err != nil {
		return fmt.Errorf("setting the password of role %s: %w", role, err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	// The verifier is base64 with a few signs that need no quoting.
	_, err = s.pool.Exec(ctx, "ALTER ROLE "+quote(role)+" PASSWORD '"+verifier+"' VALID UNTIL 'infinity'")
	return s.classify("setting the password of role "+role, err)
}

// CloseLogin lets nobody in as role any more, which must be a login role of names, and ends who is. It may be repeated.
func (s *Server) CloseLogin(ctx context.Context, role string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		conn := c.Conn()
		if _, err := conn.Exec(ctx, "ALTER ROLE "+quote(role)+" PASSWORD NULL VALID UNTIL '"+closedUntil+"'"); err != nil {
			return fmt.Errorf("taking the password from role %s: %w", role, err)
		}
		return endSessionsOf(ctx, conn, []string{role})
	})
	return s.classify("closing role "+role, err)
}

// FreeLogin is the login role to give a new password to when nobody knows the one in use any more: the second one if
// only the first one has sessions, else the first one. First says that neither is in use, as far as can be told.
func (s *Server) FreeLogin(ctx context.Context, names Names) (login string, first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	const look = `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1), EXISTS (SELECT FROM pg_stat_activity WHERE usename = $2),
       EXISTS (SELECT FROM pg_roles WHERE rolname IN ($1, $2) AND rolvaliduntil IS DISTINCT FROM '` + closedUntil + `')`
	var one, other, opened bool
	if err := s.pool.QueryRow(ctx, look, names.Logins[0], names.Logins[1]).Scan(&one, &other, &opened); err != nil {
		return "", false, s.classify("looking for the sessions of schema "+names.Schema, err)
	}
	first = !one && !other && !opened
	if one && !other {
		return names.Logins[1], first, nil
	}
	return names.Logins[0], first, nil
}

// LoginUse is what is known of the users of a login role.
type LoginUse struct {
	// Closed says that it has no password, or is not there; Sessions is how many there are all the same.
	Closed   bool
	Sessions int
	// Replicas is how many of the tenant's replicas may log in as it: those that say so, and those of an older version that
	// say nothing and have been running since before the moment that was asked about.
	Replicas int
}

// LoginUse finds out who may still use a login role of which the password was replaced at that time.
func (s *Server) LoginUse(ctx context.Context, names Names, role string, replaced, now time.Time) (LoginUse, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var use LoginUse
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		look := `
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND rolvaliduntil IS DISTINCT FROM '` + closedUntil + `'),
       (SELECT count(*) FROM pg_stat_activity WHERE usename = $1),
       (SELECT count(*) FROM ` + quote(names.Schema) + `.instances
        WHERE seen_at >= $2 AND (login = $1 OR login IS NULL AND started_at < $3))`
		return c.Conn().QueryRow(ctx, look, once, role, now.Add(-instanceTTL), replaced).Scan(&use.Closed, &use.Sessions, &use.Replicas)
	})
	return use, s.classify("looking who uses role "+role, err)
}

// endSessionsOf ends the sessions of roles.
func endSessionsOf(ctx context.Context, conn *pgx.Conn, roles []string) error {
	for _, role := range roles {
		// Only a member of a role may end its sessions and drop what it owns.
		if _, err := conn.Exec(ctx, "GRANT "+quote(role)+" TO CURRENT_USER"); err != nil {
			return fmt.Errorf("becoming a member of role %s: %w", role, err)
		}
	}
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE usename = ANY ($1)", roles)
	if err != nil {
		return fmt.Errorf("looking for the tenant's sessions: %w", err)
	}
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return fmt.Errorf("looking for the tenant's sessions: %w", err)
	}
	for _, session := range sessions {
		// Not in the query above: Postgres might ask it for every session before it looks whose they are.
		if err := endSession(ctx, conn, session); err != nil {
			return err
		}
	}
	return nil
}
