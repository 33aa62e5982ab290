package server

import (
	"context"
	"errors"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// waitForDatabase is how often the database is looked at until it has been found fit for the first time.
	waitForDatabase = time.Second
	// maintenanceInterval is how often the rest is done.
	maintenanceInterval = time.Minute
	// maintenanceTimeout bounds one look.
	maintenanceTimeout = 30 * time.Second
	// Users that asked for a key and never registered are removed after a day (protocol.md, getpublickey); subscriptions
	// that are over are kept as long, for those who look for what happened.
	staleAfter = 24 * time.Hour
	// maxSwept bounds the rows that one statement removes, so that it never holds a callback up.
	maxSwept = 1000
)

// maintain looks after the database: is it the right one, what does this replica report, what can be forgotten.
func (s *Server) maintain(ctx context.Context) {
	ready := false
	for {
		fit := s.checkDatabase(ctx, ready)
		if fit && !ready {
			ready = true
			close(s.health.fit)
		}
		if fit {
			s.sweep(ctx)
		}
		interval := waitForDatabase
		if ready {
			interval = maintenanceInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-s.reloaded: // other keys may be there
		case <-s.clock.After(interval):
		}
	}
}

// checkDatabase decides about readiness. A database that does not answer does not change it: all replicas would go at
// once, and what does not need the database would go with it.
func (s *Server) checkDatabase(ctx context.Context, ready bool) (fit bool) {
	ctx, cancel := context.WithTimeout(ctx, maintenanceTimeout)
	defer cancel()
	err := s.store.Check(ctx, s.source.Current().Config.Tenant.ID)
	if err == nil {
		err = s.checkKeys(ctx)
	}
	switch {
	case err == nil:
		if !ready {
			s.log.InfoContext(ctx, "The database is fit; the runtime is ready")
		}
		s.health.set("")
		return true
	case unfit(err):
		s.log.ErrorContext(ctx, "The database must not be used", "error", err)
		s.health.set(err.Error())
		s.reportUnfit(ctx, err)
	case !ready:
		s.log.WarnContext(ctx, "The database does not answer yet", "error", err)
		s.health.set("the database does not answer yet")
	default:
		s.log.WarnContext(ctx, "The database does not answer", "error", err)
	}
	return false
}

// reportUnfit says which versions of the schema this replica can work with if it is not the one that is there, so that
// the operator can tell the administrator which side to upgrade. A schema that is too old to be told is none the wiser.
func (s *Server) reportUnfit(ctx context.Context, err error) {
	if !errors.Is(err, migrations.ErrNewerSchema) && !errors.Is(err, migrations.ErrOlderSchema) {
		return
	}
	now := s.clock.Now()
	if now.Sub(s.saidUnfit) < maintenanceInterval {
		return
	}
	s.saidUnfit = now
	if err := s.report(ctx); err != nil {
		s.log.DebugContext(ctx, "The versions that this replica can work with cannot be reported", "error", err)
	}
}

// checkKeys makes sure that our keys open what is in the database, and decides which to seal with.
func (s *Server) checkKeys(ctx context.Context) error {
	rotation, err := s.store.Rotation(ctx, s.clock.Now())
	if err != nil {
		return err
	}
	t := s.tenant.Load()
	if err := errors.Join(rotation.CheckKEKs(t.KEKChecks()), rotation.CheckWebhookKeys(t.WebhookChecks())); err != nil {
		return err
	}
	return s.decideKeys(ctx)
}

func unfit(err error) bool {
	return errors.Is(err, store.ErrForeignKEK) || errors.Is(err, store.ErrForeignWebhookKey) || errors.Is(err, migrations.ErrNoSchema) ||
		errors.Is(err, migrations.ErrForeignSchema) || errors.Is(err, migrations.ErrNewerSchema) || errors.Is(err, migrations.ErrOlderSchema)
}

// all repeats a step that removes at most maxSwept rows until there are no more.
func all(ctx context.Context, step func() (int64, error)) error {
	for ctx.Err() == nil {
		if removed, err := step(); err != nil || removed < maxSwept {
			return err
		}
	}
	return ctx.Err()
}

// sweep forgets what has had its time. Each step stands for itself; what fails is done a minute later.
func (s *Server) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maintenanceTimeout)
	defer cancel()
	now := s.clock.Now()
	for _, step := range []func() error{
		func() error { return s.reseal(ctx) },
		func() error { return s.countWebhookKeys(ctx) },
		func() error { return s.measureJournal(ctx) },
		func() error { return all(ctx, func() (int64, error) { return s.store.DropDone(ctx, now, maxSwept) }) },
		func() error {
			return all(ctx, func() (int64, error) { return s.store.DropStaleUsers(ctx, now.Add(-staleAfter), maxSwept) })
		},
		func() error {
			return all(ctx, func() (int64, error) { return s.store.DropActivity(ctx, now, maxSwept) })
		},
		func() error { return s.store.DropStaleSubscriptions(ctx, now.Add(-staleAfter)) },
	} {
		if err := step(); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "Maintenance of the database failed", "error", err)
		}
	}
}
