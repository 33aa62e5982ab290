// Package pushprovider reconciles PushProviders: it judges credentials, addresses and certificate authorities, and says
// in the status what may be told of them. It makes no objects.
package pushprovider

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// +kubebuilder:rbac:groups=ens-operator.io,resources=pushproviders,verbs=get;list;watch
// +kubebuilder:rbac:groups=ens-operator.io,resources=pushproviders/status,verbs=patch

// Name is the controller's name.
const Name = "pushprovider"

// indexReferences indexes providers by the objects that they refer to.
const indexReferences = "spec.references"

// Reconciler reconciles PushProviders.
type Reconciler struct {
	Client   client.Client
	Foreign  foreign.Reader
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Shard says which providers are this operator's.
	Shard shard.Shard
	// Guard says which addresses may be reached.
	Guard egress.Guard

	statuses condition.Statuses
}

// Register adds the reconciler to the manager. Changes of users' Secrets and ConfigMaps are watched through others.
func (r *Reconciler) Register(ctx context.Context, mgr ctrl.Manager, others cache.Cache, options controller.Options) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.PushProvider{}, indexReferences, func(object client.Object) []string {
		return references(object.(*v1alpha1.PushProvider).Spec)
	})
	if err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.EnsTenant{}, indexStanding, standingNames); err != nil {
		return err
	}
	wake := foreign.Wake(r.Client, func() client.ObjectList { return &v1alpha1.PushProviderList{} }, indexReferences)
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&v1alpha1.PushProvider{}, builder.WithPredicates(shard.Changes(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.EnsTenant{}, handler.EnqueueRequestsFromMapFunc(toldOf), builder.WithPredicates(standingChanged)).
		WatchesRawSource(foreign.Secrets(others, wake.On(foreign.SecretIndex))).
		WatchesRawSource(foreign.ConfigMaps(others, wake.On(foreign.ConfigMapIndex))).
		Watches(&corev1.Secret{}, wake.On(foreign.SecretIndex)).
		Watches(&corev1.ConfigMap{}, wake.On(foreign.ConfigMapIndex)).
		WithOptions(options).
		Complete(r)
}

func references(spec v1alpha1.PushProviderSpec) []string {
	var found []string
	_, values := credentialOf(spec)
	for _, value := range values {
		found = append(found, foreign.SecretIndex(string(value.ref.Name)))
	}
	if spec.CABundle != nil {
		found = append(found, foreign.BundleIndex(*spec.CABundle))
	}
	return found
}

// Reconcile judges one provider.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	provider := &v1alpha1.PushProvider{}
	if err := r.statuses.Get(ctx, r.Client, r.Foreign.Live, request.NamespacedName, provider); err != nil {
		if apierrors.IsNotFound(err) {
			refused.DeleteLabelValues(request.Namespace, request.Name)
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !r.Shard.Has(provider) {
		refused.DeleteLabelValues(request.Namespace, request.Name)
		return reconcile.Result{}, nil
	}
	if !provider.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	found, err := r.gather(ctx, provider)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := provider.DeepCopy()
	again := r.report(provider, found)
	if err := r.statuses.Patch(ctx, r.Client, before, provider); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	measure(provider, found.delivering)
	condition.Announce(r.Recorder, provider, before.Status.Conditions, provider.Status.Conditions)
	return reconcile.Result{RequeueAfter: again}, nil
}

// gathered is what was found out about what a provider refers to.
type gathered struct {
	credential condition.Finding
	identity   *v1alpha1.PushCredential
	bundle     foreign.BundleFinding
	delivering condition.Finding
}

func (r *Reconciler) gather(ctx context.Context, provider *v1alpha1.PushProvider) (gathered, error) {
	var found gathered
	var err error
	if found.credential, found.identity, err = r.judgeCredential(ctx, provider); err != nil {
		return gathered{}, err
	}
	if found.delivering, err = r.judgeDelivery(ctx, provider); err != nil {
		return gathered{}, err
	}
	found.bundle, err = r.Foreign.JudgeBundle(ctx, provider.Namespace, provider.Spec.CABundle, r.Clock.Now())
	return found, err
}

// report writes what was found into the provider's status. It returns when to look again, 0 for never.
func (r *Reconciler) report(provider *v1alpha1.PushProvider, found gathered) time.Duration {
	accepted := acceptedFinding(provider.Spec, r.Guard)
	resolved := condition.Summarize(v1alpha1.ReasonResolved, "Everything that is referred to is there", found.credential, found.bundle.Finding)
	ready := condition.Summarize(v1alpha1.ReasonReady, "Tenants may use the provider", accepted, resolved)
	if found.delivering.Reason == v1alpha1.ReasonRefused { // anything else may be an outage of the service
		ready = condition.Summarize("", "", ready, found.delivering)
	}
	now := metav1.NewTime(r.Clock.Now())
	provider.Status.ObservedGeneration = provider.Generation
	provider.Status.Credential = found.identity
	provider.Status.CABundle = found.bundle.Status
	provider.Status.Conditions = condition.Set(provider.Status.Conditions, provider.Generation, now,
		condition.Typed{Type: v1alpha1.ConditionReady, Finding: ready},
		condition.Typed{Type: v1alpha1.ConditionAccepted, Finding: accepted},
		condition.Typed{Type: v1alpha1.ConditionReferencesResolved, Finding: resolved},
		condition.Typed{Type: v1alpha1.ConditionDelivering, Finding: found.delivering},
	)
	return lookAgain(found, now.Time)
}

// lookAgain is when a finding may change by itself, 0 for never.
func lookAgain(found gathered, now time.Time) time.Duration {
	again := found.bundle.LookAgain
	if found.identity == nil || found.identity.NotAfter == nil {
		return again
	}
	if expires := found.identity.NotAfter.Sub(now); expires > 0 && (again == 0 || expires < again) {
		return expires
	}
	return again
}

// acceptedFinding judges the addresses.
func acceptedFinding(spec v1alpha1.PushProviderSpec, guard egress.Guard) condition.Finding {
	var findings []condition.Finding
	if spec.APNs != nil {
		findings = append(findings, condition.Address("apns.url", string(spec.APNs.URL), guard))
	}
	if spec.FCM != nil {
		findings = append(findings,
			condition.Address("fcm.url", string(spec.FCM.URL), guard),
			condition.Address("fcm.tokenURL", string(spec.FCM.TokenURL), guard))
	}
	if spec.SNS != nil {
		findings = append(findings,
			condition.Address("sns.url", string(spec.SNS.URL), guard),
			condition.Address("sns.stsURL", string(spec.SNS.STSURL), guard))
	}
	if spec.CNS != nil {
		findings = append(findings, condition.Address("cns.url", string(spec.CNS.URL), guard))
	}
	if spec.Proxy != nil {
		findings = append(findings, condition.Address("proxy.url", string(spec.Proxy.URL), guard))
	}
	return condition.Summarize(v1alpha1.ReasonAccepted, "Tenants may connect to its addresses", findings...)
}
