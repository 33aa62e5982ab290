package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

type poolConn = pgxpool.Conn

// Provision makes the tenant's roles and schema, brings the schema to the newest version and grants its rows. It
// returns the schema's version. It refuses a schema of another tenant (migrations.ErrForeignSchema) and one that a
// newer operator made (migrations.ErrNewerSchema), and changes nothing in them. In a tenant's own database it sets the role up
// and makes none, and refuses one that is another tenant's (*SharedRoleError).
func (s *Server) Provision(ctx context.Context, tenant migrations.Identity) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
	defer cancel()
	names := NamesFor(tenant)
	version := 0
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		conn := c.Conn()
		state, err := s.inspect(ctx, conn, names)
		if err != nil {
			return err
		}
		if err := state.Refusal(tenant); err != nil {
			return err
		}
		if s.own != nil { // first of all, so that nothing is made with a role that is another tenant's
			if err := ensureOwn(ctx, conn, names); err != nil {
				return err
			}
		}
		if !state.SchemaExists {
			if _, err := conn.Exec(ctx, "CREATE SCHEMA "+quote(names.Schema)); err != nil {
				return fmt.Errorf("creating schema %s: %w", names.Schema, err)
			}
		}
		if version, err = s.known().Migrate(ctx, conn, names.Schema, tenant); err != nil {
			return err
		}
		if s.own != nil {
			return nil
		}
		return ensureRoles(ctx, conn, names)
	})
	return version, s.classify("preparing schema "+names.Schema, err)
}

// ensureRoles makes the roles and grants them what they need, all in one transaction.
func ensureRoles(ctx context.Context, conn *pgx.Conn, names Names) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := ensureRole(ctx, tx, names.Schema, "NOLOGIN", ""); err != nil {
			return err
		}
		if err := migrations.Grant(ctx, conn, names.Schema, names.Schema); err != nil {
			return err
		}
		for _, login := range names.Logins {
			if err := ensureLogin(ctx, tx, names, login); err != nil {
				return err
			}
		}
		return nil
	})
}

// ensureRole gives a role an attribute, and one that has to be made first further ones.
func ensureRole(ctx context.Context, tx pgx.Tx, role, attribute, atFirst string) error {
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&exists); err != nil {
		return fmt.Errorf("looking for role %s: %w", role, err)
	}
	statement := "CREATE ROLE " + quote(role) + " " + attribute + " " + atFirst
	if exists {
		statement = "ALTER ROLE " + quote(role) + " " + attribute
	}
	if _, err := tx.Exec(ctx, statement); err != nil {
		return fmt.Errorf("making role %s: %w", role, err)
	}
	return nil
}

func ensureLogin(ctx context.Context, tx pgx.Tx, names Names, login string) error {
	if err := ensureRole(ctx, tx, login, "LOGIN INHERIT", "VALID UNTIL '"+closedUntil+"'"); err != nil {
		return err
	}
	statements := []string{"GRANT " + quote(names.Schema) + " TO " + quote(login)}
	for _, s := range settings(names) {
		statements = append(statements, "ALTER ROLE "+quote(login)+" SET "+s.name+" = "+quote(s.value))
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("setting up role %s: %w", login, err)
		}
	}
	return nil
}

// PasswordRefused reports whether the server refuses role's password. A login that fails for any other reason tells
// nothing about the password: the server may let the role in from the pods only.
func (s *Server) PasswordRefused(ctx context.Context, role string, password secret.Value) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	config := s.pool.Config().ConnConfig
	if s.own == nil && s.verify(config) != nil {
		return false
	}
	config.User, config.Password = role, password.RevealString()
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0 // nothing is asked
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
		return false
	}
	const invalidPassword = "28P01"
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refusal.Code == invalidPassword
}
