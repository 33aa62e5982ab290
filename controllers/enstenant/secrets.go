package enstenant

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// keptSecrets are the Secrets that outlive the tenant.
type keptSecrets struct {
	keyFiles []string
	token    apiToken
}

// ensureFinalizer holds the tenant until finalize has run, before anything is made that outlives it.
func (p *pass) ensureFinalizer(ctx context.Context) error {
	if controllerutil.ContainsFinalizer(p.tenant, Finalizer) {
		return nil
	}
	before := p.tenant.DeepCopy()
	controllerutil.AddFinalizer(p.tenant, Finalizer)
	if err := p.patchFinalizers(ctx, before, p.tenant); err != nil {
		return fmt.Errorf("adding the finalizer: %w", err)
	}
	p.findings.before = p.tenant.DeepCopy()
	return nil
}

// patchFinalizers writes metadata.finalizers and nothing else, and fails if the object has changed in the meantime.
func (r *Reconciler) patchFinalizers(ctx context.Context, before, after *v1alpha1.EnsTenant) error {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return r.Client.Patch(ctx, after, patch, client.FieldOwner(apply.FieldOwner))
}

// ensureSecrets makes the tenant's keys and API token if it has none, and never again: they are written once, by
// Create.
func (p *pass) ensureSecrets(ctx context.Context) error {
	keys, err := p.ensureKeys(ctx)
	if err != nil {
		return err
	}
	token, err := p.ensureToken(ctx)
	if err != nil {
		return err
	}
	summary := condition.Summarize(v1alpha1.ReasonReady, "Keys and API token are there", keys, token)
	p.findings.secrets = &summary
	return nil
}

func (p *pass) ensureKeys(ctx context.Context) (condition.Finding, error) {
	name := desired.KeysName(p.tenant)
	kept, err := p.readKept(ctx, name)
	if err != nil {
		return condition.Finding{}, err
	}
	if kept == nil {
		switch {
		case p.state == nil:
			return condition.Waiting("Keys are made once the database tells that it holds no data sealed with others"), nil
		case !p.state.BelongsTo(p.identity):
			return condition.Waiting("Keys are made once the schema is known to be the tenant's"), nil
		case p.state.SchemaExists && !p.state.Empty:
			return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
				"Secret %s is gone, and the data in schema %s are sealed with its keys: restore it from a backup, or drop the schema to begin anew",
				name, p.names.Schema)), nil
		}
		if kept, err = p.createKept(ctx, name, nil, config.NewKeyFiles()); err != nil {
			return condition.Finding{}, err
		}
	}
	if !desired.Keeps(p.tenant, kept) {
		return p.notKept(name), nil
	}
	keys, err := config.ParseKeys(kept.Data)
	if err != nil {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s does not hold the tenant's keys (%v): restore it from a backup", name, err)), nil
	}
	if p.state != nil && !opens(keys, p.state.KEKChecks) {
		return condition.Stuck(v1alpha1.ReasonKeysLost, fmt.Sprintf(
			"Secret %s holds other keys than those that the data in schema %s are sealed with: restore the right ones from a backup",
			name, p.names.Schema)), nil
	}
	p.kept.keyFiles = slices.Sorted(maps.Keys(kept.Data))
	return condition.OK(v1alpha1.ReasonReady, ""), nil
}

// opens reports whether keys are those that data were sealed with.
func opens(keys config.Keys, checks map[int]string) bool {
	for number, check := range checks {
		key, found := keys.KEKs[number]
		if !found || config.CheckValue(key) != check {
			return false
		}
	}
	return true
}

func (p *pass) notKept(name string) condition.Finding {
	return condition.Stuck(v1alpha1.ReasonNotOwned, fmt.Sprintf(
		"Secret %s exists and does not carry this tenant's labels: remove it, or label it %s=%s and %s=%s to have it used",
		name, desired.LabelManagedBy, desired.ManagedBy, desired.LabelTenant, p.tenant.Name))
}

// readKept reads a Secret, nil if there is none. That it is not in the cache proves nothing: the label may be missing,
// or the cache late.
func (p *pass) readKept(ctx context.Context, name string) (*corev1.Secret, error) {
	kept := &corev1.Secret{}
	key := client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}
	err := p.Client.Get(ctx, key, kept)
	if apierrors.IsNotFound(err) {
		err = p.Live.Get(ctx, key, kept)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	return kept, nil
}

// createKept makes a Secret that has no owner, so that it outlives the tenant.
func (p *pass) createKept(ctx context.Context, name string, annotations map[string]string, data map[string][]byte) (*corev1.Secret, error) {
	kept := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.tenant.Namespace, Name: name, Labels: desired.Labels(p.tenant), Annotations: annotations},
		Data:       data,
	}
	if err := p.Client.Create(ctx, kept, client.FieldOwner(apply.FieldOwner)); err != nil {
		return nil, fmt.Errorf("creating Secret %s: %w", name, err)
	}
	return kept, nil
}
