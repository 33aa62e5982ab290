package enstenant

import (
	"context"
	"fmt"
	"sync"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/shard"
)

// The indexes of tenants by what they refer to.
const (
	indexEndpoints = "spec.endpoints"
	indexProviders = "spec.pushProviders"
	// indexFiles is for the Secrets and ConfigMaps that the pods see files of.
	indexFiles = "spec.files"
	// indexHostnames is for all names that tenants have or want.
	indexHostnames = "spec.hostnames"
)

// Register adds the reconciler to the manager. Changes of users' Secrets and ConfigMaps are watched through others, those of
// what the operator made, to which somebody may refer, through the manager's cache.
func (r *Reconciler) Register(ctx context.Context, mgr ctrl.Manager, others cache.Cache, options controller.Options) error {
	if err := indexReferences(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	wake := func(index string) foreign.Waker {
		return foreign.Wake(r.Client, func() client.ObjectList { return &v1alpha1.EnsTenantList{} }, index)
	}
	byName := func(name string) string { return name }
	tenantChanges := shard.Changes(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	b := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&v1alpha1.EnsTenant{}, builder.WithPredicates(tenantChanges)).
		Watches(&v1alpha1.EnsTenant{}, handler.EnqueueRequestsFromMapFunc(r.rivals), builder.WithPredicates(hostnamesChanged)).
		Watches(&v1alpha1.EwsEndpoint{}, wake(indexEndpoints).On(byName)).
		Watches(&v1alpha1.PushProvider{}, wake(indexProviders).On(byName)).
		WatchesRawSource(foreign.Secrets(others, wake(indexFiles).On(foreign.SecretIndex))).
		WatchesRawSource(foreign.ConfigMaps(others, wake(indexFiles).On(foreign.ConfigMapIndex))).
		Watches(&corev1.Secret{}, wake(indexFiles).On(foreign.SecretIndex)).
		Watches(&corev1.ConfigMap{}, wake(indexFiles).On(foreign.ConfigMapIndex)).
		WatchesRawSource(source.Channel(r.Woken(), &handler.EnqueueRequestForObject{})).
		WithOptions(options)
	for _, child := range []client.Object{
		&appsv1.Deployment{}, &policyv1.PodDisruptionBudget{},
		&corev1.ConfigMap{}, &corev1.Secret{}, &corev1.Service{}, &corev1.ServiceAccount{},
		&networkingv1.Ingress{}, &networkingv1.NetworkPolicy{}, &autoscalingv2.HorizontalPodAutoscaler{},
	} {
		b = b.Watches(child, handler.EnqueueRequestsFromMapFunc(tenantOf))
	}
	c, err := b.Build(r)
	if err != nil {
		return err
	}
	r.certificates.prepare(certmanager.SchemeGroupVersion.WithKind(certmanager.CertificateKind), c, mgr.GetCache())
	r.routes.prepare(routeKind, c, mgr.GetCache())
	r.listenerSets.prepare(listenerSetKind, c, mgr.GetCache())
	for _, kind := range []*optionalWatch{&r.certificates, &r.routes, &r.listenerSets} {
		if _, err := kind.ensure(mgr.GetRESTMapper(), mgr.GetScheme()); err != nil {
			return err
		}
	}
	return nil
}

func indexReferences(ctx context.Context, indexer client.FieldIndexer) error {
	for index, values := range map[string]func(*v1alpha1.EnsTenant) []string{
		indexEndpoints: func(t *v1alpha1.EnsTenant) []string { return texts(t.Spec.Endpoints) },
		indexProviders: func(t *v1alpha1.EnsTenant) []string { return texts(t.Spec.PushProviders) },
		indexFiles:     fileReferences,
		indexHostnames: claimed,
	} {
		err := indexer.IndexField(ctx, &v1alpha1.EnsTenant{}, index, func(object client.Object) []string {
			return values(object.(*v1alpha1.EnsTenant))
		})
		if err != nil {
			return fmt.Errorf("indexing tenants by %s: %w", index, err)
		}
	}
	return nil
}

// fileReferences are the Secrets and ConfigMaps that hold a tenant's certificate, certificate authorities, API token and
// database URL and key-encryption keys.
func fileReferences(tenant *v1alpha1.EnsTenant) []string {
	found := []string{foreign.SecretIndex(desired.TLSSecretName(tenant))}
	if next := tenant.Spec.TLS.NextSecretName; next != "" {
		found = append(found, foreign.SecretIndex(string(next)))
	}
	if token := tenant.Spec.APIToken; token != nil && token.SecretName != "" {
		found = append(found, foreign.SecretIndex(string(token.SecretName)))
	}
	if own := tenant.Spec.Database; own != nil {
		found = append(found, foreign.SecretIndex(string(own.SecretName)))
	}
	if encryption := tenant.Spec.Encryption; encryption != nil {
		found = append(found, foreign.SecretIndex(string(encryption.SecretName)))
	}
	if autodiscover := tenant.Spec.Autodiscover; autodiscover != nil && autodiscover.CABundle != nil {
		found = append(found, foreign.BundleIndex(*autodiscover.CABundle))
	}
	if tracing := tenant.Spec.Tracing; tracing != nil && tracing.CABundle != nil {
		found = append(found, foreign.BundleIndex(*tracing.CABundle))
	}
	return found
}

func texts(names []v1alpha1.ResourceName) []string {
	var found []string
	for _, name := range names {
		found = append(found, string(name))
	}
	return found
}

// tenantOf finds the tenant that an object was made for by its label, because some have no owner.
func tenantOf(_ context.Context, object client.Object) []reconcile.Request {
	name := object.GetLabels()[desired.LabelTenant]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// optionalWatch watches a kind that others define, as soon as the cluster knows it: it may be installed after the operator.
type optionalWatch struct {
	kind       schema.GroupVersionKind
	controller controller.Controller
	cache      cache.Cache

	mutex   sync.Mutex
	started bool
}

func (w *optionalWatch) prepare(kind schema.GroupVersionKind, c controller.Controller, objects cache.Cache) {
	w.kind, w.controller, w.cache = kind, c, objects
}

// ensure starts the watch if it can. It reports whether the cluster knows the kind.
func (w *optionalWatch) ensure(mapper meta.RESTMapper, scheme *runtime.Scheme) (bool, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.started {
		return true, nil
	}
	_, err := mapper.RESTMapping(w.kind.GroupKind(), w.kind.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking whether the cluster knows the kind %s: %w", w.kind.Kind, err)
	}
	object, err := scheme.New(w.kind)
	if err != nil {
		return false, fmt.Errorf("making an empty %s: %w", w.kind.Kind, err)
	}
	changes := source.Kind[client.Object](w.cache, object.(client.Object), handler.EnqueueRequestsFromMapFunc(tenantOf))
	if err := w.controller.Watch(changes); err != nil {
		return false, fmt.Errorf("watching %ss: %w", w.kind.Kind, err)
	}
	w.started = true
	return true, nil
}

// watching reports whether the watch runs.
func (w *optionalWatch) watching() bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.started
}
