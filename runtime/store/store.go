// Package store is the tenant's database as the runtime sees it: users, devices, subscriptions, the journal, the key
// pool. It holds no plaintext credential and no mail content.
//
// What happens once for every callback is batched: many callers share one statement (see batch.go). What happens once
// for every registration is not.
package store

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/runtime/push/standing"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/databaseurl"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrOtherMailbox says that the user's mailbox is already known and is another one.
	ErrOtherMailbox = errors.New("the mailbox is not the one this user registered with before")
	// ErrTooManyDevices says that the user has as many devices as the tenant allows.
	ErrTooManyDevices = errors.New("the user has too many devices")
	// ErrPoolEmpty says that the key pool has no pair left.
	ErrPoolEmpty = errors.New("the key pool is empty")
	// ErrForeignKEK says that the database was sealed with another key-encryption key than the one at hand.
	ErrForeignKEK = errors.New("the database was sealed with another key-encryption key")
	// ErrForeignWebhookKey says that Exchange holds URLs that were signed with another webhook key than the one at hand.
	ErrForeignWebhookKey = errors.New("URLs were signed with another webhook key")
)

// The connections of one replica. What Exchange waits for is batched by a few flushers and has connections of its own,
// so that a storm of registrations cannot keep it from them. Connection arithmetic: replicas x the sum, per tenant.
const (
	hotConnections  = 6
	callConnections = 6
)

// Store is safe for concurrent use.
type Store struct {
	// hot serves callbacks, pool everything else.
	hot, pool *pgxpool.Pool
	// login is how new connections are made.
	login atomic.Pointer[login]
	// unprepared says that what stands between us and Postgres does not keep prepared statements.
	unprepared atomic.Bool
	batches    batches
	closing    sync.Once
}

// login is a database URL with what it says, and the authorities that the server is verified against.
type login struct {
	url         secret.Value
	authorities *x509.CertPool
	config      pgconn.Config
}

// Open connects lazily: it fails only if the URL cannot be used at all. The runtime starts, and serves what it can,
// while the database is away. The server is verified against authorities if the URL's sslmode asks for that; nil are the
// system's.
func Open(ctx context.Context, databaseURL secret.Value, authorities *x509.CertPool) (*Store, error) {
	s := &Store{}
	var err error
	if s.hot, err = s.newPool(ctx, databaseURL, authorities, hotConnections, s.prepareHot); err != nil {
		return nil, err
	}
	if s.pool, err = s.newPool(ctx, databaseURL, authorities, callConnections, func(*pgx.ConnConfig) {}); err != nil {
		s.hot.Close()
		return nil, err
	}
	s.batches = s.startBatches()
	return s, nil
}

// prepareHot makes a connection ready for the few statements that every callback needs. They stay prepared, since to parse
// and to plan one takes Postgres longer than to execute it. A plan that is kept must suit tables that were empty when it was
// made and are not any more: it looks up one row after the other by the indexes, always. So rows that come sorted are also
// locked in this order.
//
// A pooler that gives every transaction another session (PgBouncer) does not take the parameter, or does not know the
// prepared statement; that is found out by its first error, and done without.
func (s *Store) prepareHot(c *pgx.ConnConfig) {
	if s.unprepared.Load() {
		return
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	for _, way := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
		c.RuntimeParams[way] = "off"
	}
}

// newPool opens a pool whose connections are made by the latest login, each made ready by prepare.
func (s *Store) newPool(ctx context.Context, databaseURL secret.Value, authorities *x509.CertPool, connections int32,
	prepare func(*pgx.ConnConfig)) (*pgxpool.Pool, error) {
	config, err := poolConfig(databaseURL, authorities)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	s.login.Store(&login{databaseURL, authorities, config.ConnConfig.Config})
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		c.Config = *s.login.Load().config.Copy()
		// What is known of a statement's types is kept, but no statement: this works behind every pooler.
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		prepare(c)
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.New("opening the database: the database URL cannot be used")
	}
	return pool, nil
}

// UseURL has new connections made with another URL and other authorities, as in Open, and ends the old ones once they are
// idle, so that a password is changed without a restart.
func (s *Store) UseURL(databaseURL secret.Value, authorities *x509.CertPool) error {
	config, err := poolConfig(databaseURL, authorities)
	if err != nil {
		return err
	}
	old := s.login.Swap(&login{databaseURL, authorities, config.ConnConfig.Config})
	if !old.url.Equal(databaseURL) || !sameAuthorities(old.authorities, authorities) {
		s.reset()
	}
	return nil
}

// sameAuthorities compares pools of which nil are the system's.
func sameAuthorities(a, b *x509.CertPool) bool {
	return a == b || a != nil && b != nil && a.Equal(b)
}

func (s *Store) reset() {
	s.hot.Reset()
	s.pool.Reset()
}

// poolConfig never returns pgx's own parse errors: they may quote parts of the URL.
func poolConfig(databaseURL secret.Value, authorities *x509.CertPool) (*pgxpool.Config, error) {
	if _, err := databaseurl.Parse(databaseURL); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(databaseURL.RevealString())
	if err != nil {
		return nil, errors.New("the database URL cannot be parsed")
	}
	databaseurl.Trust(&config.ConnConfig.Config, authorities)
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = hostPatience
	}
	return config, nil
}

// Close finishes what is queued and closes all connections. It may be called more than once.
func (s *Store) Close() {
	s.closing.Do(func() {
		s.batches.close()
		s.hot.Close()
		s.pool.Close()
	})
}

// Check reports whether the database answers, sessions begin in the tenant's schema (migrations.CheckTenant), and that is one
// this runtime can work with (migrations.Check).
func (s *Store) Check(ctx context.Context, schema string) error {
	if err := migrations.CheckTenant(ctx, s.pool, schema); err != nil {
		return s.noting(err)
	}
	return s.noting(migrations.Check(ctx, s.pool))
}

// noting looks at an error on its way out: after a failover every pooled connection may lead to the old primary.
func (s *Store) noting(err error) error {
	if stale(err) {
		s.reset()
	}
	return err
}

// inTransaction runs work in a transaction and wraps its error with what was being done. Our own sentinel errors pass
// through and roll back too.
func (s *Store) inTransaction(ctx context.Context, doing string, work func(pgx.Tx) error) error {
	if err := s.noting(pgx.BeginFunc(ctx, s.pool, work)); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

func (s *Store) exec(ctx context.Context, doing, sql string, args ...any) error {
	if _, err := s.pool.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", doing, s.noting(err))
	}
	return nil
}

// execSoon is exec that does not wait for the disk: what it writes is there for all to see, and lost if the server dies before
// it has written out the log, as it does with the next transaction that waits.
func (s *Store) execSoon(ctx context.Context, doing, sql string, args ...any) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue("SET LOCAL synchronous_commit = off")
	batch.Queue(sql, args...)
	batch.Queue("COMMIT")
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("%s: %w", doing, s.noting(err))
	}
	return nil
}

// Instance is what a replica says of itself.
type Instance struct {
	ID                  [16]byte
	Version, ConfigHash string
	KEKs, WebhookKeys   []int
	// SealingKEK and SealingWebhook are the keys that it seals and signs with, 0 as long as it has not decided.
	SealingKEK, SealingWebhook int
	StartedAt                  time.Time
	// Providers is how its push providers fare.
	Providers []standing.Report
}

// Forget takes a replica that stops off the record, so that nobody waits for it.
func (s *Store) Forget(ctx context.Context, id [16]byte) error {
	return s.exec(ctx, "taking this replica off the record", `DELETE FROM instances WHERE id = $1`, id)
}

// Report records what this replica runs with, the role that it got in as and the versions of the schema that it can work
// with, and forgets replicas that are gone.
func (s *Store) Report(ctx context.Context, i Instance, now time.Time) error {
	const upsert = `
INSERT INTO instances (id, version, config_hash, kek_ids, webhook_ids, sealing_kek, sealing_webhook, started_at, seen_at,
    login, knows_schema, needs_schema, push_providers)
VALUES ($1, $2, $3, $4, $5, nullif($6, 0), nullif($7, 0), $8, $9, session_user, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, config_hash = excluded.config_hash,
    kek_ids = excluded.kek_ids, webhook_ids = excluded.webhook_ids, sealing_kek = excluded.sealing_kek,
    sealing_webhook = excluded.sealing_webhook, seen_at = excluded.seen_at, login = excluded.login,
    push_providers = excluded.push_providers`
	providers, err := json.Marshal(append([]standing.Report{}, i.Providers...)) // [] rather than null
	if err != nil {
		return fmt.Errorf("reporting this replica: %w", err)
	}
	err = s.exec(ctx, "reporting this replica", upsert, i.ID, i.Version, i.ConfigHash, i.KEKs, i.WebhookKeys,
		i.SealingKEK, i.SealingWebhook, i.StartedAt, now, migrations.Version, migrations.MinimumVersion, providers)
	if err != nil {
		return err
	}
	return s.exec(ctx, "forgetting replicas that are gone", `DELETE FROM instances WHERE seen_at < $1`, now.Add(-migrations.InstanceTTL))
}
