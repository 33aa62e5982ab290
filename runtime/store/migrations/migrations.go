// Package migrations makes and upgrades the tables of a tenant's schema. The operator runs it; the runtime only asks
// for the version.
//
// Migrations only add, so that two versions of the runtime can serve side by side during a rollout.
package migrations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Version is the newest schema version this program knows: the number of the last script.
const Version = 9

// MinimumVersion is the oldest schema version the runtime of this program can work with.
const MinimumVersion = 7

// ReportsVersion is the version of the schema since which replicas report their login and the versions that they fit.
const ReportsVersion = 5

// compatibleSince is the oldest version that a runtime may know and still work with a schema of this Version: what came
// later only added columns, so that the pods of a rollout serve side by side.
const compatibleSince = 1

// What the table meta keeps of the tenant's keys, each with the key's number behind it. Rows are only added, so that a
// number never changes its meaning.
const (
	// KEKPrefix: the check value of a key that was ever sealed with (config.CheckValue).
	KEKPrefix = "kek/"
	// RetiredKEKPrefix: when it was found that nothing is sealed under a key any more, so that it may be taken away.
	RetiredKEKPrefix = "kek-retired/"
	// WebhookPrefix: the check value of a webhook key that URLs were ever signed with.
	WebhookPrefix = "webhook/"
)

// InstanceTTL is after how long without a word a replica in the table instances counts as gone.
const InstanceTTL = 10 * time.Minute

var (
	// ErrForeignSchema says that the schema belongs to another tenant; it is never adopted.
	ErrForeignSchema = errors.New("the schema belongs to another tenant")
	// ErrNewerSchema says that the schema was made by a newer operator, which an older one leaves alone.
	ErrNewerSchema = errors.New("the schema is newer than this program")
	// ErrOlderSchema says that the operator has to migrate the schema first.
	ErrOlderSchema = errors.New("the schema is older than this program can use")
	// ErrNoSchema says that there is no schema of this name with our tables in it.
	ErrNoSchema = errors.New("the schema has not been set up")
)

// Identity is the tenant a schema belongs to.
type Identity struct {
	ClusterID, Namespace, Name string
}

// lockNamespace is the first half of our advisory locks, so that they meet nobody else's: "ens" in ASCII.
const lockNamespace = 0x656e73

// Migrate brings the existing schema up to Version, as Set.Migrate does with the scripts of this program.
func Migrate(ctx context.Context, conn *pgx.Conn, schema string, identity Identity) (int, error) {
	return Known().Migrate(ctx, conn, schema, identity)
}

// Migrate brings the existing schema up to the set's version and returns the version it is at. The connection's role must
// own the schema. It does all or nothing, and takes a lock so that two operators never migrate the same schema at once.
func (s Set) Migrate(ctx context.Context, conn *pgx.Conn, schema string, identity Identity) (int, error) {
	version := 0
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := enter(ctx, tx, schema); err != nil {
			return err
		}
		if err := claim(ctx, tx, identity); err != nil {
			return err
		}
		var err error
		version, err = s.upgrade(ctx, tx)
		return err
	})
	if err != nil {
		return version, fmt.Errorf("migrating schema %s: %w", schema, err)
	}
	return version, nil
}

// enter makes schema the transaction's only one and locks it against other migrations.
func enter(ctx context.Context, tx pgx.Tx, schema string) error {
	if _, err := tx.Exec(ctx, "SELECT set_config('search_path', $1, true)", pgx.Identifier{schema}.Sanitize()); err != nil {
		return fmt.Errorf("setting the search path: %w", err)
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", lockNamespace, schema); err != nil {
		return fmt.Errorf("waiting for another migration: %w", err)
	}
	const metaTable = `CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value text NOT NULL)`
	if _, err := tx.Exec(ctx, metaTable); err != nil {
		return fmt.Errorf("making the meta table: %w", err)
	}
	return nil
}

// claim records whose schema this is, or finds that it is somebody else's.
func claim(ctx context.Context, tx pgx.Tx, identity Identity) error {
	for key, want := range map[string]string{
		"cluster_id": identity.ClusterID, "namespace": identity.Namespace, "name": identity.Name,
	} {
		const claimValue = `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`
		if _, err := tx.Exec(ctx, claimValue, key, want); err != nil {
			return fmt.Errorf("recording the tenant: %w", err)
		}
		var got string
		if err := tx.QueryRow(ctx, `SELECT value FROM meta WHERE key = $1`, key).Scan(&got); err != nil {
			return fmt.Errorf("reading the tenant: %w", err)
		}
		if got != want {
			return fmt.Errorf("%w: its %s is %q, not %q", ErrForeignSchema, key, got, want)
		}
	}
	return nil
}

func (s Set) upgrade(ctx context.Context, tx pgx.Tx) (int, error) {
	version, err := current(ctx, tx)
	if err != nil {
		return 0, err
	}
	if version > s.Version() {
		return version, fmt.Errorf("%w: it is at version %d, this program knows %d; upgrade the operator", ErrNewerSchema, version, s.Version())
	}
	if version == s.Version() {
		return version, nil
	}
	if err := lockTables(ctx, tx); err != nil {
		return version, err
	}
	for number := version + 1; number <= s.Version(); number++ {
		if _, err := tx.Exec(ctx, s.scripts[number-1]); err != nil {
			return version, fmt.Errorf("running script %d: %w", number, err)
		}
	}
	for key, value := range map[string]int{schemaVersionKey: s.Version(), minimumRuntimeKey: s.compatibleSince} {
		const setValue = `INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
		if _, err := tx.Exec(ctx, setValue, key, strconv.Itoa(value)); err != nil {
			return version, fmt.Errorf("recording the version: %w", err)
		}
	}
	return s.Version(), nil
}

// Querier is what Check needs of a connection, a pool or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func current(ctx context.Context, q Querier) (int, error) {
	return number(ctx, q, schemaVersionKey)
}

// number reads a number of the meta table, 0 if it is not there.
func number(ctx context.Context, q Querier, key string) (int, error) {
	var text string
	err := q.QueryRow(ctx, `SELECT value FROM meta WHERE key = $1`, key).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading %s of the schema: %w", key, err)
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("reading %s of the schema: %w", key, err)
	}
	return value, nil
}

// Check reports whether a runtime of this program can work with the schema of the connection's search path. Its error
// is ErrOlderSchema, ErrNewerSchema or ErrNoSchema, and says which side to upgrade.
func Check(ctx context.Context, q Querier) error {
	var there bool
	if err := q.QueryRow(ctx, `SELECT to_regclass('meta') IS NOT NULL`).Scan(&there); err != nil {
		return fmt.Errorf("looking for the schema: %w", err)
	}
	if !there {
		return fmt.Errorf("%w: is the operator running, and does the database URL name the tenant's own role?", ErrNoSchema)
	}
	version, err := current(ctx, q)
	if err != nil {
		return err
	}
	if version < MinimumVersion {
		return fmt.Errorf("%w: it is at version %d, at least %d is needed; upgrade the operator", ErrOlderSchema, version, MinimumVersion)
	}
	minimum, err := number(ctx, q, minimumRuntimeKey)
	if err != nil {
		return err
	}
	if minimum > Version {
		return fmt.Errorf("%w: it needs a runtime that knows version %d, this one knows %d; upgrade the runtime image", ErrNewerSchema, minimum, Version)
	}
	return nil
}

// CheckTenant reports ErrForeignSchema if the tables in the connection's search path are in another schema than that one. It
// is nil if there are none, which Check tells.
func CheckTenant(ctx context.Context, q Querier, schema string) error {
	const look = `SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('meta')`
	var found string
	err := q.QueryRow(ctx, look).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking whose schema it is: %w", err)
	}
	if found != schema {
		return fmt.Errorf("%w: sessions begin in schema %s, and this tenant's is %s; the database URL has to name a role that is this tenant's only",
			ErrForeignSchema, found, schema)
	}
	return nil
}

// Grant lets role read and write the rows of schema and change nothing else; of the table meta it may read and add rows.
func Grant(ctx context.Context, conn *pgx.Conn, schema, role string) error {
	s, r := pgx.Identifier{schema}.Sanitize(), pgx.Identifier{role}.Sanitize()
	for _, statement := range []string{
		"GRANT USAGE ON SCHEMA " + s + " TO " + r,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + s + " TO " + r,
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA " + s + " TO " + r,
		// Whose schema this is and which version it has is not the runtime's to change.
		"REVOKE UPDATE, DELETE ON " + s + ".meta FROM " + r,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("granting the rows of schema %s: %w", schema, err)
		}
	}
	return nil
}
