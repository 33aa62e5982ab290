package controllers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// made are all objects in the namespace that the operator has made, and the tenant, as far as they are there.
func (c *crashStage) made() []client.Object {
	c.t.Helper()
	var found []client.Object
	for _, list := range []client.ObjectList{
		&corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceAccountList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{},
		&policyv1.PodDisruptionBudgetList{}, &autoscalingv2.HorizontalPodAutoscalerList{}, &networkingv1.IngressList{}, &networkingv1.NetworkPolicyList{},
		&certmanager.CertificateList{},
	} {
		err := c.clients.List(c.t.Context(), list, client.InNamespace(c.namespace), client.MatchingLabels{desired.LabelManagedBy: desired.ManagedBy})
		if err != nil {
			c.t.Fatal(err)
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			found = append(found, item.(client.Object))
			return nil
		})
	}
	return found
}

// everything is all of that as text, without what is different each time: names, times, versions, and what is random.
func (c *crashStage) everything() string {
	c.t.Helper()
	objects := c.made()
	replaced := []string{c.namespace, "NAMESPACE", c.image, "IMAGE"}
	for _, name := range c.tenants {
		if tenant := (&api.EnsTenant{}); c.there(tenant, name) {
			objects = append(objects, tenant)
		}
		replaced = append([]string{c.namesOf(name).Schema, "SCHEMA"}, replaced...)
	}
	if c.own != nil {
		replaced = append(replaced, c.own.Owner, "OWNER")
	}
	var text []string
	for _, object := range objects {
		text = append(text, c.normal(object))
	}
	slices.Sort(text)
	return strings.NewReplacer(replaced...).Replace(strings.Join(text, "\n"))
}

func (c *crashStage) normal(object client.Object) string {
	c.t.Helper()
	encoded, err := json.Marshal(object)
	if err != nil {
		c.t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(encoded, &tree); err != nil {
		c.t.Fatal(err)
	}
	for _, path := range [][]string{
		{"metadata", "uid"}, {"metadata", "resourceVersion"}, {"metadata", "creationTimestamp"}, {"metadata", "generation"},
		{"metadata", "managedFields"}, {"spec", "clusterIP"}, {"spec", "clusterIPs"},
	} {
		unstructured.RemoveNestedField(tree, path...)
	}
	if secret, ok := object.(*corev1.Secret); ok {
		tree["data"] = slices.Sorted(maps.Keys(secret.Data))
	}
	// The certificate of a stage is new each time, and what was applied is noted as a digest of what is random.
	forget(tree, "lastTransitionTime", "uid", "observedGeneration", "certificate", "nextCertificate", desired.AuthorityKey, apply.AnnotationApplied)
	// A password that was set and not written down is replaced by another one, which is told as any replacement is.
	forget(tree, "passwordReplacedAt", api.GroupName+"/password-replaced-at")
	if conditions, found, _ := unstructured.NestedSlice(tree, "status", "conditions"); found {
		conditions = slices.DeleteFunc(conditions, func(c any) bool {
			return c.(map[string]any)["type"] == api.ConditionDatabasePasswordReplaced
		})
		slices.SortFunc(conditions, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		_ = unstructured.SetNestedSlice(tree, conditions, "status", "conditions")
	}
	encoded, err = json.MarshalIndent(tree, "", " ")
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("%T %s", object, encoded)
}

// forget takes fields of these names away, wherever they are.
func forget(tree any, names ...string) {
	switch tree := tree.(type) {
	case map[string]any:
		for _, name := range names {
			delete(tree, name)
		}
		for _, value := range tree {
			forget(value, names...)
		}
	case []any:
		for _, value := range tree {
			forget(value, names...)
		}
	}
}

// difference are the lines that only one of two texts has.
func difference(want, got string) string {
	var lines []string
	for line := range strings.SplitSeq(want, "\n") {
		if !strings.Contains(got, line) {
			lines = append(lines, "- "+line)
		}
	}
	for line := range strings.SplitSeq(got, "\n") {
		if !strings.Contains(want, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return strings.Join(lines, "\n")
}
