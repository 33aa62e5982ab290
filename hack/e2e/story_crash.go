package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/e2e/stage"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// crash kills the program of each of the tenant's pods, one after the other.
func crash(ctx context.Context, t *theatre) error {
	if !t.Own() {
		t.say("left out: the processes of another cluster's pods cannot be killed from here")
		return nil
	}
	return t.underTraffic(ctx, func(ctx context.Context) error {
		pods := &corev1.PodList{}
		if err := t.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
			return err
		}
		for _, pod := range pods.Items {
			pid, _, err := stage.Process(&pod)
			if err != nil {
				return err
			}
			began := time.Now()
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
			if err := t.awaitRestart(ctx, &pod); err != nil {
				return err
			}
			t.say("kill -9 in %s: ready again after %.1f s", pod.Name, time.Since(began).Seconds())
		}
		return nil
	})
}

// awaitRestart waits until a pod's container was started once more, and is ready.
func (t *theatre) awaitRestart(ctx context.Context, pod *corev1.Pod) error {
	return await(ctx, "the container's restart", func(ctx context.Context) (bool, error) {
		now := &corev1.Pod{}
		if err := t.Client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return false, err
		}
		container := now.Status.ContainerStatuses[0]
		return container.RestartCount > pod.Status.ContainerStatuses[0].RestartCount && container.Ready, nil
	})
}

// leader deletes the operator's leading pod, as an eviction or a lost node would, just after there is something to do.
func leader(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		leases := &coordinationv1.LeaseList{}
		if err := t.Client.List(ctx, leases, client.InNamespace(operatorNamespace)); err != nil {
			return err
		}
		if len(leases.Items) != 1 || leases.Items[0].Spec.HolderIdentity == nil {
			return errors.New("there is not one Lease with a holder")
		}
		pod, _, _ := strings.Cut(*leases.Items[0].Spec.HolderIdentity, "_")
		began := time.Now()
		if err := t.patch(ctx, "enstenant", tenantName, `{"spec":{"runtime":{"podTemplate":{"annotations":{"example.com/note":"a"}}}}}`); err != nil {
			return err
		}
		if _, err := t.Kubectl(ctx, "--namespace="+operatorNamespace, "delete", "pod", pod, "--grace-period=0", "--force"); err != nil {
			return err
		}
		noted := func(d *appsv1.Deployment) bool { return d.Spec.Template.Annotations["example.com/note"] == "a" }
		if err := t.awaitPods(ctx, noted); err != nil {
			return err
		}
		if _, err := t.awaitTenant(ctx, v1alpha1.ConditionReady); err != nil {
			return err
		}
		t.say("the leader %s was deleted; the other one has carried out the change, %.1f s after it was asked for", pod, time.Since(began).Seconds())
		return nil
	})
}

// failOver kills the primary of the Postgres pair and promotes the standby a moment later.
func failOver(ctx context.Context, t *theatre) error {
	const away = 5 * time.Second
	return t.underTraffic(ctx, func(ctx context.Context) error {
		if err := t.Outside.Postgres.FailOver(ctx, func() { time.Sleep(away) }); err != nil {
			return err
		}
		t.say("the primary was killed, the standby promoted %v later", away)
		// Somebody new: who registers once more is told only one of the mails that wait at Exchange for the former
		// subscription, because they are of the past by then.
		began := time.Now()
		newcomer := t.tenant.NewUser("newcomer", push.IOS)
		err := await(ctx, "somebody to register", func(ctx context.Context) (bool, error) {
			err := newcomer.Register(ctx)
			return err == nil, err
		})
		t.say("somebody could register %.1f s later", time.Since(began).Seconds())
		return err
	})
}
