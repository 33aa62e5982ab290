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
	"github.com/ens-operator/ens-operator/controllers/apply"
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
	if p.state == nil {
		return nil
	}
	if err := p.state.Refusal(p.identity); err != nil {
		p.findings.database = new(refusedSchema(p.names, err))
		return nil
	}
	switch {
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
	// A password is not set before it can be told to anybody.
	if p.renderable {
		if err := p.ensureLogin(ctx); err != nil {
			return err
		}
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
	p.verified.Delete(client.ObjectKeyFromObject(p.tenant)) // a role that was made anew has no password
	log.FromContext(ctx).Info("Prepared the schema", "schema", p.names.Schema, "version", version)
	return nil
}

// madeLogin is a login with a password that this process has made.
type madeLogin struct {
	role     string
	password secret.Value
}

// ensureLogin finds the runtime's password in the Secret that holds it, or sets a new one if that Secret can be written.
// Once per process and password it tries whether the database agrees.
func (p *pass) ensureLogin(ctx context.Context) error {
	name := desired.RuntimeName(p.tenant)
	held, err := p.readKept(ctx, name)
	if err != nil {
		return err
	}
	if held != nil && !desired.Owns(p.tenant)(held) {
		// Pods may still use the login in it, so its password stays.
		p.findings.database = new(condition.Stuck(v1alpha1.ReasonNotOwned, (&apply.NotOwnedError{Kind: "Secret", Name: name}).Error()))
		return nil
	}
	tenant := client.ObjectKeyFromObject(p.tenant)
	var role string
	var password secret.Value
	known := false
	if held != nil {
		role, password, known = database.Login(desired.DatabaseURL(held.Data), p.names)
	}
	if known {
		p.made.Delete(tenant)
	} else if role, password, err = p.makeLogin(ctx); err != nil {
		p.databaseFailed(err)
		return nil
	}
	p.login.url = p.Database.RuntimeURL(role, password)
	digest := sha256.Sum256(p.login.url.Reveal())
	if verified, found := p.verified.Load(tenant); found && verified == digest {
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

// makeLogin chooses a role and a new password, the same ones until they are found in the Secret: that may be late in
// the cache, or not be written for now.
func (p *pass) makeLogin(ctx context.Context) (string, secret.Value, error) {
	tenant := client.ObjectKeyFromObject(p.tenant)
	if made, found := p.made.Load(tenant); found {
		made := made.(madeLogin)
		return made.role, made.password, nil
	}
	role, err := p.Database.FreeLogin(ctx, p.names)
	if err != nil {
		return "", secret.Value{}, err
	}
	made := madeLogin{role, database.NewPassword()}
	p.made.Store(tenant, made)
	return made.role, made.password, nil
}

// databaseFailed notes what the database answered.
func (p *pass) databaseFailed(err error) {
	finding, transient := databaseFinding(p.names, err)
	p.findings.database = &finding
	if transient {
		p.retry = err
	}
}

// databaseFinding tells what the database answered, and whether trying again may help.
func databaseFinding(names database.Names, err error) (finding condition.Finding, transient bool) {
	switch {
	case errors.Is(err, migrations.ErrForeignSchema):
		return refusedSchema(names, err), false
	case errors.Is(err, migrations.ErrNewerSchema):
		return newerSchema(names), false
	case errors.Is(err, database.ErrUnreachable):
		return condition.Failed(v1alpha1.ReasonUnreachable,
			"The database does not answer the operator: look at the database and at the operator's database URL; it is tried again"), true
	default:
		// Postgres' own words; they hold no values.
		return condition.Failed(v1alpha1.ReasonError, fmt.Sprintf("The database refused: %s; it is tried again", database.Reason(err))), true
	}
}

// refusedSchema is about a schema that is not to be touched (database.State.Refusal).
func refusedSchema(names database.Names, err error) condition.Finding {
	if refused, ok := errors.AsType[*database.OwnerError](err); ok {
		return condition.Stuck(v1alpha1.ReasonForeignSchema, "In the database, "+refused.Error())
	}
	return condition.Stuck(v1alpha1.ReasonForeignSchema, fmt.Sprintf(
		"Schema %s is there and says that it is another tenant's, so it is left alone: find out whose data are in it, and rename it if they are to be kept",
		names.Schema))
}

func newerSchema(names database.Names) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonNewerSchema, fmt.Sprintf(
		"Schema %s was migrated by a newer operator, so it is left alone: upgrade this operator", names.Schema))
}
