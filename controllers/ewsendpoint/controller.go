// Package ewsendpoint reconciles EwsEndpoints: it judges what the API server cannot, the address and the certificate
// authorities, looks at the server now and then, and says so in the status. It makes no objects.
package ewsendpoint

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
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
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/probe"
	"github.com/ens-operator/ens-operator/controllers/shard"
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
	// Shard says which endpoints are this operator's.
	Shard shard.Shard
	// Guard says which addresses may be reached.
	Guard egress.Guard

	looks    *looks
	statuses condition.Statuses
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
	r.looks = newLooks(probe.Prober{Guard: r.Guard}, r.Clock)
	if err := mgr.Add(r.looks); err != nil {
		return err
	}
	changes := shard.Changes(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	wake := foreign.Wake(r.Client, func() client.ObjectList { return &v1alpha1.EwsEndpointList{} }, indexBundle)
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&v1alpha1.EwsEndpoint{}, builder.WithPredicates(changes)).
		WatchesRawSource(source.Channel(r.looks.woken, &handler.EnqueueRequestForObject{})).
		WatchesRawSource(foreign.Secrets(others, wake.On(foreign.SecretIndex))).
		WatchesRawSource(foreign.ConfigMaps(others, wake.On(foreign.ConfigMapIndex))).
		Watches(&corev1.Secret{}, wake.On(foreign.SecretIndex)).
		Watches(&corev1.ConfigMap{}, wake.On(foreign.ConfigMapIndex)).
		WithOptions(options).
		Complete(r)
}

// Reconcile judges one endpoint.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	endpoint := &v1alpha1.EwsEndpoint{}
	err := r.statuses.Get(ctx, r.Client, r.Foreign.Live, request.NamespacedName, endpoint)
	if apierrors.IsNotFound(err) || err == nil && (!endpoint.DeletionTimestamp.IsZero() || !r.Shard.Has(endpoint)) {
		r.looks.forget(request.NamespacedName)
		unmeasure(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	bundle, err := r.gather(ctx, endpoint)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := endpoint.DeepCopy()
	accepted := acceptedFinding(endpoint, r.Guard)
	var shown *probe.Result
	again := bundle.LookAgain
	if accepted.Good() && bundle.Good() {
		q, err := r.question(ctx, endpoint)
		if err != nil {
			return reconcile.Result{}, err
		}
		var next time.Duration
		shown, next = r.looks.at(request.NamespacedName, q, wasWell(endpoint))
		if again == 0 || next < again {
			again = next
		}
	}
	r.report(endpoint, accepted, bundle, shown)
	measure(endpoint)
	if err := r.statuses.Patch(ctx, r.Client, before, endpoint); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	condition.Announce(r.Recorder, endpoint, before.Status.Conditions, endpoint.Status.Conditions)
	return reconcile.Result{RequeueAfter: again}, nil
}

// wasWell reports whether the server was well when it was last looked at, as the status says, and nobody waits for another
// look.
func wasWell(endpoint *v1alpha1.EwsEndpoint) bool {
	for _, kind := range []string{v1alpha1.ConditionReachable, v1alpha1.ConditionPinned} {
		found := meta.FindStatusCondition(endpoint.Status.Conditions, kind)
		if found == nil || found.Status != metav1.ConditionTrue || found.ObservedGeneration != endpoint.Generation {
			return false
		}
	}
	named, err := egress.ParseFingerprint(endpoint.Annotations[v1alpha1.AnnotationAcceptCertificate])
	return err != nil || slices.Contains(endpoint.Status.Trusted, v1alpha1.Fingerprint(named))
}

// gather reads the bundle that the endpoint names.
func (r *Reconciler) gather(ctx context.Context, endpoint *v1alpha1.EwsEndpoint) (foreign.BundleFinding, error) {
	return r.Foreign.JudgeBundle(ctx, endpoint.Namespace, endpoint.Spec.Pinning.CertificateAuthority, r.Clock.Now())
}

// report writes what was found into the endpoint's status. shown is what the server showed, nil if it has not been looked
// at.
func (r *Reconciler) report(endpoint *v1alpha1.EwsEndpoint, accepted condition.Finding, bundle foreign.BundleFinding, shown *probe.Result) {
	pinned := r.pinnedFinding(endpoint, shown)
	parts := []condition.Finding{accepted, bundle.Finding}
	// A server that has never been reached is no failure: the tenants' pods may reach it, and they verify it, too.
	if pinned.Status == metav1.ConditionFalse || endpoint.Spec.Pinning.TrustOnFirstUse != nil && len(endpoint.Status.Trusted) == 0 {
		parts = append(parts, pinned)
	}
	found := []condition.Typed{
		{Type: v1alpha1.ConditionReady, Finding: condition.Summarize(v1alpha1.ReasonReady, "Tenants may use the endpoint", parts...)},
		{Type: v1alpha1.ConditionAccepted, Finding: accepted},
		{Type: v1alpha1.ConditionReferencesResolved, Finding: bundle.Finding},
		{Type: v1alpha1.ConditionPinned, Finding: pinned},
	}
	if shown != nil {
		found = append(found, condition.Typed{Type: v1alpha1.ConditionReachable, Finding: reachableFinding(endpoint, *shown)})
		if len(shown.Certificates) > 0 {
			endpoint.Status.Server = describe(*shown)
		}
	}
	endpoint.Status.ObservedGeneration = endpoint.Generation
	endpoint.Status.CertificateAuthority = bundle.Status
	endpoint.Status.Conditions = condition.Set(endpoint.Status.Conditions, endpoint.Generation, metav1.NewTime(r.Clock.Now()), found...)
}

// acceptedFinding judges the address, and whether a tenant could be told of the endpoint at all.
func acceptedFinding(endpoint *v1alpha1.EwsEndpoint, guard egress.Guard) condition.Finding {
	address := condition.Address("url", string(endpoint.Spec.URL), guard)
	var references desired.References
	if err := references.AddEndpoint(endpoint); err != nil && address.Good() {
		return condition.Stuck(v1alpha1.ReasonInvalid, err.Error())
	}
	return address
}
