package enstenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

const (
	// podPoll is how often pods that are ending are counted; the Deployment tells of most changes sooner.
	podPoll = 2 * time.Second
	// podLimit is how long pods are waited for beyond their own grace period. After that their sessions are ended all
	// the same: a node that is gone must not keep a tenant for ever.
	podLimit = time.Minute
	// databaseLimit is how long a database may fail before the tenant says that it needs somebody.
	databaseLimit = 10 * time.Minute
)

// finalize takes down what the tenant has outside of the garbage collector's reach, in the order that matters: pods,
// sessions, schema, roles, and the Secrets with keys and token last, because a schema without its keys is worthless
// and keys without a schema are not. With Retain all of that stays.
func (r *Reconciler) finalize(ctx context.Context, tenant *v1alpha1.EnsTenant) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(tenant, Finalizer) {
		r.forget(tenant)
		return reconcile.Result{}, nil
	}
	if desired.Settings(tenant, r.Image).DeletionPolicy == v1alpha1.DeletionDelete {
		running, err := r.stopPods(ctx, tenant)
		if err != nil {
			return reconcile.Result{}, err
		}
		if running && r.Clock.Now().Before(podDeadline(tenant)) {
			err := r.reportDeletion(ctx, tenant, deleting("The tenant's pods are ending"))
			return reconcile.Result{RequeueAfter: podPoll}, err
		}
		if err := r.dropDatabase(ctx, tenant); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.deleteKept(ctx, tenant); err != nil {
			return reconcile.Result{}, err
		}
	}
	before := tenant.DeepCopy()
	controllerutil.RemoveFinalizer(tenant, Finalizer)
	if err := r.patchFinalizers(ctx, before, tenant); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("removing the finalizer: %w", err)
	}
	r.forget(tenant)
	log.FromContext(ctx).Info("Finished with the EnsTenant", "deletionPolicy", desired.Settings(tenant, r.Image).DeletionPolicy)
	return reconcile.Result{}, nil
}

func podDeadline(tenant *v1alpha1.EnsTenant) time.Time {
	grace := desired.GracePeriod(desired.Settings(tenant, ""))
	return tenant.DeletionTimestamp.Add(grace + podLimit)
}

// stopPods scales the Deployment to zero and reports whether there are still pods.
func (r *Reconciler) stopPods(ctx context.Context, tenant *v1alpha1.EnsTenant) (running bool, err error) {
	deployment := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: tenant.Namespace, Name: desired.WorkloadName(tenant)}
	err = r.Client.Get(ctx, key, deployment)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading the Deployment: %w", err)
	}
	ours := err == nil && desired.Owns(tenant)(deployment)
	if ours && (deployment.Spec.Replicas == nil || *deployment.Spec.Replicas != 0) {
		before := deployment.DeepCopy()
		deployment.Spec.Replicas = new(int32(0))
		err := r.Client.Patch(ctx, deployment, client.MergeFrom(before), client.FieldOwner(apply.FieldOwner))
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("scaling the Deployment to zero: %w", err)
		}
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err = r.Live.List(ctx, pods, client.InNamespace(tenant.Namespace), client.MatchingLabels(desired.SelectorLabels(tenant)), client.Limit(1))
	if err != nil {
		return false, fmt.Errorf("counting the pods: %w", err)
	}
	return len(pods.Items) > 0, nil
}

// dropDatabase removes schema and roles, unless the administrator gives them up.
func (r *Reconciler) dropDatabase(ctx context.Context, tenant *v1alpha1.EnsTenant) error {
	identity := r.identityOf(tenant)
	if tenant.Annotations[v1alpha1.AnnotationAbandonDatabase] == "true" {
		log.FromContext(ctx).Info("Left the schema in the database, as the annotation asks for", "schema", database.NamesFor(identity).Schema)
		return nil
	}
	names := database.NamesFor(identity)
	cause, transient, err := r.drop(ctx, tenant)
	if err == nil {
		return nil
	}
	finding := deleting("The database does not let the schema be dropped; it is tried again")
	if !transient || r.Clock.Since(tenant.DeletionTimestamp.Time) > databaseLimit {
		finding = condition.Stuck(cause.Reason, fmt.Sprintf(
			"Schema %s cannot be removed with the tenant. %s. To leave the schema behind, annotate the EnsTenant with %s=true",
			names.Schema, cause.Message, v1alpha1.AnnotationAbandonDatabase))
	}
	if statusErr := r.reportDeletion(ctx, tenant, finding); statusErr != nil {
		return statusErr
	}
	return err
}

// drop removes schema and roles. With an error it tells what is wrong, and whether trying again may help.
func (r *Reconciler) drop(ctx context.Context, tenant *v1alpha1.EnsTenant) (cause condition.Finding, transient bool, err error) {
	opened, closed, finding, err := r.openDatabase(ctx, tenant)
	if err != nil {
		return condition.Failed(v1alpha1.ReasonError, "The API server does not tell the database's URL"), true, err
	}
	if finding != nil {
		return *finding, false, errors.New(finding.Message)
	}
	defer closed()
	identity := r.identityOf(tenant)
	if err = opened.Drop(ctx, identity); err == nil {
		return condition.Finding{}, false, nil
	}
	cause, transient = databaseFinding(database.NamesFor(identity), whereURL(tenant), err)
	return cause, transient, err
}

// deleteKept deletes the Secrets that have no owner.
func (r *Reconciler) deleteKept(ctx context.Context, tenant *v1alpha1.EnsTenant) error {
	for _, name := range []string{desired.APITokenName(tenant), desired.KeysName(tenant)} {
		kept := &corev1.Secret{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: tenant.Namespace, Name: name}, kept)
		if apierrors.IsNotFound(err) || err == nil && !desired.Keeps(tenant, kept) {
			continue
		}
		if err == nil {
			err = r.Client.Delete(ctx, kept, client.Preconditions{UID: &kept.UID})
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting Secret %s: %w", name, err)
		}
	}
	return nil
}

func deleting(message string) condition.Finding {
	return condition.Finding{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonDeleting, Message: message}
}

func (r *Reconciler) reportDeletion(ctx context.Context, tenant *v1alpha1.EnsTenant, finding condition.Finding) error {
	before := tenant.DeepCopy()
	tenant.Status.ObservedGeneration = tenant.Generation
	tenant.Status.Conditions = condition.Set(tenant.Status.Conditions, tenant.Generation, metav1.NewTime(r.Clock.Now()),
		condition.Typed{Type: v1alpha1.ConditionReady, Finding: finding})
	ctx, cancel := statusContext(ctx)
	defer cancel()
	if err := r.statuses.Patch(ctx, r.Client, before, tenant); err != nil {
		return client.IgnoreNotFound(err)
	}
	condition.Announce(r.Recorder, tenant, before.Status.Conditions, tenant.Status.Conditions)
	return nil
}
