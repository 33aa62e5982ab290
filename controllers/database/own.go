package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/databaseurl"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// A tenant's own database has one role, which somebody else keeps: it owns the schema, and the pods log in as it. What a
// pod's session begins with is set for the role in this database only, so it has to be the only tenant there.

// roleLocks is the first half of the advisory locks on roles, so that they meet no others: "ensr" in ASCII. The migrations'
// is "ens".
const roleLocks = 0x656e7372

// OwnOptions are how to reach a tenant's own database.
type OwnOptions struct {
	// URL is the connection string, with a password.
	URL secret.Value
	// Authorities are the certificate authorities, in PEM, that the server is verified against; nil are the system's.
	Authorities []byte
	// RuntimeHost and RuntimePort are where the pods reach it, as in Options.
	RuntimeHost string
	RuntimePort uint16
	// Guard decides which addresses the operator may reach for it.
	Guard egress.Guard
}

// ownLogin is how everybody gets into a tenant's own database.
type ownLogin struct {
	role     string
	password secret.Value
}

// OpenOwn prepares a connection to a tenant's own database; it does not make one yet. Its errors repeat nothing of the URL.
func OpenOwn(ctx context.Context, options OwnOptions) (*Server, error) {
	parsed, err := databaseurl.Parse(options.URL)
	if err != nil {
		return nil, err
	}
	password, found := parsed.User.Password()
	if !found || password == "" { // else this process's own might be sent, from its environment
		return nil, errors.New("the database URL has no password")
	}
	if strings.Trim(parsed.Path, "/") == "" {
		return nil, errors.New("the database URL does not name the database")
	}
	authorities := func() ([]byte, error) { return options.Authorities, nil }
	_, trusted, err := readAuthorities(authorities)
	if err != nil {
		return nil, err
	}
	text, query := options.URL.RevealString(), parsed.Query()
	if trusted != nil {
		query.Set("sslmode", databaseurl.Verifying(query.Get("sslmode")))
		parsed.RawQuery = query.Encode()
		text = parsed.String()
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, errors.New("the database URL cannot be read")
	}
	databaseurl.Trust(&config.ConnConfig.Config, trusted)
	config.MaxConns = 1
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.DialFunc = options.Guard.DialContext
	config.ConnConfig.RuntimeParams["application_name"] = "ens-operator"
	config.AfterConnect = limitOwn
	runtime := Options{RuntimeHost: options.RuntimeHost, RuntimePort: options.RuntimePort, RuntimeSSLMode: query.Get("sslmode")}
	address, err := runtimeAddress(config.ConnConfig, runtime, "")
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.New("the database URL cannot be used")
	}
	login := &ownLogin{parsed.User.Username(), secret.FromString(password)}
	return &Server{pool: pool, runtime: address, authorities: authorities, own: login}, nil
}

// limitOwn is limitLocks for a role whose sessions begin with the runtime's time-outs: a migration may take longer.
func limitOwn(ctx context.Context, conn *pgx.Conn) error {
	if err := limitLocks(ctx, conn); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SET statement_timeout = 0")
	return err
}

// OwnLogin is the role of a tenant's own database and the pods' connection string; ok is false for the shared database.
func (s *Server) OwnLogin() (role string, url secret.Value, ok bool) {
	if s.own == nil {
		return "", secret.Value{}, false
	}
	return s.own.role, s.RuntimeURL(s.own.role, s.own.password), true
}

// SharedRoleError says that the sessions of a role begin in a schema that is not the tenant's.
type SharedRoleError struct{ Role, Path string }

// Error says what to do.
func (e *SharedRoleError) Error() string {
	return fmt.Sprintf("the sessions of role %s begin in schema %s, which is not this tenant's: give the tenant a role or database of its own, "+
		"or, if nothing needs it, reset the role's search_path in this database", e.Role, e.Path)
}

// ownSettings are what the role's sessions in this database begin with.
func ownSettings(ctx context.Context, conn migrations.Querier) ([]string, error) {
	const look = `
SELECT coalesce((SELECT s.setconfig FROM pg_db_role_setting s
                 JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole
                 WHERE d.datname = current_database() AND r.rolname = current_user), '{}')`
	var found []string
	if err := conn.QueryRow(ctx, look).Scan(&found); err != nil {
		return nil, fmt.Errorf("looking at the role's settings: %w", err)
	}
	return found, nil
}

// inspectOwn is rolesReady for a tenant's own database.
func inspectOwn(ctx context.Context, conn *pgx.Conn, names Names, state *State) error {
	found, err := ownSettings(ctx, conn)
	if err != nil {
		return err
	}
	state.shared = sharedRole(state.Role, found, names)
	state.rolesReady = !slices.ContainsFunc(expectedSettings(names), func(setting string) bool { return !slices.Contains(found, setting) })
	return nil
}

// sharedRole is not nil if a role's sessions, which begin with these settings, begin in another schema than the tenant's.
func sharedRole(role string, found []string, names Names) *SharedRoleError {
	for _, setting := range found {
		if path, isPath := strings.CutPrefix(setting, "search_path="); isPath && path != names.Schema {
			return &SharedRoleError{Role: role, Path: path}
		}
	}
	return nil
}

// ensureOwn sets what the role's sessions in this database begin with. Thereby the role is the tenant's; it is a
// *SharedRoleError if it is another's.
func ensureOwn(ctx context.Context, conn *pgx.Conn, names Names) error {
	return alterOwn(ctx, conn, names, func(s setting) string { return "SET " + s.name + " = " + quote(s.value) })
}

// alterOwn sets or resets the role's settings, unless they are another tenant's. Whoever else does so for the role waits.
func alterOwn(ctx context.Context, conn *pgx.Conn, names Names, how func(setting) string) error {
	// Whatever the role's default is: what others have committed before the lock was free has to be seen.
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext(current_user))", roleLocks); err != nil {
			return fmt.Errorf("waiting for whoever else sets up the role: %w", err)
		}
		found, err := ownSettings(ctx, tx)
		if err != nil {
			return err
		}
		if shared := sharedRole(conn.Config().User, found, names); shared != nil {
			return shared
		}
		for _, s := range settings(names) {
			statement := "ALTER ROLE CURRENT_USER IN DATABASE " + quote(conn.Config().Database) + " " + how(s)
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("setting up the role: %w", err)
			}
		}
		return nil
	})
}

// dropOwn removes the schema, and what Provision has set for the role.
func dropOwn(ctx context.Context, conn *pgx.Conn, names Names) error {
	if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+quote(names.Schema)+" CASCADE"); err != nil {
		return fmt.Errorf("dropping the schema: %w", err)
	}
	return alterOwn(ctx, conn, names, func(s setting) string { return "RESET " + s.name })
}
