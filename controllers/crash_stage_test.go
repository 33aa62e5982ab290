package controllers_test

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/database"
)

// crashStage is a namespace in which a process of the operator may die at any of its changes.
type crashStage struct {
	*stage
	config *rest.Config
	clock  *clocktesting.FakePassiveClock
	// tenants are the names of all tenants.
	tenants []string
	// image is the operator's own, and upgrades counts how often it has become another.
	image    string
	upgrades int
	// certified says that there is cert-manager, so that the operator has to find out which kinds the cluster knows; it takes
	// some time.
	certified bool
	// own is the tenant's own database, nil if it has none.
	own *ownCrash
}

func newCrashStage(t *testing.T, o *operator, config *rest.Config) *crashStage {
	t.Helper()
	return &crashStage{
		stage: &stage{operator: o, t: t, namespace: o.kube.NewNamespace(t)}, config: config,
		clock: clocktesting.NewFakePassiveClock(crashTime), tenants: []string{"acme"}, image: runtimeImage,
	}
}

// crashTime is when all stories begin, so that they end with the same times.
var crashTime = time.Now().Truncate(time.Second)

// othersOf is what others do in the cluster, as workAmong wants it.
func (story crashStory) othersOf(c *crashStage) func() []types.NamespacedName {
	if story.around == nil {
		return nil
	}
	return func() []types.NamespacedName { return story.around(c) }
}

// keys name all tenants.
func (c *crashStage) keys() (found []types.NamespacedName) {
	for _, name := range c.tenants {
		found = append(found, types.NamespacedName{Namespace: c.namespace, Name: name})
	}
	return found
}

// standIn says that endpoint and providers are ready, as their own reconcilers would.
func (c *crashStage) standIn() {
	c.t.Helper()
	for _, object := range []client.Object{at(c.stage, &api.EwsEndpoint{}, "exchange"), at(c.stage, &api.PushProvider{}, "apple"), at(c.stage, &api.PushProvider{}, "google")} {
		c.get(object)
		var ready []metav1.Condition
		for _, kind := range []string{api.ConditionReady, api.ConditionAccepted, api.ConditionReferencesResolved} {
			ready = append(ready, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: api.ReasonReady,
				ObservedGeneration: object.GetGeneration(), LastTransitionTime: metav1.Now()})
		}
		switch object := object.(type) {
		case *api.EwsEndpoint:
			object.Status.Conditions, object.Status.ObservedGeneration = ready, object.Generation
		case *api.PushProvider:
			object.Status.Conditions, object.Status.ObservedGeneration = ready, object.Generation
		}
		if err := c.clients.Status().Update(c.t.Context(), object); err != nil {
			c.t.Fatal(err)
		}
	}
}

// sweep does what the garbage collector would once the tenant is gone, and takes away what the tenant referred to.
func (c *crashStage) sweep() {
	c.t.Helper()
	c.collectGarbage()
	for _, object := range samples(c.t) {
		if object.GetKind() != "EnsTenant" {
			object.SetNamespace(c.namespace)
			if err := c.clients.Delete(c.t.Context(), object); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// dropRest leaves nothing in Postgres that the next round would have to pass by: roles are the whole server's.
func (c *crashStage) dropRest() {
	ctx := context.WithoutCancel(c.t.Context())
	conn := c.connect(c.postgres.SuperuserURL)
	defer func() { _ = conn.Close(ctx) }()
	for _, tenant := range c.tenants {
		names := c.namesOf(tenant)
		for _, statement := range []string{
			"DROP SCHEMA IF EXISTS " + names.Schema + " CASCADE", "DROP ROLE IF EXISTS " + names.Logins[0],
			"DROP ROLE IF EXISTS " + names.Logins[1], "DROP ROLE IF EXISTS " + names.Schema,
		} {
			if _, err := conn.Exec(ctx, statement); err != nil {
				c.t.Error(err)
			}
		}
	}
	if c.own != nil {
		c.own.proxy.close()
	}
}

// namesOf is names for any tenant of the stage.
func (c *crashStage) namesOf(tenant string) database.Names {
	identity := c.identity()
	identity.Name = tenant
	return database.NamesFor(identity)
}
