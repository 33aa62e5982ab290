package testenv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresPair is a primary and a hot standby that has every commit before it is acknowledged: what an administrator sets
// up who wants to lose nothing when the primary is lost.
type PostgresPair struct {
	*PostgresServer

	standby *PostgresServer
}

// StartPostgresPair starts a pair. The connection strings of its databases name both servers and take whichever can be
// written to.
func StartPostgresPair(ctx context.Context, options ...PostgresOption) (*PostgresPair, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit+installLimit)
	defer cancel()
	primary, err := StartPostgres(ctx, append([]PostgresOption{WithCommit()}, options...)...)
	if err != nil {
		return nil, err
	}
	standby, err := primary.startStandby(ctx)
	if err != nil {
		return nil, errors.Join(err, primary.Stop())
	}
	pair := &PostgresPair{PostgresServer: primary, standby: standby}
	if err := pair.synchronize(ctx); err != nil {
		return nil, errors.Join(err, pair.Stop())
	}
	primary.peer = standby
	return pair, nil
}

// startStandby starts a copy of the server that follows it.
func (s *PostgresServer) startStandby(ctx context.Context) (*PostgresServer, error) {
	standby, err := newPostgres(ctx, s.settings)
	if err != nil {
		return nil, err
	}
	standby.password = s.password // the copy has it
	if err := standby.copyOf(ctx, s); err != nil {
		return nil, errors.Join(err, standby.box.close())
	}
	if err := standby.runAnywhere(ctx); err != nil {
		return nil, errors.Join(err, standby.box.close())
	}
	return standby, nil
}

// copyOf fills the data folder with a copy of another server's, which follows that one.
func (s *PostgresServer) copyOf(ctx context.Context, primary *PostgresServer) error {
	if err := s.account.own(s.box.folder, s.dataFolder()); err != nil {
		return err
	}
	backup := s.account.command(ctx, filepath.Join(s.programs, "pg_basebackup"), "--pgdata=cluster", "--host="+primary.settings.host,
		"--port="+strconv.Itoa(primary.port), "--username="+superuser, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	backup.Env = append(backup.Env, "PGPASSWORD="+primary.password)
	backup.Dir = s.dataFolder()
	if output, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("copying a Postgres server: %w\n%s", err, output)
	}
	return nil
}

// synchronize makes commits wait for the standby.
func (p *PostgresPair) synchronize(ctx context.Context) error {
	if err := p.alter(ctx, p.PostgresServer, "synchronous_standby_names", "*"); err != nil {
		return err
	}
	return await(ctx, p.PostgresServer, "the standby to follow", `SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'`)
}

// alter changes a setting of a running server. It needs no commit, which might wait for a standby.
func (p *PostgresPair) alter(ctx context.Context, s *PostgresServer, name, value string) error {
	connection, err := pgx.Connect(ctx, s.ownURL())
	if err != nil {
		return fmt.Errorf("connecting as superuser: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }()
	for _, statement := range []string{"ALTER SYSTEM SET " + name + " = '" + value + "'", "SELECT pg_reload_conf()"} {
		if _, err := connection.Exec(ctx, statement); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// await waits until a query on one of the servers says true.
func await(ctx context.Context, s *PostgresServer, what, query string) error {
	connection, err := pgx.Connect(ctx, s.ownURL())
	if err != nil {
		return fmt.Errorf("connecting as superuser: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		var done bool
		if err := connection.QueryRow(ctx, query).Scan(&done); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// FailOver kills the primary as kill -9 does, calls between while none is there, and promotes the standby.
func (p *PostgresPair) FailOver(ctx context.Context, between func()) error {
	if err := p.PostgresServer.kill(); err != nil {
		return err
	}
	if between != nil {
		between()
	}
	return p.promote(ctx)
}

// SwitchOver makes the primary read only, with all connections to it left as they are, and promotes the standby.
func (p *PostgresPair) SwitchOver(ctx context.Context, between func()) error {
	if err := p.alter(ctx, p.PostgresServer, "default_transaction_read_only", "on"); err != nil {
		return err
	}
	if between != nil {
		between()
	}
	return p.promote(ctx)
}

func (p *PostgresPair) promote(ctx context.Context) error {
	return await(ctx, p.standby, "the standby's promotion", `SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote() ELSE true END`)
}

// Return starts the killed primary again, fenced: it can be read, and written by nobody.
func (p *PostgresPair) Return(ctx context.Context) error {
	p.settings.fenced = true
	return p.runAgain(ctx)
}

// Stop ends both servers.
func (p *PostgresPair) Stop() error { return errors.Join(p.PostgresServer.Stop(), p.standby.Stop()) }
