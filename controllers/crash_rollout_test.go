package controllers_test

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// crashRollouts is how many tenants may have their pods replaced at once.
const crashRollouts = 1

// rolloutStories are about tenants that get another image of the operator's, in turns.
func rolloutStories() map[string]crashStory {
	create := func(c *crashStage) {
		c.applySamples(nil)
		c.standIn()
		c.addTenant("beta")
	}
	upgrade := func(c *crashStage) {
		c.upgrades++
		c.image = fmt.Sprintf("registry.example.com/ens-runtime:upgrade-%02d-of-tenants", c.upgrades)
	}
	return map[string]crashStory{
		"the operator's image is another one": {
			before: []func(*crashStage){create}, change: upgrade, again: []func(*crashStage){}, around: (*crashStage).runPods, check: allUpgraded},
	}
}

// addTenant makes a further tenant like that of the samples, behind something that serves https.
func (c *crashStage) addTenant(name string) {
	c.t.Helper()
	tenant := plain(c.t, sampleOf(c.t, "EnsTenant"), &api.EnsTenant{})
	tenant.Name, tenant.Spec.Hostname = name, api.Hostname(name+"."+c.hostname())
	tenant.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	c.create(tenant)
	c.tenants = append(c.tenants, name)
}

// deployments are all in the namespace.
func (c *crashStage) deployments() []appsv1.Deployment {
	c.t.Helper()
	var list appsv1.DeploymentList
	if err := c.clients.List(c.t.Context(), &list, client.InNamespace(c.namespace)); err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// runPods says that all pods are the latest and ready, as the Deployment controller would, and wakes the tenants of which
// that is new. Before, no more tenants may be under way than it is allowed.
func (c *crashStage) runPods() (woken []types.NamespacedName) {
	c.t.Helper()
	underWay := 0
	for _, deployment := range c.deployments() {
		if deployment.Status.ObservedGeneration == deployment.Generation {
			continue
		}
		if desired.ReplacedImage(&deployment) != "" {
			underWay++
		}
		replicas := *deployment.Spec.Replicas
		deployment.Status = appsv1.DeploymentStatus{
			ObservedGeneration: deployment.Generation,
			Replicas:           replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
			Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
			},
		}
		if err := c.clients.Status().Update(c.t.Context(), &deployment); err != nil {
			c.t.Fatal(err)
		}
		woken = append(woken, types.NamespacedName{Namespace: c.namespace, Name: deployment.Name})
	}
	if underWay > crashRollouts {
		c.t.Errorf("the pods of %d tenants are being replaced at once", underWay)
	}
	return woken
}

// allUpgraded is for a rollout that has come to its end.
func allUpgraded(c *crashStage, before, crashed, after keptValues) {
	c.t.Helper()
	c.sameKeys(before, crashed, after)
	c.sameToken(before, crashed, after)
	c.works()
	var upgraded []string
	for _, deployment := range c.deployments() {
		if desired.RuntimeImage(&deployment) == c.image && desired.ReplacedImage(&deployment) == "" {
			upgraded = append(upgraded, deployment.Name)
		}
	}
	if slices.Sort(upgraded); !slices.Equal(upgraded, []string{"acme", "beta"}) {
		c.t.Errorf("those with the image are %v", upgraded)
	}
}
