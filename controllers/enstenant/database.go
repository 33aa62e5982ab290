package enstenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// databaseCheck is how often a tenant whose database is well is looked at: nothing tells of a role that was dropped, nor
	// of a push service that refuses a credential. Replicas report each minute, so that an administrator knows of it after
	// three; a look costs the database some milliseconds.
	databaseCheck = 2 * time.Minute
	// databaseRecheck is the same for one that waits for somebody to put the database right.
	databaseRecheck = time.Minute
)

// login is how the runtime gets into the database.
type login struct {
	madeLogin
	url secret.Value
	// written says that the Secret of the pods is known to hold the login.
	written bool
	version int
}

// inspectDatabase looks at what there is. A database that does not answer is a finding.
func (p *pass) inspectDatabase(ctx context.Context) error {
	opened, closed, finding, err := p.openDatabase(ctx, p.tenant)
	if err != nil {
		return err
	}
	if finding != nil {
		p.findings.database = finding
		return nil
	}
	p.Database, p.closeDatabase = opened, closed
	if p.authorities, err = p.Database.Authorities(); err != nil {
		p.databaseFailed(err)
		return nil
	}
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
	if gone := p.schemaGone(); gone != nil {
		p.findings.database = gone
		return nil
	}
	switch {
	case p.state.Newer():
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
	// A role that was made anew has no password.
	p.verified.Delete(client.ObjectKeyFromObject(p.tenant))
	p.untried.Store(client.ObjectKeyFromObject(p.tenant), p.Clock.Now())
	log.FromContext(ctx).Info("Prepared the schema", "schema", p.names.Schema, "version", version)
	return nil
}

// databaseFailed notes what the database answered.
func (p *pass) databaseFailed(err error) {
	finding, transient := databaseFinding(p.names, whereURL(p.tenant), err)
	p.findings.database = &finding
	if transient {
		p.retry = err
	}
}

// databaseFinding tells what the database answered, and whether trying again may help. Where is where its URL stands.
func databaseFinding(names database.Names, where string, err error) (finding condition.Finding, transient bool) {
	if refused, ok := errors.AsType[*egress.RefusedError](err); ok {
		return condition.Stuck(v1alpha1.ReasonLoopbackRefused, fmt.Sprintf("The operator does not go where %s leads: %v", where, refused)), false
	}
	if _, ok := errors.AsType[*database.SharedRoleError](err); ok {
		return refusedSchema(names, err), false
	}
	if unusable, ok := errors.AsType[*database.AuthoritiesError](err); ok {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Beside %s, %v: put certificates in PEM there, or remove it", where, unusable)), false
	}
	if wrong := database.Untrusted(err); wrong != nil {
		return condition.Failed(v1alpha1.ReasonUntrustedServer, fmt.Sprintf(
			"The database's certificate is not accepted (%v): put the authority that issued it under %s beside %s, or correct the host or the certificate; it is tried again",
			wrong, database.AuthoritiesKey, where)), true
	}
	switch {
	case errors.Is(err, migrations.ErrForeignSchema):
		return refusedSchema(names, err), false
	case errors.Is(err, migrations.ErrNewerSchema):
		return newerSchema(names), false
	case errors.Is(err, database.ErrUnreachable):
		return condition.Failed(v1alpha1.ReasonUnreachable,
			"The database does not answer the operator: look at the database and at "+where+"; it is tried again"), true
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
	if refused, ok := errors.AsType[*database.SharedRoleError](err); ok {
		return condition.Stuck(v1alpha1.ReasonSharedRole, "In the database, "+refused.Error())
	}
	return condition.Stuck(v1alpha1.ReasonForeignSchema, fmt.Sprintf(
		"Schema %s is there and says that it is another tenant's, so it is left alone: find out whose data are in it, and rename it if they are to be kept",
		names.Schema))
}

func newerSchema(names database.Names) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonNewerSchema, fmt.Sprintf(
		"Schema %s was migrated by a newer operator, so it is left alone: upgrade this operator", names.Schema))
}

// databaseStatus tells where the data are. What a pass did not find out stays as it was.
func (p *pass) databaseStatus() *v1alpha1.DatabaseStatus {
	status := &v1alpha1.DatabaseStatus{Schema: p.names.Schema, Version: int32(p.login.version)}
	if last := p.tenant.Status.Database; p.login.role == "" && last != nil {
		status.Role, status.PasswordReplacedAt, status.PasswordRequest = last.Role, last.PasswordReplacedAt, last.PasswordRequest
		return status
	}
	status.Role, status.PasswordRequest = p.login.role, p.login.request
	if !p.login.replacedAt.IsZero() {
		status.PasswordReplacedAt = new(metav1.NewTime(p.login.replacedAt))
	}
	return status
}
