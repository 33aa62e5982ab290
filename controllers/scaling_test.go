package controllers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
)

func autoscaled(o *api.EnsTenant) {
	o.Spec.Runtime.Replicas, o.Spec.Runtime.Autoscaling = nil, &api.TenantAutoscaling{MinReplicas: 3, MaxReplicas: 9}
}

// operatorOwnsReplicas reports whether the operator owns the number of pods.
func (s *stage) operatorOwnsReplicas() bool {
	s.t.Helper()
	for _, owner := range fetch(s, &appsv1.Deployment{}, "acme").ManagedFields {
		if owner.Manager == "ens-operator" && strings.Contains(string(owner.FieldsV1.GetRawBytes()), `"f:replicas"`) {
			return true
		}
	}
	return false
}

func (s *stage) waitReleased() {
	s.t.Helper()
	s.eventually("waiting until the operator owns the number of pods no longer", func() error {
		if s.operatorOwnsReplicas() {
			return errNotYet("it does")
		}
		return nil
	})
}

func (s *stage) replicas() int32 {
	s.t.Helper()
	return *fetch(s, &appsv1.Deployment{}, "acme").Spec.Replicas
}

func TestAutoscalerIsLeftToChooseTheNumberOfPods(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, int64(5), "spec", "runtime", "replicas")
		}
	})
	watcher, err := s.clients.Watch(t.Context(), &appsv1.DeploymentList{}, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	change(s, tenant, "acme", autoscaled)
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.waitReleased()
	if got := s.replicas(); got != 5 {
		t.Errorf("handing the number over made %d pods of 5", got)
	}
	scaler := fetch(s, &autoscalingv2.HorizontalPodAutoscaler{}, "acme")
	if *scaler.Spec.MinReplicas != 3 || scaler.Spec.MaxReplicas != 9 || scaler.Spec.ScaleTargetRef.Name != "acme" {
		t.Errorf("the autoscaler is %+v", scaler.Spec)
	}
	if got := tenant.Status.Effective; got.Replicas != nil || got.Autoscaling == nil || got.Autoscaling.TargetCPUUtilizationPercentage != 80 {
		t.Errorf("in effect is %+v", got)
	}

	// What somebody sets survives everything that has the Deployment written.
	change(s, &appsv1.Deployment{}, "acme", func(o *appsv1.Deployment) { o.Spec.Replicas = new(int32(7)) })
	for _, value := range []string{"one", "two"} {
		change(s, tenant, "acme", func(o *api.EnsTenant) {
			o.Spec.Runtime.PodTemplate = &api.PodTemplate{Annotations: map[string]string{"note": value}}
		})
		s.eventually("waiting for the pods' annotation", func() error {
			if got := fetch(s, &appsv1.Deployment{}, "acme").Spec.Template.Annotations["note"]; got != value {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		})
	}
	s.quiet()
	if got := s.replicas(); got != 7 {
		t.Errorf("there are %d pods, want the 7 that were set", got)
	}

	// Back to a number of its own.
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Autoscaling, o.Spec.Runtime.Replicas = nil, new(int32(4)) })
	s.eventually("waiting for four pods", func() error {
		if got := s.replicas(); got != 4 {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
	s.gone(&autoscalingv2.HorizontalPodAutoscaler{}, "acme")
	change(s, tenant, "acme", autoscaled)
	s.waitReleased()
	if got := s.replicas(); got != 4 {
		t.Errorf("the second handing over made %d pods of 4", got)
	}
	watcher.Stop()
	for event := range watcher.ResultChan() {
		if deployment, ok := event.Object.(*appsv1.Deployment); ok && *deployment.Spec.Replicas < 4 {
			t.Errorf("meanwhile there were %d pods", *deployment.Spec.Replicas)
		}
	}
}

func TestAutoscaledTenantBeginsWithTheLeastPods(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"autoscaling": map[string]any{"minReplicas": int64(3), "maxReplicas": int64(9)}}, "spec", "runtime")
		}
	})
	s.waitReleased()
	if got := s.replicas(); got != 3 {
		t.Errorf("there are %d pods, want 3", got)
	}
	s.quiet()
	before := len(s.written())
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"touched": "yes"} })
	s.quiet()
	if after := s.written(); len(after) != before {
		t.Errorf("%d writes although nothing changed: %v", len(after)-before, after[before:])
	}
	s.remove(&appsv1.Deployment{}, "acme")
	s.eventually("waiting for the Deployment to come again", func() error {
		if !s.there(&appsv1.Deployment{}, "acme") {
			return errNotYet("it is not there")
		}
		return nil
	})
	if got := s.replicas(); got != 3 {
		t.Errorf("made anew, there are %d pods, want 3", got)
	}
}

// An operator that starts, or is replaced by another that wants the same, changes nothing.
func TestOperatorThatStartsChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"autoscaling": map[string]any{"maxReplicas": int64(9)}}, "spec", "runtime")
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"loadBalancer": map[string]any{}}, "spec", "exposure")
			_ = unstructured.SetNestedMap(o.Object, map[string]any{"enabled": true}, "spec", "networkPolicy")
		}
	})
	s.waitReleased()
	s.quiet()
	objects := append(children(s), tenant, at(s, &corev1.Service{}, "acme-public"),
		at(s, &autoscalingv2.HorizontalPodAutoscaler{}, "acme"), at(s, &networkingv1.NetworkPolicy{}, "acme"))
	versions := s.versions(objects)

	ctx, cancel := context.WithCancel(t.Context())
	next, done, err := newOperator(ctx, s.kube, s.postgres, []string{s.namespace}, controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	defer func() {
		cancel()
		<-done
	}()
	s.eventually("waiting for the next operator", func() error {
		if !next.writes.hasRead(s.namespace, "secrets", "acme-server-certificate") { // which a look at a tenant begins with
			return errNotYet("it has not looked at the tenant")
		}
		return nil
	})
	s.quiet()
	for i, version := range s.versions(objects) {
		if version != versions[i] {
			t.Errorf("%T %s has changed", objects[i], objects[i].GetName())
		}
	}
	if written := next.writes.of(s.namespace); len(slices.DeleteFunc(written, func(r string) bool { return strings.Contains(r, "/"+probePrefix) })) > 0 {
		t.Errorf("the next operator has sent %v", written)
	}
}

func TestNetworkPolicyComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	if s.there(&networkingv1.NetworkPolicy{}, "acme") {
		t.Error("there is a policy although none is asked for")
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.NetworkPolicy = &api.TenantNetworkPolicy{Enabled: true} })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	text := fmt.Sprint(fetch(s, &networkingv1.NetworkPolicy{}, "acme").Spec.Egress)
	port := s.connect(s.postgres.SuperuserURL).Config().Port
	if !strings.Contains(text, fmt.Sprint(port)) {
		t.Errorf("the pods may not connect to the database's port %d: %s", port, text)
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.NetworkPolicy.Enabled = false })
	s.gone(&networkingv1.NetworkPolicy{}, "acme")
}

func TestAffinityThatCannotBeIsSaid(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	for raw, says := range map[string]string{
		`{"misspelt":{}}`: "misspelt",
		`{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1000,"preference":{}}]}}`: "weight",
	} {
		change(s, tenant, "acme", func(o *api.EnsTenant) {
			o.Spec.Runtime.PodTemplate = &api.PodTemplate{Affinity: &runtime.RawExtension{Raw: []byte(raw)}}
		})
		found := s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionFalse, api.ReasonInvalid)
		if !strings.Contains(found.Message, says) {
			t.Errorf("the condition says %q, and nothing of %s", found.Message, says)
		}
	}
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.PodTemplate = nil })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

func TestPausedTenantIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.quiet()
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationPaused: "true"} })
	s.waitCondition(tenant, api.ConditionPaused, metav1.ConditionTrue, api.ReasonPaused)
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(3)) })
	change(s, &appsv1.Deployment{}, "acme", func(o *appsv1.Deployment) { o.Spec.Template.Spec.Containers[0].Image = "mine" })
	s.quiet()
	deployment := fetch(s, &appsv1.Deployment{}, "acme")
	if deployment.Spec.Template.Spec.Containers[0].Image != "mine" || *deployment.Spec.Replicas != 2 {
		t.Errorf("the Deployment was changed: %+v", deployment.Spec)
	}
	if s.get(tenant); tenant.Status.ObservedGeneration == tenant.Generation {
		t.Error("the status says that the changed spec was seen")
	}
	if status, _ := health(t, healthScript(t, "EnsTenant"), asMap(t, tenant)); status != "Suspended" {
		t.Errorf("Argo CD calls it %s", status)
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { delete(o.Annotations, api.AnnotationPaused) })
	s.waitNoCondition(tenant, api.ConditionPaused)
	deployment = fetch(s, &appsv1.Deployment{}, "acme")
	if deployment.Spec.Template.Spec.Containers[0].Image != runtimeImage || *deployment.Spec.Replicas != 3 {
		t.Errorf("the Deployment was not put right: %+v", deployment.Spec)
	}

	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationPaused: "true"} })
	s.waitCondition(tenant, api.ConditionPaused, metav1.ConditionTrue, "")
	s.remove(tenant, "acme")
	s.gone(&api.EnsTenant{}, "acme")
}
