// Package ewsendpoint reconciles EwsEndpoints: it judges what the API server cannot, the address and the certificate
// authorities, and says so in the status. It makes no objects.
package ewsendpoint

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// +kubebuilder:rbac:groups=ens-operator.io,resources=ewsendpoints,verbs=get;list;watch
// +kubebuilder:rbac:groups=ens-operator.io,resources=ewsendpoints/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets;configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Name is the controller's name.
const Name = "ewsendpoint"

// indexBundle indexes endpoints by the object that holds their certificate authorities.
const indexBundle = "spec.pinning.certificateAuthority"

// Reconciler reconciles EwsEndpoints.
type Reconciler struct {
	Client   client.Client
	Foreign  foreign.Reader
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Guard says which addresses may be reached.
	Guard egress.Guard
}

// Register adds the reconciler to the manager. Changes of users' Secrets and ConfigMaps are watched through others.
func (r *Reconciler) Register(ctx context.Context, mgr ctrl.Manager, others cache.Cache, options controller.Options) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.EwsEndpoint{}, indexBundle, func(object client.Object) []string {
		bundle := object.(*v1alpha1.EwsEndpoint).Spec.Pinning.CertificateAuthority
		if bundle == nil {
			return nil
		}
		return []string{foreign.BundleIndex(*bundle)}
	})
	if err != nil {
		return err
	}
	wake := foreign.Wake(r.Client, func() client.ObjectList { return &v1alpha1.EwsEndpointList{} }, indexBundle)
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&v1alpha1.EwsEndpoint{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(foreign.Secrets(others, wake.On(foreign.SecretIndex))).
		WatchesRawSource(foreign.ConfigMaps(others, wake.On(foreign.ConfigMapIndex))).
		WithOptions(options).
		Complete(r)
}

// Reconcile judges one endpoint.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	endpoint := &v1alpha1.EwsEndpoint{}
	if err := r.Client.Get(ctx, request.NamespacedName, endpoint); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !endpoint.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	bundle, err := r.gather(ctx, endpoint)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := endpoint.DeepCopy()
	again := r.report(endpoint, bundle)
	if err := condition.PatchStatus(ctx, r.Client, before, endpoint); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	condition.Announce(r.Recorder, endpoint, before.Status.Conditions, endpoint.Status.Conditions)
	return reconcile.Result{RequeueAfter: again}, nil
}

// gather reads the bundle that the endpoint names.
func (r *Reconciler) gather(ctx context.Context, endpoint *v1alpha1.EwsEndpoint) (foreign.BundleFinding, error) {
	return r.Foreign.JudgeBundle(ctx, endpoint.Namespace, endpoint.Spec.Pinning.CertificateAuthority, r.Clock.Now())
}

// report writes what was found into the endpoint's status. It returns when to look again, 0 for never: certificates
// expire without anybody's doing.
func (r *Reconciler) report(endpoint *v1alpha1.EwsEndpoint, bundle foreign.BundleFinding) time.Duration {
	accepted := acceptedFinding(endpoint, r.Guard)
	ready := condition.Summarize(v1alpha1.ReasonReady, "Tenants may use the endpoint", accepted, bundle.Finding)
	now := metav1.NewTime(r.Clock.Now())
	endpoint.Status.ObservedGeneration = endpoint.Generation
	endpoint.Status.CertificateAuthority = bundle.Status
	endpoint.Status.Conditions = condition.Set(endpoint.Status.Conditions, endpoint.Generation, now,
		condition.Typed{Type: v1alpha1.ConditionReady, Finding: ready},
		condition.Typed{Type: v1alpha1.ConditionAccepted, Finding: accepted},
		condition.Typed{Type: v1alpha1.ConditionReferencesResolved, Finding: bundle.Finding},
	)
	return bundle.LookAgain
}

// acceptedFinding judges the address.
func acceptedFinding(endpoint *v1alpha1.EwsEndpoint, guard egress.Guard) condition.Finding {
	return condition.Address("url", string(endpoint.Spec.URL), guard)
}
