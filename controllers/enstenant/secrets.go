package enstenant

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// keptSecrets are the Secrets that outlive the tenant.
type keptSecrets struct {
	keys  tenantKeys
	token apiToken
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

// ensureSecrets makes the tenant's keys and API token if it has none. From then on they are changed only where a rotation asks
// for it.
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

// changeKept writes what change does to the Secret, unless somebody else has changed it since it was read.
func (p *pass) changeKept(ctx context.Context, kept *corev1.Secret, change func(*corev1.Secret)) error {
	before := kept.DeepCopy()
	change(kept)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.Client.Patch(ctx, kept, patch, client.FieldOwner(apply.FieldOwner)); err != nil {
		return fmt.Errorf("changing Secret %s: %w", kept.Name, err)
	}
	return nil
}
