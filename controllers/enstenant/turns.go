package enstenant

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/shard"
)

// turns decides whose pods are replaced when the operator's own image has become another one: those of so many tenants at
// a time, and of no further one while a tenant has failed with that image.
//
// Everything that counts stands on the Deployments, so that an operator that starts goes on where the last one stopped.
// Kept in memory is only who was admitted and is not seen on a Deployment yet, because the cache is late, and who waits.
type turns struct {
	// cache holds tenants and Deployments.
	cache client.Reader
	// image is the operator's own.
	image string
	// limit is how many tenants may be under way; 0 is any number.
	limit int
	// shard says which tenants count: another operator sees to its own.
	shard shard.Shard
	// woken are tenants that wait and are to look again.
	woken chan event.GenericEvent

	mu       sync.Mutex
	admitted map[types.NamespacedName]struct{}
	// waiting holds, for each tenant that waits, who failed when it last asked.
	waiting map[types.NamespacedName]string
}

func newTurns(cache client.Reader, image string, limit int, mine shard.Shard) *turns {
	return &turns{
		cache: cache, image: image, limit: limit, shard: mine, woken: make(chan event.GenericEvent),
		admitted: map[types.NamespacedName]struct{}{}, waiting: map[types.NamespacedName]string{},
	}
}

// rollouts are the turns of all tenants.
func (r *Reconciler) rollouts() *turns {
	r.makeTurns.Do(func() { r.turns = newTurns(r.Client, r.Image, r.MaxRollouts, r.Shard) })
	return r.turns
}

// Woken are the tenants that are to be looked at because it may be their turn to have their pods replaced. Somebody must
// receive them, as what Register sets up does: else Reconcile waits.
func (r *Reconciler) Woken() <-chan event.GenericEvent { return r.rollouts().woken }

// ask admits a tenant if it is its turn, else has it wait. Failed is who holds everybody back, empty if nobody does.
func (t *turns) ask(ctx context.Context, tenant types.NamespacedName) (admitted bool, failed string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	underWay, failed, err := t.look(ctx)
	if err != nil {
		return false, "", err
	}
	// Who is under way to another image has a turn already: an image that is mended must get to who failed.
	if _, already := underWay[tenant]; already || t.limit == 0 || failed == "" && len(underWay) < t.limit {
		t.admitted[tenant] = struct{}{}
		delete(t.waiting, tenant)
		return true, "", nil
	}
	t.waiting[tenant] = failed
	return false, failed, nil
}

// has reports whether a tenant was admitted whose Deployment is not seen to say so.
func (t *turns) has(tenant types.NamespacedName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, admitted := t.admitted[tenant]
	return admitted
}

// leave ends a tenant's waiting, and its turn as far as no Deployment tells of it.
func (t *turns) leave(tenant types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.admitted, tenant)
	delete(t.waiting, tenant)
}

// look finds out who is under way, and who of them has failed with the operator's image, the first by name; t.mu is held.
func (t *turns) look(ctx context.Context) (underWay map[types.NamespacedName]struct{}, failed string, err error) {
	var deployments appsv1.DeploymentList
	// They are only looked at, and there may be thousands.
	if err := t.cache.List(ctx, &deployments, client.UnsafeDisableDeepCopy); err != nil {
		return nil, "", fmt.Errorf("looking whose pods are being replaced: %w", err)
	}
	underWay = maps.Clone(t.admitted)
	for i := range deployments.Items {
		deployment := &deployments.Items[i]
		if desired.ReplacedImage(deployment) == "" || rolloutFinding(deployment).Good() {
			continue
		}
		tenant := types.NamespacedName{Namespace: deployment.Namespace, Name: deployment.Labels[desired.LabelTenant]}
		counts, err := t.counts(ctx, tenant, deployment)
		if err != nil {
			return nil, "", err
		}
		if !counts {
			continue
		}
		underWay[tenant] = struct{}{}
		name := tenant.String()
		if desired.RuntimeImage(deployment) == t.image && rolloutFailed(deployment) && (failed == "" || name < failed) {
			failed = name
		}
	}
	return underWay, failed, nil
}

// counts reports whether a Deployment whose pods are being replaced is that of a tenant that the operator brings to its own
// image.
func (t *turns) counts(ctx context.Context, name types.NamespacedName, deployment *appsv1.Deployment) (bool, error) {
	tenant := &v1alpha1.EnsTenant{}
	if err := t.cache.Get(ctx, name, tenant); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return t.shard.Has(tenant) && tenant.DeletionTimestamp.IsZero() && !paused(tenant) && ownImage(tenant) == "" && desired.Owns(tenant)(deployment), nil
}

// settle wakes those that wait for a turn that is free, and those that wait for another reason than they were told. It is
// called whenever something may have ended a turn.
func (t *turns) settle(ctx context.Context) error {
	wake, err := t.due(ctx)
	if err != nil {
		return err
	}
	for _, name := range wake {
		tenant := &v1alpha1.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
		select {
		case t.woken <- event.GenericEvent{Object: tenant}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *turns) due(ctx context.Context) ([]types.NamespacedName, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return nil, nil
	}
	underWay, failed, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	free := t.limit - len(underWay)
	var wake []types.NamespacedName
	for _, name := range slices.SortedFunc(maps.Keys(t.waiting), byName) {
		switch {
		case t.waiting[name] != failed:
			t.waiting[name] = failed
			wake = append(wake, name)
		case failed == "" && free > 0:
			free--
			delete(t.waiting, name) // it asks, or does not want a turn any more
			wake = append(wake, name)
		}
	}
	return wake, nil
}

func byName(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) }

// rolloutFailed reports whether the latest pods do not become ready, or were and are not any more before the rollout ended.
func rolloutFailed(deployment *appsv1.Deployment) bool {
	if deployment.Status.ObservedGeneration < deployment.Generation {
		return false
	}
	available := availableFinding(deployment)
	return rolloutFinding(deployment).Status == metav1.ConditionFalse ||
		available.Status == metav1.ConditionFalse && available.Reason == v1alpha1.ReasonUnavailable
}
