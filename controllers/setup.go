// Package controllers puts the operator together: a manager with what its caches hold, and the three reconcilers in the
// folders below.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/enstenant"
	"github.com/ens-operator/ens-operator/controllers/ewsendpoint"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/pushprovider"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// +kubebuilder:rbac:groups="",resources=namespaces,resourceNames=kube-system,verbs=get

const (
	// defaultWorkers is enough to take in a thousand tenants in a minute.
	defaultWorkers = 10
	// The first retry comes soon, and none later than people wait for.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 2 * time.Minute
	// reconciliationTimeout frees a worker. The database has limits of its own, which end sooner: one that hangs leaves
	// time for everything else.
	reconciliationTimeout = 3 * time.Minute
)

// Options are what the reconcilers need to know.
type Options struct {
	// RuntimeImage is the runtime's container image where a tenant asks for no other. Required.
	RuntimeImage string
	// MaxRollouts is how many tenants' pods may be replaced at once because RuntimeImage has become another one; 0 is any
	// number.
	MaxRollouts int
	// AllowLoopback lets tenants reach loopback and link-local addresses, for tests and the demo.
	AllowLoopback bool
	// ClusterID tells this cluster from others that share the database; empty takes the UID of the namespace
	// kube-system, which lives as long as the cluster. It is part of every tenant's identity and must never change.
	ClusterID string
	// Database is the database that the tenants share. Required.
	Database *database.Server
	// Shard says which objects are this operator's. All operators of a cluster read all tenants, because no two may have a
	// host name in common.
	Shard shard.Shard
	// Workers is how many objects of a kind are reconciled at once; 0 is 10.
	Workers int
	// Clock is for tests; nil is the real one.
	Clock clock.PassiveClock
}

// NewScheme knows every kind that the operator reads or writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	err := errors.Join(clientscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), certmanager.AddToScheme(scheme),
		gatewayv1.Install(scheme))
	return scheme, err
}

// ours matches what the operator made, notOurs everything else.
var ours, notOurs = selectors()

func selectors() (ours, others labels.Selector) {
	made := labels.Set{desired.LabelManagedBy: desired.ManagedBy}
	not, err := labels.NewRequirement(desired.LabelManagedBy, selection.NotEquals, []string{desired.ManagedBy})
	if err != nil {
		panic(err) // the label is a constant
	}
	return labels.SelectorFromSet(made), labels.NewSelector().Add(*not)
}

// CacheOptions are what the manager's cache holds: the three kinds, and of everything else what the operator made.
// Namespaces limits it to some; none is all.
func CacheOptions(namespaces []string) cache.Options {
	all := cache.ByObject{Label: labels.Everything()}
	options := cache.Options{
		DefaultTransform:     cache.TransformStripManagedFields(),
		DefaultLabelSelector: ours,
		ByObject:             map[client.Object]cache.ByObject{&v1alpha1.EnsTenant{}: all, &v1alpha1.EwsEndpoint{}: all, &v1alpha1.PushProvider{}: all},
	}
	if len(namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range namespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	return options
}

// Setup adds the reconcilers to a manager that was made with NewScheme and CacheOptions.
func Setup(ctx context.Context, mgr ctrl.Manager, namespaces []string, options Options) error {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.ClusterID == "" {
		id, err := clusterID(ctx, mgr.GetAPIReader())
		if err != nil {
			return err
		}
		options.ClusterID = id
	}
	cacheOptions := CacheOptions(namespaces)
	cacheOptions.Scheme, cacheOptions.Mapper, cacheOptions.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	others, err := foreign.NewCache(mgr.GetConfig(), cacheOptions, notOurs)
	if err != nil {
		return err
	}
	if err := mgr.Add(others); err != nil {
		return fmt.Errorf("adding the cache for users' Secrets and ConfigMaps: %w", err)
	}
	for _, register := range []func(context.Context, ctrl.Manager, cache.Cache, controller.Options) error{
		endpointReconciler(mgr, options).Register,
		providerReconciler(mgr, options).Register,
		tenantReconciler(mgr, options).Register,
	} {
		if err := register(ctx, mgr, others, controllerOptions(options)); err != nil {
			return fmt.Errorf("adding a reconciler: %w", err)
		}
	}
	return nil
}

func clusterID(ctx context.Context, reader client.Reader) (string, error) {
	namespace := &corev1.Namespace{}
	if err := reader.Get(ctx, client.ObjectKey{Name: "kube-system"}, namespace); err != nil {
		return "", fmt.Errorf("reading the cluster's identity, the UID of namespace kube-system (or set --cluster-id): %w", err)
	}
	return string(namespace.UID), nil
}

func controllerOptions(options Options) controller.Options {
	workers := options.Workers
	if workers == 0 {
		workers = defaultWorkers
	}
	return controller.Options{
		MaxConcurrentReconciles: workers,
		EnableWarmup:            new(true), // an operator that takes over knows everything already
		ReconciliationTimeout:   reconciliationTimeout,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	}
}

func endpointReconciler(mgr ctrl.Manager, options Options) *ewsendpoint.Reconciler {
	return &ewsendpoint.Reconciler{
		Client:   mgr.GetClient(),
		Foreign:  foreign.Reader{Live: mgr.GetAPIReader()},
		Recorder: mgr.GetEventRecorder(apply.FieldOwner),
		Clock:    options.Clock,
		Guard:    egress.Guard{AllowLoopback: options.AllowLoopback},
		Shard:    options.Shard,
	}
}

func providerReconciler(mgr ctrl.Manager, options Options) *pushprovider.Reconciler {
	return &pushprovider.Reconciler{
		Client:   mgr.GetClient(),
		Foreign:  foreign.Reader{Live: mgr.GetAPIReader()},
		Recorder: mgr.GetEventRecorder(apply.FieldOwner),
		Clock:    options.Clock,
		Guard:    egress.Guard{AllowLoopback: options.AllowLoopback},
		Shard:    options.Shard,
	}
}

func tenantReconciler(mgr ctrl.Manager, options Options) *enstenant.Reconciler {
	return &enstenant.Reconciler{
		Client:        mgr.GetClient(),
		Live:          mgr.GetAPIReader(),
		Foreign:       foreign.Reader{Live: mgr.GetAPIReader()},
		Applier:       &apply.Applier{Client: mgr.GetClient(), Live: mgr.GetAPIReader()},
		Recorder:      mgr.GetEventRecorder(apply.FieldOwner),
		Clock:         options.Clock,
		Database:      options.Database,
		ClusterID:     options.ClusterID,
		Image:         options.RuntimeImage,
		MaxRollouts:   options.MaxRollouts,
		AllowLoopback: options.AllowLoopback,
		Shard:         options.Shard,
	}
}
