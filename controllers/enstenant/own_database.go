package enstenant

import (
	"context"
	"errors"
	"fmt"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// The keys of a Secret under which a connection string is looked for, in this order. CloudNativePG's has the second.
var urlKeys = []string{"url", "uri"}

// openDatabase opens the database that the tenant's data are in. One of the tenant's own is opened for this look only; closed
// must be called after it. The finding is not nil if the Secret with its URL cannot be used.
func (r *Reconciler) openDatabase(ctx context.Context, tenant *v1alpha1.EnsTenant) (opened *database.Server, closed func(), finding *condition.Finding, err error) {
	own := tenant.Spec.Database
	if own == nil {
		return r.Database, func() {}, nil, nil
	}
	name := string(own.SecretName)
	text, authorities, err := r.databaseURL(ctx, tenant.Namespace, name)
	if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
		return nil, nil, new(condition.Stuck(missing.Reason(), "The tenant's own database cannot be reached: "+missing.Error())), nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	opened, err = database.OpenOwn(ctx, database.OwnOptions{
		URL: text, Authorities: authorities, RuntimeHost: string(own.RuntimeHost), RuntimePort: uint16(own.RuntimePort), Guard: egress.Guard{AllowLoopback: r.AllowLoopback},
	})
	if err != nil {
		return nil, nil, new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s cannot be used for the tenant's own database: %v", name, err))), nil
	}
	return opened, opened.Close, nil, nil
}

// databaseURL reads a connection string from a Secret, and the certificate authorities beside it, nil if there are none.
func (r *Reconciler) databaseURL(ctx context.Context, namespace, name string) (text secret.Value, authorities []byte, err error) {
	data, err := r.Foreign.Secret(ctx, namespace, name)
	if err != nil {
		return secret.Value{}, nil, err
	}
	authorities, given := data[database.AuthoritiesKey]
	if given && authorities == nil {
		authorities = []byte{} // an empty value is none that can be used
	}
	for _, key := range urlKeys {
		if text := data[key]; len(text) > 0 {
			return secret.New(text), authorities, nil
		}
	}
	return secret.Value{}, nil, &foreign.MissingError{Kind: "Secret", Name: name, Key: urlKeys[0]}
}

// whereURL tells where the connection string of a tenant's database stands.
func whereURL(tenant *v1alpha1.EnsTenant) string {
	if own := tenant.Spec.Database; own != nil {
		return "the connection string in Secret " + string(own.SecretName)
	}
	return "the operator's database URL"
}

// schemaGone finds out whether the tenant's own database once had data of the tenant, and has not any more: another one is
// named, or it was lost. A new schema would hide that.
func (p *pass) schemaGone() *condition.Finding {
	if p.tenant.Spec.Database == nil || p.state.SchemaExists || p.tenant.Status.Database == nil {
		return nil
	}
	return new(condition.Stuck(v1alpha1.ReasonSchemaGone, fmt.Sprintf(
		"The tenant has had data, and the database that Secret %s leads to has no schema %s: restore it there, or correct the Secret; to begin anew, delete the EnsTenant and create it again",
		p.tenant.Spec.Database.SecretName, p.names.Schema)))
}
