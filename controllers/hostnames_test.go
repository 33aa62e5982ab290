package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

// want has a tenant want further names.
func (f *fleet) want(tenant string, hostnames ...api.Hostname) {
	f.t.Helper()
	change(f.stage, f.tenant(tenant), tenant, func(o *api.EnsTenant) { o.Spec.Hostnames = hostnames })
}

// waitHolder waits until one of a and b has a name and the other says so, and tells which.
func (f *fleet) waitHolder(hostname api.Hostname) string {
	f.t.Helper()
	var holder string
	f.eventually("waiting until one tenant has the name "+string(hostname), func() error {
		has := map[string]bool{}
		for name, other := range map[string]string{"a": "b", "b": "a"} {
			tenant := f.tenant(name)
			f.get(tenant)
			found := meta.FindStatusCondition(tenant.Status.Conditions, api.ConditionHostnamesAccepted)
			if tenant.Status.ObservedGeneration != tenant.Generation || found.ObservedGeneration != tenant.Generation {
				return errNotYet(name + " was not looked at")
			}
			has[name] = found.Status == metav1.ConditionTrue
			if listed := slices.Contains(tenant.Status.AcceptedHostnames, hostname); listed != has[name] {
				return errNotYet(fmt.Sprintf("%s has %v", name, tenant.Status.AcceptedHostnames))
			}
			if says := f.namespace + "/" + other + " has the name " + string(hostname); !has[name] && !strings.Contains(found.Message, says) {
				return errNotYet(found.Message)
			}
			if has[name] {
				holder = name
			}
		}
		if has["a"] == has["b"] {
			return errNotYet("both or none has it")
		}
		return nil
	})
	return holder
}

func TestWhoHasAHostnameKeepsIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "a", "b") // of the same second or not, a is the older one
	shared := api.Hostname("shared." + f.hostname())
	f.want("b", shared)
	f.waitCondition(f.tenant("b"), api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
	f.want("a", shared)
	for _, when := range []string{"at first", "when the other is looked at again", "when the operator starts anew"} {
		switch when {
		case "when the operator starts anew":
			f.operate(firstImage)
		case "when the other is looked at again":
			change(f.stage, f.tenant("b"), "b", func(o *api.EnsTenant) { o.Spec.Runtime = &api.TenantRuntime{Replicas: new(int32(3))} })
		}
		if got := f.waitHolder(shared); got != "b" {
			t.Errorf("%s %s has the name, which b had", when, got)
		}
		f.quiet()
		if got := f.waitHolder(shared); got != "b" {
			t.Errorf("%s in the end %s has the name, which b had", when, got)
		}
	}
	f.waitCondition(f.tenant("a"), api.ConditionReady, metav1.ConditionFalse, api.ReasonHostnameConflict)

	// What b gives up is a's without a's doing, and b is too late then.
	f.want("b")
	f.waitCondition(f.tenant("a"), api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
	f.want("b", shared)
	if got := f.waitHolder(shared); got != "a" {
		t.Errorf("%s has the name that was given up", got)
	}
}

func TestOfTwoThatWantAHostnameAtOnceOneHasIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "a", "b")
	// With no operator there both come at once, and the older one gets it.
	f.stop()
	first := api.Hostname("first." + f.hostname())
	f.want("b", first)
	f.want("a", first)
	f.operate(firstImage)
	if got := f.waitHolder(first); got != "a" {
		t.Errorf("%s has the name", got)
	}
	for i := range 5 {
		f.want("a")
		f.want("b")
		for _, name := range []string{"a", "b"} {
			f.waitCondition(f.tenant(name), api.ConditionHostnamesAccepted, metav1.ConditionTrue, "")
		}
		hostname := api.Hostname(fmt.Sprintf("n%d.%s", i, f.hostname()))
		f.want("b", hostname)
		f.want("a", hostname)
		holder := f.waitHolder(hostname)
		f.operate(firstImage)
		f.quiet()
		if got := f.waitHolder(hostname); got != holder {
			t.Errorf("%s had the name, and after a restart %s has it", holder, got)
		}
	}
}
