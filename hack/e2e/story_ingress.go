package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/e2e/traffic"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// guestsOfIngress is how many users the second tenant has.
const guestsOfIngress = 4

// ingress applies a second tenant, whose certificate is cert-manager's: its pods serve https themselves, and the Ingress in
// front of them shows the same certificate.
func ingress(ctx context.Context, t *theatre) error {
	const name, host = "globex", "globex.example.com"
	data := map[string]any{"Namespace": namespace, "Name": name, "Hostname": host}
	if _, err := t.Apply(ctx, "ingress_tenant.yaml", data); err != nil {
		return err
	}
	tenant, err := t.awaitTenantNamed(ctx, name, v1alpha1.ConditionReady)
	if err != nil {
		return err
	}
	boxer := &corev1.Secret{}
	if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: tenant.Status.Secrets.Boxer}, boxer); err != nil {
		return err
	}
	second := *t.tenant
	second.BaseURL, second.APIToken = string(boxer.Data["ENSLinkAddress"]), string(boxer.Data["ENSAPIToken"])
	var users []*traffic.User
	for i := range guestsOfIngress {
		user := second.NewUser(fmt.Sprintf("globex%d", i), push.IOS)
		if err := await(ctx, "the Ingress to lead to the pods", func(ctx context.Context) (bool, error) {
			err := user.Register(ctx)
			return err == nil, err
		}); err != nil {
			return err
		}
		users = append(users, user)
	}
	t.say("phones have registered at https://%s", host)
	visit := &theatre{Stage: t.Stage, teller: t.teller, tenant: &second, users: users}
	err = visit.underTraffic(ctx, func(context.Context) error { return nil })
	t.counted = visit.counted
	if err != nil {
		return err
	}
	_, err = t.Kubectl(ctx, "--namespace="+namespace, "delete", "enstenant", name, "--wait")
	return err
}
