package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// The label of the namespaces that the stories make, in their manifests, too.
const (
	madeByLabel = "app.kubernetes.io/created-by"
	madeByUs    = "ens-operator-e2e"
)

// clear takes away what an earlier run has left in a cluster that was given: operator and tenants, whose database and
// Exchange are gone. Namespaces that are somebody else's are left alone, and are an error.
func (t *theatre) clear(ctx context.Context) error {
	if t.Own() {
		return nil
	}
	left := false
	for _, name := range []string{operatorNamespace, namespace} {
		found := &corev1.Namespace{}
		err := t.Client.Get(ctx, client.ObjectKey{Name: name}, found)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if found.Labels[madeByLabel] != madeByUs {
			return fmt.Errorf("the cluster has a namespace %s that the stories have not made: give them a cluster that they may play with", name)
		}
		left = true
	}
	if !left {
		return nil
	}
	// The operator goes first, and the tenants without it: it would wait for their database.
	if _, err := t.Helm(ctx, "uninstall", release, "--namespace", operatorNamespace, "--ignore-not-found", "--wait"); err != nil {
		return err
	}
	if err := t.releaseTenants(ctx); err != nil {
		return err
	}
	_, err := t.Kubectl(ctx, "delete", "namespace", operatorNamespace, namespace, "--ignore-not-found", "--wait")
	if err == nil {
		t.say("what an earlier run had left in the cluster is gone")
	}
	return err
}

// releaseTenants removes the tenants' finalizers.
func (t *theatre) releaseTenants(ctx context.Context) error {
	tenants := &v1alpha1.EnsTenantList{}
	if err := t.Client.List(ctx, tenants, client.InNamespace(namespace)); err != nil {
		if apimeta.IsNoMatchError(err) {
			return nil // that run has not come to install our kinds
		}
		return err
	}
	for _, tenant := range tenants.Items {
		if err := t.patch(ctx, "enstenant", tenant.Name, `{"metadata":{"finalizers":null}}`); err != nil {
			return err
		}
	}
	return nil
}
