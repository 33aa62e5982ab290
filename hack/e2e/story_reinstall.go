package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/e2e/stage"
)

// retain deletes the tenant, whose data stay, and applies it again before Exchange gives up.
func retain(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		began := time.Now()
		if _, err := t.Kubectl(ctx, "--namespace="+namespace, "delete", "enstenant", tenantName, "--wait"); err != nil {
			return err
		}
		t.say("the tenant is gone after %.1f s", time.Since(began).Seconds())
		if _, err := t.Apply(ctx, "tenant.yaml", t.tenantData()); err != nil {
			return err
		}
		if _, err := t.awaitTenant(ctx, v1alpha1.ConditionReady); err != nil {
			return err
		}
		t.say("it is back and Ready %.1f s after it was deleted; no phone registers again", time.Since(began).Seconds())
		return nil
	})
}

// reinstall takes the operator away and brings it back. The tenant serves meanwhile, and none of its pods is replaced.
func reinstall(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		before, err := t.pods(ctx)
		if err != nil {
			return err
		}
		if _, err := t.Helm(ctx, "uninstall", release, "--namespace", operatorNamespace, "--wait"); err != nil {
			return err
		}
		t.say("uninstalled")
		time.Sleep(around)
		if err := t.upgradeChart(ctx, t.version(ctx)); err != nil {
			return err
		}
		if _, err := t.awaitTenant(ctx, v1alpha1.ConditionReady); err != nil {
			return err
		}
		return t.samePods(ctx, before)
	})
}

// namespaced puts an operator in the place of the other one that may do nothing outside of the tenant's namespace, has it
// carry out a change, and puts the other one back.
func namespaced(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		version := t.version(ctx)
		if _, err := t.Helm(ctx, "uninstall", release, "--namespace", operatorNamespace, "--wait"); err != nil {
			return err
		}
		system := &corev1.Namespace{}
		if err := t.Client.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, system); err != nil {
			return err
		}
		// The id by which the tenant's schema is known is that of the operator before.
		err := t.upgradeChart(ctx, version, "--set", "rbac.scope=namespace", "--set", "rbac.namespaces={"+namespace+"}",
			"--set", "clusterID="+string(system.UID), "--set", "crds.enabled=false", "--set", "metrics.secure=false")
		if err != nil {
			return err
		}
		roles, err := t.Kubectl(ctx, "get", "clusterroles,clusterrolebindings", "--selector=app.kubernetes.io/instance="+release, "--output=name")
		if err != nil {
			return err
		}
		if roles != "" {
			return fmt.Errorf("it has rights on the cluster: %s", roles)
		}
		if err := t.patch(ctx, "enstenant", tenantName, `{"spec":{"runtime":{"podTemplate":{"annotations":{"example.com/namespaced":"yes"}}}}}`); err != nil {
			return err
		}
		if err := t.awaitPods(ctx, func(d *appsv1.Deployment) bool { return d.Spec.Template.Annotations["example.com/namespaced"] == "yes" }); err != nil {
			return err
		}
		t.say("an operator with Roles in namespace %s alone has carried out a change", namespace)
		if _, err := t.Helm(ctx, "uninstall", release, "--namespace", operatorNamespace, "--wait"); err != nil {
			return err
		}
		return t.upgradeChart(ctx, version)
	})
}

// version is the one that is installed: what stories before have left.
func (t *theatre) version(ctx context.Context) string {
	deployment := &appsv1.Deployment{}
	err := t.Client.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: release}, deployment)
	if err == nil && hasVersion(stage.NextVersion)(deployment) {
		return stage.NextVersion
	}
	return stage.Version
}

// pods are the tenant's, by their UIDs.
func (t *theatre) pods(ctx context.Context) (map[string]bool, error) {
	pods := &corev1.PodList{}
	if err := t.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, pod := range pods.Items {
		found[string(pod.UID)] = true
	}
	return found, nil
}

func (t *theatre) samePods(ctx context.Context, before map[string]bool) error {
	after, err := t.pods(ctx)
	if err != nil {
		return err
	}
	for uid := range after {
		if !before[uid] {
			return fmt.Errorf("a pod of the tenant was replaced, although nothing of it has changed")
		}
	}
	t.say("installed again; the tenant has the %d pods that it had", len(after))
	return nil
}
