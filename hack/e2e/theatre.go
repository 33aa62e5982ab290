package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/e2e/stage"
	"github.com/ens-operator/ens-operator/hack/e2e/traffic"
)

const (
	release           = "ens-operator"
	operatorNamespace = "ens-operator-system"
	namespace         = "acme"
	tenantName        = "acme"
	// waitLimit bounds everything that is waited for; what is waited for takes seconds.
	waitLimit = 4 * time.Minute
	waitPoll  = 100 * time.Millisecond
	// around is how long mail flows before and after something is done to the cluster, so that there is something to lose.
	around = 3 * time.Second
)

// theatre is the stage and what has been told on it so far.
type theatre struct {
	*stage.Stage
	*teller

	tenant *traffic.Tenant
	users  []*traffic.User
	// counted is what the story at hand has counted, for the end.
	counted string
}

// await waits until done says so.
func await(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		finished, err := done(ctx)
		if finished && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for %s: %w", what, ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// awaitTenant waits until the tenant's status is about the spec as it is and a condition is True.
func (t *theatre) awaitTenant(ctx context.Context, condition string) (*v1alpha1.EnsTenant, error) {
	return t.awaitTenantNamed(ctx, tenantName, condition)
}

func (t *theatre) awaitTenantNamed(ctx context.Context, name, condition string) (*v1alpha1.EnsTenant, error) {
	tenant := &v1alpha1.EnsTenant{}
	err := await(ctx, "the tenant's condition "+condition, func(ctx context.Context) (bool, error) {
		if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, tenant); err != nil {
			return false, err
		}
		return tenant.Status.ObservedGeneration == tenant.Generation &&
			apimeta.IsStatusConditionTrue(tenant.Status.Conditions, condition), nil
	})
	if err != nil {
		for _, c := range tenant.Status.Conditions {
			t.say("condition %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return tenant, err
}

// awaitPods waits until the tenant's Deployment is as changed says and has the pods that it asks for, all of them ready,
// and no others.
func (t *theatre) awaitPods(ctx context.Context, changed func(*appsv1.Deployment) bool) error {
	name := tenantName
	return await(ctx, "the rollout of "+name, func(ctx context.Context) (bool, error) {
		deployment := &appsv1.Deployment{}
		if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, deployment); err != nil {
			return false, err
		}
		wanted, status := int32(1), deployment.Status
		if deployment.Spec.Replicas != nil {
			wanted = *deployment.Spec.Replicas
		}
		return changed(deployment) && status.ObservedGeneration == deployment.Generation && status.UpdatedReplicas == wanted &&
			status.Replicas == wanted && status.AvailableReplicas == wanted, nil
	})
}

// awaitLeave waits until no pod of operator and tenant is about to end: those that drain serve, too.
func (t *theatre) awaitLeave(ctx context.Context) error {
	return await(ctx, "the pods that are about to end", func(ctx context.Context) (bool, error) {
		for _, namespace := range []string{operatorNamespace, namespace} {
			pods := &corev1.PodList{}
			if err := t.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
				return false, err
			}
			for _, pod := range pods.Items {
				if pod.DeletionTimestamp != nil {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// annotate sets an annotation of the tenant, by which an administrator asks for something to be done once.
func (t *theatre) annotate(ctx context.Context, name, value string) error {
	_, err := t.Kubectl(ctx, "--namespace="+namespace, "annotate", "enstenant", tenantName, name+"="+value, "--overwrite")
	return err
}

// patch changes the tenant's spec as `kubectl edit` does.
func (t *theatre) patch(ctx context.Context, kind, name, change string) error {
	_, err := t.Kubectl(ctx, "--namespace="+namespace, "patch", kind, name, "--type=merge", "--patch", change)
	return err
}

// alerts is how many an iPhone shows.
func (t *theatre) alerts(user *traffic.User) int {
	return len(t.Outside.APNs.Screen(user.Phones[0].DeviceToken).Alerts)
}

// underTraffic lets mail flow, does something meanwhile, and counts what came of the mail.
func (t *theatre) underTraffic(ctx context.Context, do func(context.Context) error) error {
	stream := t.tenant.Start(ctx, t.users)
	time.Sleep(around)
	began := time.Now()
	failed := do(ctx)
	took := time.Since(began)
	if failed == nil {
		failed = t.awaitLeave(ctx)
	}
	time.Sleep(around)
	count, err := stream.End(ctx)
	if failed = errors.Join(failed, err); failed != nil {
		return failed
	}
	t.counted += fmt.Sprintf("%.1f s; %s", took.Seconds(), count)
	t.say("%s", count)
	for _, reason := range count.Reasons {
		t.say("    posts failed because: %s", reason)
	}
	return count.Err()
}
