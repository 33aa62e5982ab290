package database

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/push/standing"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// State is what there is of a tenant in the database.
type State struct {
	// SchemaExists says whether there is a schema of the tenant's name, OwnedByUs whether the operator's role owns it.
	SchemaExists, OwnedByUs bool
	// Empty says that nothing is in the schema, or that there is none.
	Empty bool
	// Owner is the role that owns the schema, empty if there is none; Role is the operator's own.
	Owner, Role string
	// Identity is whose schema it says it is; zero if it does not say.
	Identity migrations.Identity
	// Version is the schema's version, 0 if there is none.
	Version int
	// KEKChecks are check values of the keys that the data may be sealed with, by number (config.CheckValue).
	KEKChecks map[int]string
	// WebhookChecks are those of the webhook keys that URLs were signed with.
	WebhookChecks map[int]string
	// Minimum is the oldest version that a runtime must know, 0 if the schema does not say.
	Minimum int
	// known is the version that Provision would bring it to.
	known int
	// Providers is how push providers fare, as each replica says: several reports of one name.
	Providers []standing.Report
	// rolesReady says whether all roles are there with their memberships, settings and grants.
	rolesReady bool
	// shared is not nil if the role of a tenant's own database is another tenant's, too.
	shared *SharedRoleError
}

// BelongsTo reports whether the schema is tenant's, or is not there, or has been made and not yet marked.
func (s State) BelongsTo(tenant migrations.Identity) bool {
	return s.Refusal(tenant) == nil
}

// Refusal says why the schema is not to be touched for tenant, nil if it may be: an *OwnerError if another role owns
// it, migrations.ErrForeignSchema if it says that it is another tenant's, a *SharedRoleError.
func (s State) Refusal(tenant migrations.Identity) error {
	switch {
	case s.shared != nil:
		return s.shared
	case !s.SchemaExists:
		return nil
	case !s.OwnedByUs:
		return &OwnerError{Schema: NamesFor(tenant).Schema, Owner: s.Owner, Role: s.Role}
	case s.Identity != tenant && s.Identity != migrations.Identity{}:
		return fmt.Errorf("schema %s: %w", NamesFor(tenant).Schema, migrations.ErrForeignSchema)
	}
	return nil
}

// OwnerError says that a role other than the operator's owns the schema, as after a restore from a backup. Whose data
// are in it cannot be told.
type OwnerError struct{ Schema, Owner, Role string }

// Error says what to do.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("schema %s belongs to role %s and not to the operator's role %s, so it is left alone: if it holds this tenant's data, "+
		"hand it over with ALTER SCHEMA %s OWNER TO %s, and its tables likewise", e.Schema, e.Owner, e.Role, quote(e.Schema), quote(e.Role))
}

// Is makes errors.Is(err, migrations.ErrForeignSchema) true.
func (e *OwnerError) Is(target error) bool { return target == migrations.ErrForeignSchema }

// Complete reports whether nothing is left for Provision to do.
func (s State) Complete() bool {
	return s.SchemaExists && s.Version == s.known && s.rolesReady
}

// Newer reports whether a newer operator has migrated the schema.
func (s State) Newer() bool { return s.Version > s.known }

// Inspect looks at what there is of a tenant. It changes nothing.
func (s *Server) Inspect(ctx context.Context, names Names) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var state State
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		var err error
		state, err = s.inspect(ctx, c.Conn(), names)
		return err
	})
	return state, s.classify("looking at schema "+names.Schema, err)
}

func (s *Server) inspect(ctx context.Context, conn *pgx.Conn, names Names) (State, error) {
	state := State{known: s.known().Version()}
	var hasMeta bool
	// What is in a schema is found by its dependencies: pg_class has no index for that, and grows with the tenants.
	const find = `
SELECT n.oid IS NOT NULL, coalesce(pg_get_userbyid(n.nspowner) = current_user, false),
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'meta'),
       NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                   AND d.classid IN ('pg_class'::regclass, 'pg_type'::regclass)),
       coalesce(pg_get_userbyid(n.nspowner), ''), current_user
FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = $1`
	found := conn.QueryRow(ctx, find, names.Schema)
	if err := found.Scan(&state.SchemaExists, &state.OwnedByUs, &hasMeta, &state.Empty, &state.Owner, &state.Role); err != nil {
		return State{}, err
	}
	if hasMeta && state.OwnedByUs {
		if err := readMeta(ctx, conn, names.Schema, &state); err != nil {
			return State{}, err
		}
		if err := readStanding(ctx, conn, names.Schema, &state); err != nil {
			return State{}, err
		}
	}
	if s.own != nil {
		err := inspectOwn(ctx, conn, names, &state)
		return state, err
	}
	ready, err := rolesReady(ctx, conn, names, state.SchemaExists)
	state.rolesReady = ready
	return state, err
}

// once is for statements that name a schema: prepared for each of a thousand, they would cost a round trip more, and memory
// here and there.
const once = pgx.QueryExecModeExec

func readMeta(ctx context.Context, conn *pgx.Conn, schema string, state *State) error {
	rows, err := conn.Query(ctx, "SELECT key, value FROM "+quote(schema)+".meta", once)
	if err != nil {
		return err
	}
	state.KEKChecks, state.WebhookChecks = map[int]string{}, map[int]string{}
	var key, value string
	var retired []string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		switch key {
		case "cluster_id":
			state.Identity.ClusterID = value
		case "namespace":
			state.Identity.Namespace = value
		case "name":
			state.Identity.Name = value
		case "schema_version":
			state.Version, err = strconv.Atoi(value)
			return err
		case "minimum_runtime_schema":
			state.Minimum, err = strconv.Atoi(value)
			return err
		}
		if digits, found := strings.CutPrefix(key, migrations.KEKPrefix); found {
			number, err := strconv.Atoi(digits)
			if err != nil {
				return fmt.Errorf("the number of KEK %q: %w", digits, err)
			}
			state.KEKChecks[number] = value
		}
		if digits, found := strings.CutPrefix(key, migrations.WebhookPrefix); found {
			number, err := strconv.Atoi(digits)
			if err != nil {
				return fmt.Errorf("the number of webhook key %q: %w", digits, err)
			}
			state.WebhookChecks[number] = value
		}
		if digits, found := strings.CutPrefix(key, migrations.RetiredKEKPrefix); found {
			retired = append(retired, digits)
		}
		return nil
	})
	// Nothing is sealed under these any more: whether they are there makes no difference.
	maps.DeleteFunc(state.KEKChecks, func(number int, _ string) bool { return slices.Contains(retired, strconv.Itoa(number)) })
	return err
}

// rolesReady finds out in one query whether roles, memberships, settings and grants are as Provision makes them.
func rolesReady(ctx context.Context, conn *pgx.Conn, names Names, schemaExists bool) (bool, error) {
	const count = `
SELECT count(*) FILTER (WHERE rolname = $1 AND NOT rolcanlogin),
       count(*) FILTER (WHERE rolname = ANY ($2) AND rolcanlogin AND rolconfig @> $3
                        AND pg_has_role(oid, (SELECT oid FROM pg_roles WHERE rolname = $1), 'USAGE'))
FROM pg_roles WHERE rolname = $1 OR rolname = ANY ($2)`
	var holders, logins int
	if err := conn.QueryRow(ctx, count, names.Schema, names.Logins[:], expectedSettings(names)).Scan(&holders, &logins); err != nil {
		return false, err
	}
	if !schemaExists || holders != 1 || logins != len(names.Logins) {
		return false, nil
	}
	const granted = `
SELECT has_schema_privilege($2::name, n.oid, 'USAGE')
   AND coalesce((SELECT bool_and(has_table_privilege($2::name, c.oid, 'INSERT')) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                 WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
                   AND c.relkind IN ('r', 'p')), false)
FROM pg_namespace n WHERE n.nspname = $1`
	var ready bool
	err := conn.QueryRow(ctx, granted, names.Schema, names.Schema).Scan(&ready)
	return ready, err
}

// setting is a parameter that a login role starts its sessions with.
type setting struct{ name, value string }

// The time-outs keep a runtime that hangs from holding locks that others wait for. The runtime sets shorter ones by
// context where it matters.
func settings(names Names) []setting {
	return []setting{
		{"search_path", names.Schema},
		{"statement_timeout", "30s"},
		{"lock_timeout", "10s"},
		{"idle_in_transaction_session_timeout", "30s"},
	}
}

// expectedSettings is how Postgres keeps them (pg_roles.rolconfig).
func expectedSettings(names Names) []string {
	var kept []string
	for _, s := range settings(names) {
		kept = append(kept, s.name+"="+s.value)
	}
	return slices.Clip(kept)
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }
