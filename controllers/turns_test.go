package controllers_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	firstImage  = "registry.example.com/ens-runtime:1"
	secondImage = "registry.example.com/ens-runtime:2"
	thirdImage  = "registry.example.com/ens-runtime:3"
)

// fleet is a namespace with several tenants and an operator of its own, which can be replaced by another.
type fleet struct {
	*stage
	limit int
	shard shard.Shard
	stop  func()
}

// newFleet has tenants run on firstImage, of whom an operator may bring so many to another at once.
func newFleet(t *testing.T, limit int, tenants ...string) *fleet {
	t.Helper()
	kube, err := testenv.StartKube(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	postgres, err := testenv.Postgres(t).CreateDatabase(t.Context(), "fleet_"+strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{stage: &stage{operator: &operator{kube: kube, postgres: postgres}, t: t, namespace: kube.NewNamespace(t)}, limit: limit}
	f.operate(firstImage)
	t.Cleanup(func() { f.stop() })
	f.applySamples(func(o *unstructured.Unstructured) bool { return o.GetKind() != "EnsTenant" })
	for _, name := range tenants {
		f.add(name)
	}
	for _, name := range tenants {
		f.waitCondition(f.tenant(name), api.ConditionProvisioned, metav1.ConditionTrue, "")
		f.ready(name)
	}
	for _, name := range tenants {
		f.waitCondition(f.tenant(name), api.ConditionReady, metav1.ConditionTrue, "")
	}
	return f
}

// operate replaces the operator by one whose own image is another.
func (f *fleet) operate(image string) {
	f.t.Helper()
	if f.stop != nil {
		f.stop()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	o, done, err := newOperator(ctx, f.kube, f.postgres, []string{f.namespace},
		controllers.Options{RuntimeImage: image, ClusterID: clusterID, MaxRollouts: f.limit, Shard: f.shard, AllowLoopback: true})
	if err != nil {
		cancel()
		f.t.Fatal(err)
	}
	f.operator = o
	f.stop = func() {
		cancel()
		<-done
	}
}

func (f *fleet) tenant(name string) *api.EnsTenant { return at(f.stage, &api.EnsTenant{}, name) }

// add makes a tenant like that of the samples, behind something that serves https.
func (f *fleet) add(name string) {
	f.t.Helper()
	tenant := plain(f.t, sampleOf(f.t, "EnsTenant"), &api.EnsTenant{})
	tenant.Name, tenant.Spec.Hostname = name, api.Hostname(name+"."+f.hostname())
	tenant.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	f.create(tenant)
}

// report says of a Deployment what the Deployment controller would.
func (f *fleet) report(name string, status appsv1.DeploymentStatus) {
	f.t.Helper()
	f.eventually("speaking for the Deployment controller", func() error {
		deployment := fetch(f.stage, &appsv1.Deployment{}, name)
		status.ObservedGeneration = deployment.Generation
		deployment.Status = status
		return f.clients.Status().Update(f.t.Context(), deployment)
	})
}

// ready says that all pods are the latest and ready.
func (f *fleet) ready(name string) {
	f.t.Helper()
	replicas := *fetch(f.stage, &appsv1.Deployment{}, name).Spec.Replicas
	f.report(name, appsv1.DeploymentStatus{
		Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
		},
	})
}

// fails says that the latest pods do not become ready; the ones before serve.
func (f *fleet) fails(name string) {
	f.t.Helper()
	f.report(name, appsv1.DeploymentStatus{
		Replicas: 3, UpdatedReplicas: 1, ReadyReplicas: 2, AvailableReplicas: 2,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"},
		},
	})
}

// images are the names of the tenants by the image that their Deployment asks for.
func (f *fleet) images() map[string][]string {
	f.t.Helper()
	var deployments appsv1.DeploymentList
	if err := f.clients.List(f.t.Context(), &deployments, client.InNamespace(f.namespace)); err != nil {
		f.t.Fatal(err)
	}
	found := map[string][]string{}
	for i := range deployments.Items {
		image := deployments.Items[i].Spec.Template.Spec.Containers[0].Image
		found[image] = append(found[image], deployments.Items[i].Name)
	}
	return found
}

// waitCount waits until so many tenants have an image, and looks that it stays at that.
func (f *fleet) waitCount(image string, want int) []string {
	f.t.Helper()
	f.eventually(fmt.Sprintf("waiting for %d tenants with %s", want, image), func() error {
		if got := f.images()[image]; len(got) < want {
			return fmt.Errorf("it is %d: %v", len(got), got)
		}
		return nil
	})
	f.quiet()
	got := f.images()[image]
	if len(got) != want {
		f.t.Fatalf("%d tenants have %s, want %d: %v", len(got), image, want, got)
	}
	return got
}

// wantWaiting looks that tenants serve, are ready and say for what reason they have yet to get the operator's image.
func (f *fleet) wantWaiting(names []string, reason string, says ...string) {
	f.t.Helper()
	status := metav1.ConditionUnknown
	if reason == api.ReasonHeldBack {
		status = metav1.ConditionFalse
	}
	for _, name := range names {
		tenant := f.tenant(name)
		f.eventually("waiting for what "+name+" says", func() error {
			found := f.waitCondition(tenant, api.ConditionRuntimeUpToDate, status, reason)
			for _, text := range says {
				if !strings.Contains(found.Message, text) {
					return errNotYet(found.Message + " has nothing of " + text)
				}
			}
			return nil
		})
		f.waitCondition(tenant, api.ConditionReady, metav1.ConditionTrue, "")
		if got := tenant.Status.Effective.Image; got != firstImage {
			f.t.Errorf("%s has %s in effect, want the image that runs", name, got)
		}
	}
}

// theRest is all without those in some.
func theRest(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(some, name) })
}

func TestAnotherDefaultImageReachesTenantsInTurns(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	f := newFleet(t, 2, all...)
	f.operate(secondImage)
	begun := f.waitCount(secondImage, 2)
	for _, name := range begun {
		f.waitCondition(f.tenant(name), api.ConditionRuntimeUpToDate, metav1.ConditionUnknown, api.ReasonRollingOut)
	}
	waiting := theRest(all, begun)
	f.wantWaiting(waiting, api.ReasonWaitingForTurn, firstImage, secondImage, "2 tenants at a time")

	// What their administrators want goes ahead at once, and the image stays.
	chooser, scaled := waiting[0], waiting[1]
	waiting = waiting[2:]
	const own = "registry.example.com/ens-runtime:own"
	change(f.stage, f.tenant(chooser), chooser, func(o *api.EnsTenant) { o.Spec.Runtime = &api.TenantRuntime{Image: own} })
	change(f.stage, f.tenant(scaled), scaled, func(o *api.EnsTenant) { o.Spec.Runtime = &api.TenantRuntime{Replicas: new(int32(5))} })
	f.waitCondition(f.tenant(chooser), api.ConditionRuntimeUpToDate, metav1.ConditionTrue, api.ReasonOwnImage)
	f.eventually("waiting for five pods", func() error {
		if got := *fetch(f.stage, &appsv1.Deployment{}, scaled).Spec.Replicas; got != 5 {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
	change(f.stage, &appsv1.Deployment{}, scaled, func(o *appsv1.Deployment) { o.Spec.Template.Spec.Containers[0].Image = "evil" })
	f.eventually("repairing the image", func() error {
		if got := f.images()[firstImage]; !slices.Contains(got, scaled) {
			return errNotYet("it has another one")
		}
		return nil
	})
	f.ready(scaled)
	f.add("new")
	f.waitCondition(f.tenant("new"), api.ConditionRuntimeUpToDate, metav1.ConditionTrue, api.ReasonUpToDate)
	if got := f.images(); !slices.Contains(got[secondImage], "new") || !slices.Equal(got[own], []string{chooser}) || len(got[secondImage]) != 3 {
		t.Errorf("the images are %v", got)
	}

	// One after another ends, and as many begin.
	for underWay := begun; len(underWay) > 0; {
		before, left := f.images()[secondImage], len(f.images()[firstImage])
		done := underWay[0]
		f.ready(done)
		f.waitCondition(f.tenant(done), api.ConditionRuntimeUpToDate, metav1.ConditionTrue, api.ReasonUpToDate)
		f.ready(done) // another annotation, too, is another generation of a Deployment
		f.waitCondition(f.tenant(done), api.ConditionReady, metav1.ConditionTrue, "")
		after := f.waitCount(secondImage, len(before)+min(1, left))
		underWay = append(underWay[1:], theRest(after, before)...)
	}
	if got := f.images(); len(got[firstImage]) != 0 || len(got[secondImage]) != len(all) {
		t.Errorf("in the end the images are %v", got)
	}
	for _, name := range append(waiting, scaled) {
		found := f.waitCondition(f.tenant(name), api.ConditionRuntimeUpToDate, metav1.ConditionTrue, api.ReasonUpToDate)
		if f.waitCondition(f.tenant(name), api.ConditionReady, metav1.ConditionTrue, ""); strings.Contains(found.Message, firstImage) {
			t.Errorf("%s says %q", name, found.Message)
		}
	}
	for name, annotations := range f.annotations() {
		if annotations["ens-operator.io/replaced-image"] != "" {
			t.Errorf("the Deployment of %s says that its pods are being replaced", name)
		}
	}
}

// annotations are those of all Deployments.
func (f *fleet) annotations() map[string]map[string]string {
	f.t.Helper()
	found := map[string]map[string]string{}
	for _, names := range f.images() {
		for _, name := range names {
			found[name] = fetch(f.stage, &appsv1.Deployment{}, name).Annotations
		}
	}
	return found
}

func TestNoFurtherTenantBeginsWhileOneHasFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "a", "b", "c", "d", "e")
	f.operate(secondImage)
	ways := map[string]func(name string){
		"it becomes well": f.ready,
		"it is paused": func(name string) {
			change(f.stage, f.tenant(name), name, func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationPaused: "true"} })
		},
		"it is deleted": func(name string) { f.remove(&api.EnsTenant{}, name) },
		"its spec names the image before": func(name string) {
			change(f.stage, f.tenant(name), name, func(o *api.EnsTenant) { o.Spec.Runtime = &api.TenantRuntime{Image: firstImage} })
		},
	}
	var begun []string
	next := func(since string) string {
		t.Helper()
		f.eventually("waiting for the next tenant "+since, func() error {
			if got := theRest(f.images()[secondImage], begun); len(got) != 1 {
				return fmt.Errorf("under way are %v", got)
			}
			return nil
		})
		return theRest(f.images()[secondImage], begun)[0]
	}
	failing := next("at first")
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		begun = append(begun, failing)
		f.fails(failing)
		found := f.waitCondition(f.tenant(failing), api.ConditionRuntimeUpToDate, metav1.ConditionFalse, api.ReasonRolloutFailed)
		if !strings.Contains(found.Message, "spec.runtime.image: "+firstImage) {
			t.Errorf("it says %q", found.Message)
		}
		f.waitCondition(f.tenant(failing), api.ConditionReady, metav1.ConditionFalse, api.ReasonUnavailable)
		waiting := theRest([]string{"a", "b", "c", "d", "e"}, begun)
		f.wantWaiting(waiting, api.ReasonHeldBack, "EnsTenant "+f.namespace+"/"+failing, secondImage, "spec.runtime.image", "pause")
		f.wantEvent(failing, corev1.EventTypeWarning, api.ReasonRolloutFailed)
		f.wantEvent(waiting[0], corev1.EventTypeWarning, api.ReasonHeldBack)
		f.quiet()
		if got := theRest(f.images()[secondImage], begun); len(got) != 0 {
			t.Fatalf("%v have begun all the same", got)
		}
		ways[way](failing)
		failing = next("when " + way)
	}
}

// wantEvent waits for an Event about a tenant.
func (f *fleet) wantEvent(tenant, kind, reason string) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("waiting for an Event %s %s about %s", kind, reason, tenant), func() error {
		var list eventsv1.EventList
		if err := f.clients.List(f.t.Context(), &list, client.InNamespace(f.namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if event := &list.Items[i]; event.Regarding.Name == tenant && event.Type == kind && event.Reason == reason {
				return nil
			}
		}
		return errNotYet("there is none")
	})
}

func TestOperatorThatStartsGoesOnWithTheTurns(t *testing.T) {
	t.Parallel()
	all := []string{"b", "c", "d", "e", "f", "g"}
	f := newFleet(t, 1, all...)
	f.operate(secondImage)
	begun := f.waitCount(secondImage, 1)
	f.operate(secondImage)
	if got := f.waitCount(secondImage, 1); got[0] != begun[0] {
		t.Errorf("%s was under way, and now %s is", begun[0], got[0])
	}
	f.fails(begun[0])
	f.wantWaiting(theRest(all, begun), api.ReasonHeldBack, begun[0])
	f.operate(secondImage)
	f.waitCount(secondImage, 1)
	f.add("a") // who waits is woken in the order of names, and this one has no first right
	f.waitCondition(f.tenant("a"), api.ConditionProvisioned, metav1.ConditionTrue, "")
	f.ready("a")

	// Whoever failed with an image is the first to get the one that is mended.
	f.operate(thirdImage)
	if got := f.waitCount(thirdImage, 1); got[0] != begun[0] {
		t.Errorf("%s was to be the first with the image that is mended, and it is %s", begun[0], got[0])
	}
	f.wantWaiting(theRest(all, begun), api.ReasonWaitingForTurn, thirdImage)
	f.ready(begun[0])
	f.waitCount(thirdImage, 2)
}

func TestATenantThatIsBeingDeletedTakesNobodysTurn(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c"}
	f := newFleet(t, 1, all...)
	f.operate(secondImage)
	begun := f.waitCount(secondImage, 1)
	waiting := theRest(all, begun)
	f.wantWaiting(waiting, api.ReasonWaitingForTurn)

	// The next one is being deleted, and one of its pods does not end.
	leaving := waiting[0]
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "lasting", Labels: desired.SelectorLabels(f.tenant(leaving))},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "runtime", Image: firstImage}}},
	}
	f.create(pod)
	change(f.stage, f.tenant(leaving), leaving, func(o *api.EnsTenant) { o.Spec.DeletionPolicy = api.DeletionDelete })
	f.remove(f.tenant(leaving), leaving)
	f.waitCondition(f.tenant(leaving), api.ConditionReady, metav1.ConditionUnknown, api.ReasonDeleting)

	f.ready(begun[0])
	if got := f.waitCount(secondImage, 2); !slices.Contains(got, waiting[1]) {
		t.Errorf("%v have the image, and %s waits", got, waiting[1])
	}
}

func TestATenantOfAnotherOperatorTakesNobodysTurn(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b"}
	f := newFleet(t, 1, all...)
	f.operate(secondImage)
	begun := f.waitCount(secondImage, 1)
	waiting := theRest(all, begun)[0]
	f.wantWaiting([]string{waiting}, api.ReasonWaitingForTurn)

	// The one that is under way becomes another operator's.
	change(f.stage, f.tenant(begun[0]), begun[0], func(o *api.EnsTenant) { o.Labels = map[string]string{"shard": "north"} })
	var err error
	if f.shard, err = shard.Parse("shard!=north"); err != nil {
		t.Fatal(err)
	}
	f.operate(secondImage)
	f.waitCondition(f.tenant(waiting), api.ConditionRuntimeUpToDate, metav1.ConditionUnknown, api.ReasonRollingOut)
}
