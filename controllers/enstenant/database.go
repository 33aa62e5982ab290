package enstenant

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// databaseCheck is how often a tenant whose database is well is looked at: nothing tells of a role that was dropped.
	databaseCheck = 10 * time.Minute
	// databaseRecheck is the same for one that waits for somebody to put the database right.
	databaseRecheck = time.Minute
)

// login is how the runtime gets into the database.
type login struct {
	url     secret.Value
	version int
}

// inspectDatabase looks at what there is. A database that does not answer is a finding.
func (p *pass) inspectDatabase(ctx context.Context) error {
	state, err := p.Database.Inspect(ctx, p.names)
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	p.state = &state
	return nil
}

// ensureDatabase makes schema and roles, and sees to it that the runtime has a login that works.
func (p *pass) ensureDatabase(ctx context.Context) error {
	defer func() {
		if p.findings.database != nil && p.findings.database.Good() {
			p.lookAgain(databaseCheck)
		} else {
			p.lookAgain(databaseRecheck)
		}
	}()
	switch {
	case p.state == nil:
		return nil
	case !p.state.BelongsTo(p.identity):
		p.findings.database = new(foreignSchema(p.names))
		return nil
	case p.state.Version > migrations.Version:
		p.findings.database = new(newerSchema(p.names))
		return nil
	case !p.findings.secrets.Good():
		// Nothing may be written that could be sealed with keys that are lost.
		p.findings.database = new(condition.Waiting("The schema waits for the tenant's keys and API token"))
		return nil
	}
	if err := p.provisionDatabase(ctx); err != nil {
		p.databaseFailed(err)
		return nil
	}
	if err := p.ensureLogin(ctx); err != nil {
		return err
	}
	if p.findings.database == nil {
		p.findings.database = new(condition.OK(v1alpha1.ReasonReady, "Schema and roles are there"))
	}
	return nil
}

func (p *pass) provisionDatabase(ctx context.Context) error {
	p.login.version = p.state.Version
	if p.state.Complete() {
		return nil
	}
	version, err := p.Database.Provision(ctx, p.identity)
	if err != nil {
		return err
	}
	p.login.version = version
	log.FromContext(ctx).Info("Prepared the schema", "schema", p.names.Schema, "version", version)
	return nil
}

// ensureLogin finds the runtime's password in the Secret that holds it, or sets a new one. Once per process and
// password it tries whether the database agrees.
func (p *pass) ensureLogin(ctx context.Context) error {
	held, err := p.readKept(ctx, desired.RuntimeName(p.tenant))
	if err != nil {
		return err
	}
	var role string
	var password secret.Value
	known := false
	if held != nil && desired.Owns(p.tenant)(held) {
		role, password, known = database.Login(desired.DatabaseURL(held.Data), p.names)
	}
	if !known {
		role, password = p.names.Logins[0], database.NewPassword()
	}
	p.login.url = p.Database.RuntimeURL(role, password)
	digest := sha256.Sum256(p.login.url.Reveal())
	tenant := client.ObjectKeyFromObject(p.tenant)
	if verified, found := p.verified.Load(tenant); known && found && verified == digest {
		return nil
	}
	if !known || p.Database.PasswordRefused(ctx, role, password) {
		if err := p.Database.SetPassword(ctx, role, password); err != nil {
			p.databaseFailed(err)
			return nil
		}
	}
	p.verified.Store(tenant, digest)
	return nil
}

// databaseFailed notes what the database answered.
func (p *pass) databaseFailed(err error) {
	switch {
	case errors.Is(err, migrations.ErrForeignSchema):
		p.findings.database = new(foreignSchema(p.names))
		return
	case errors.Is(err, migrations.ErrNewerSchema):
		p.findings.database = new(newerSchema(p.names))
		return
	case errors.Is(err, database.ErrUnreachable):
		p.findings.database = new(condition.Failed(v1alpha1.ReasonUnreachable,
			"The database does not answer the operator: look at the database and at the operator's database URL; it is tried again"))
	default:
		// Postgres' own words; they hold no values.
		p.findings.database = new(condition.Failed(v1alpha1.ReasonError, fmt.Sprintf("The database refused: %s; it is tried again", database.Reason(err))))
	}
	p.retry = err
}

func foreignSchema(names database.Names) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonForeignSchema, fmt.Sprintf(
		"Schema %s is there and not this tenant's, so it is left alone: rename it or drop it", names.Schema))
}

func newerSchema(names database.Names) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonNewerSchema, fmt.Sprintf(
		"Schema %s was migrated by a newer operator, so it is left alone: upgrade this operator", names.Schema))
}
