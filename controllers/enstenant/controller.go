// Package enstenant reconciles EnsTenants: it makes everything a tenant needs, in the order that matters (migrate, then
// configuration, then Deployment), says in the status what is missing, and takes it all down again.
package enstenant

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// +kubebuilder:rbac:groups=ens-operator.io,resources=enstenants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=ens-operator.io,resources=enstenants/status,verbs=patch
// +kubebuilder:rbac:groups=ens-operator.io,resources=enstenants/finalizers,verbs=update
// +kubebuilder:rbac:groups=ens-operator.io,resources=ewsendpoints;pushproviders,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes;listenersets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Name is the controller's name.
const Name = "enstenant"

// Finalizer keeps an EnsTenant until what it has outside of its namespace's garbage collection is taken care of: schema
// and roles in the database, and the Secrets that have no owner.
const Finalizer = v1alpha1.GroupName + "/tenant-data"

// Reconciler reconciles EnsTenants.
type Reconciler struct {
	// Client reads from the cache, which holds objects with the operator's label only, and writes.
	Client client.Client
	// Live reads from the API server.
	Live     client.Reader
	Foreign  foreign.Reader
	Applier  *apply.Applier
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Database is the one that tenants without their own share. In a pass it is the tenant's.
	Database *database.Server
	// ClusterID tells this cluster from others that share the database.
	ClusterID string
	// Image is the runtime's container image where a tenant asks for no other.
	Image string
	// Shard says which tenants are this operator's.
	Shard shard.Shard
	// MaxRollouts is how many tenants' pods may be replaced at once because Image has become another one; 0 is any number.
	MaxRollouts int
	// AllowLoopback lets tenants reach loopback addresses.
	AllowLoopback bool

	statuses condition.Statuses
	// turns is made by rollouts.
	turns     *turns
	makeTurns sync.Once
	// hostnames are the host names that tenants were given.
	hostnames claims
	// certificates, routes and listenerSets watch what cert-manager and the Gateway API define.
	certificates, routes, listenerSets optionalWatch
	// verified holds, by tenant, the digest of the database URL whose password is known to be right.
	verified sync.Map
	// untried holds, by tenant, when the password is to be tried that is not known to be right.
	untried sync.Map
	// made holds, by tenant, the madeLogin that is not known to be in a Secret yet.
	made sync.Map
	// released holds the tenants whose Deployment's number of pods is known to be nobody's or an autoscaler's.
	released sync.Map
}

// Reconcile brings one tenant to what its spec asks for.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := r.reconcileTenant(ctx, request.NamespacedName)
	if ctx.Err() != nil {
		return result, err
	}
	return result, errors.Join(err, r.rollouts().settle(ctx))
}

func (r *Reconciler) reconcileTenant(ctx context.Context, name types.NamespacedName) (reconcile.Result, error) {
	tenant := &v1alpha1.EnsTenant{}
	if err := r.statuses.Get(ctx, r.Client, r.Live, name, tenant); err != nil {
		if apierrors.IsNotFound(err) {
			r.rollouts().leave(name)
			unmeasure(name)
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !r.Shard.Has(tenant) {
		// What is remembered of one that was ours is soon wrong.
		r.forget(tenant)
		return reconcile.Result{}, nil
	}
	if !tenant.DeletionTimestamp.IsZero() {
		r.rollouts().leave(name)
		return r.finalize(ctx, tenant)
	}
	if paused(tenant) {
		r.rollouts().leave(name)
		count(name, "")
		return reconcile.Result{}, r.reportPause(ctx, tenant)
	}
	p := r.newPass(tenant)
	defer func() { p.closeDatabase() }()
	err := p.provision(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return reconcile.Result{}, ctx.Err() // the operator stops; what was found while it did says nothing
	}
	statusErr := p.writeStatus(ctx, err == nil)
	if err := errors.Join(err, statusErr, p.retry); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.again}, nil
}

// A pass is one look at one tenant, with everything that was read and found in it.
type pass struct {
	*Reconciler
	tenant   *v1alpha1.EnsTenant
	identity migrations.Identity
	names    database.Names
	settings v1alpha1.EffectiveSettings
	findings findings

	// references are what the spec names, as far as it can be used, and what has to stay although it is not; they are
	// set by resolveReferences, renderable says whether a configuration may be rendered from them.
	references desired.References
	renderable bool

	// Database is where the tenant's data are: the one that the tenants share, or its own, set by inspectDatabase and
	// closed after the pass.
	Database      *database.Server
	closeDatabase func()

	// state is what there is in the database, set by inspectDatabase; nil if the database did not tell.
	state *database.State
	// kept are the tenant's keys and API token, set by ensureSecrets.
	kept keptSecrets
	// replacedImage is the image of the pods that are being replaced because the operator's is another one, set by
	// chooseImage.
	replacedImage string
	// authorities are what the database is verified against, in PEM, nil for the system's; set by inspectDatabase.
	authorities []byte
	// authority is what issued the certificate, in PEM, nil if that is not known; set by judgeCertificate.
	authority []byte
	// login is the connection string of the runtime, set by ensureDatabase.
	login login

	// retry is an error that is known to the findings and tried again after a while.
	retry error
	// again is when to look again although nothing changes, 0 for never.
	again time.Duration
}

func (r *Reconciler) newPass(tenant *v1alpha1.EnsTenant) *pass {
	identity := r.identityOf(tenant)
	return &pass{
		Reconciler: r,
		tenant:     tenant,
		identity:   identity,
		names:      database.NamesFor(identity),
		settings:   desired.Settings(tenant, r.Image),
		findings:   findings{before: tenant.DeepCopy()},

		Database:      r.Database,
		closeDatabase: func() {},
	}
}

func (r *Reconciler) identityOf(tenant *v1alpha1.EnsTenant) migrations.Identity {
	return migrations.Identity{ClusterID: r.ClusterID, Namespace: tenant.Namespace, Name: tenant.Name}
}

// provision goes through the phases. Its error is of the API server and says nothing about the tenant; what does is
// among the findings.
func (p *pass) provision(ctx context.Context) error {
	for _, phase := range []func(context.Context) error{
		p.resolveReferences,
		p.judgeHostnames,
		p.inspectDatabase,
		p.ensureFinalizer,
		p.ensureSecrets,
		p.ensureDatabase,
		p.observeToken,
		p.observePassword,
		p.observeKeys,
		p.ensureCertificate,
		p.ensureWorkload,
		p.ensureExposure,
		p.observeWorkload,
		p.dropKeys,
	} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain asks for another pass after d at the latest; not positive is no wish.
func (p *pass) lookAgain(d time.Duration) {
	if d > 0 && (p.again == 0 || d < p.again) {
		p.again = d
	}
}

// forget drops what is remembered of a tenant that is gone.
func (r *Reconciler) forget(tenant *v1alpha1.EnsTenant) {
	r.rollouts().leave(client.ObjectKeyFromObject(tenant))
	unmeasure(client.ObjectKeyFromObject(tenant))
	r.hostnames.forget(tenant.UID)
	r.verified.Delete(client.ObjectKeyFromObject(tenant))
	r.untried.Delete(client.ObjectKeyFromObject(tenant))
	r.made.Delete(client.ObjectKeyFromObject(tenant))
	r.released.Delete(client.ObjectKeyFromObject(tenant))
	names := []string{
		desired.RuntimeName(tenant), desired.BoxerName(tenant), desired.CertificateName(tenant), desired.WorkloadName(tenant),
		desired.PublicServiceName(tenant), desired.CAName(tenant),
	}
	for _, name := range names {
		r.Applier.Forget(types.NamespacedName{Namespace: tenant.Namespace, Name: name})
	}
}
