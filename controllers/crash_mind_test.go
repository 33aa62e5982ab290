package controllers_test

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	crconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/enstenant"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// mind is a process of the operator as far as the tenants of a namespace are concerned: the reconciler with nothing in its
// memory, a way to the API server, and one to the database. Reads are never late, so that the same steps come in the same
// order each time.
type mind struct {
	*fuse
	reconciler *enstenant.Reconciler
	end        func()
}

// begin starts a process.
func (c *crashStage) begin(f *fuse) *mind {
	t := c.t
	t.Helper()
	config := rest.CopyConfig(c.config)
	config.Wrap(f.wrap)
	plain, err := client.NewWithWatch(config, client.Options{Scheme: c.clients.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	clients := interceptor.NewClient(plain, interceptor.Funcs{List: listCached(c.namespace)})
	db, closeDB := openThroughProxy(t, f, c.postgres.URL)
	if c.own != nil {
		c.own.proxy.use(f)
	}
	m := &mind{
		fuse: f,
		reconciler: &enstenant.Reconciler{
			Client: clients, Live: plain, Foreign: foreign.Reader{Live: plain},
			Applier:  &apply.Applier{Client: clients, Live: plain},
			Recorder: &events.FakeRecorder{}, Clock: clock.PassiveClock(c.clock),
			Database: db, ClusterID: clusterID, Image: c.image, MaxRollouts: crashRollouts, AllowLoopback: true,
		},
		end: closeDB,
	}
	if c.certified {
		c.register(config, m.reconciler)
	}
	return m
}

// register has the reconciler find out which kinds the cluster knows, as it does when an operator starts. The manager is not
// started: who is to be looked at is decided by workAmong.
func (c *crashStage) register(config *rest.Config, reconciler *enstenant.Reconciler) {
	c.t.Helper()
	options := controllers.CacheOptions([]string{c.namespace})
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: c.clients.Scheme(), Cache: options, Metrics: metrics.Options{BindAddress: "0"},
		Controller: crconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	options.Scheme, options.Mapper, options.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	others, err := foreign.NewCache(config, options, labels.Everything())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := reconciler.Register(c.t.Context(), mgr, others, controller.Options{}); err != nil {
		c.t.Fatal(err)
	}
}

// listCached answers as the manager's cache of a namespace does: it holds nothing of others, which belong to other rounds of
// the stories, and knows tenants by their host names.
func listCached(namespace string) func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
	return func(ctx context.Context, plain client.WithWatch, list client.ObjectList, given ...client.ListOption) error {
		var options client.ListOptions
		options.ApplyOptions(given)
		hostname, indexed := "", false
		if options.FieldSelector != nil {
			hostname, indexed = options.FieldSelector.RequiresExactMatch("spec.hostnames")
			options.FieldSelector = fields.Everything()
		}
		options.Namespace = namespace
		if err := plain.List(ctx, list, &options); err != nil || !indexed {
			return err
		}
		var named []runtime.Object
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			tenant := item.(*api.EnsTenant)
			names := slices.Concat(tenant.Spec.Hostnames, tenant.Status.AcceptedHostnames, []api.Hostname{tenant.Spec.Hostname})
			if slices.Contains(names, api.Hostname(hostname)) {
				named = append(named, item)
			}
			return nil
		})
		return meta.SetList(list, named)
	}
}

// maxPasses is more than any story takes: each fault may cost some.
const maxPasses = 60

// work reconciles one tenant until nothing is left to do.
func (m *mind) work(t *testing.T, tenant *api.EnsTenant) reconcile.Result {
	t.Helper()
	return m.workAmong(t, nil, client.ObjectKeyFromObject(tenant))
}

// workAmong reconciles tenants as a manager would: each one first, and then those that were changed, failed, or are woken, until
// nothing is left to do or the process is dead. Whenever nothing is left, around may do what others do in a cluster, and
// returns whom that wakes. It returns what the last look asks for.
func (m *mind) workAmong(t *testing.T, around func() []types.NamespacedName, tenants ...types.NamespacedName) reconcile.Result {
	t.Helper()
	queue := slices.Clone(tenants)
	add := func(names ...types.NamespacedName) {
		for _, name := range names {
			if !slices.Contains(queue, name) {
				queue = append(queue, name)
			}
		}
	}
	var result reconcile.Result
	var err error
	for range maxPasses {
		if len(queue) == 0 && around != nil {
			add(around()...)
		}
		if len(queue) == 0 || !m.alive() {
			return result
		}
		next := queue[0]
		queue = queue[1:]
		before := len(m.made())
		var woken []types.NamespacedName
		result, woken, err = m.look(t, next)
		if err != nil || len(m.made()) != before {
			add(next)
		}
		add(woken...)
	}
	t.Fatalf("it comes to no end (%v): %s", err, strings.Join(m.made(), "\n"))
	return reconcile.Result{}
}

// look reconciles one tenant, and tells who is woken by that.
func (m *mind) look(t *testing.T, tenant types.NamespacedName) (result reconcile.Result, woken []types.NamespacedName, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = m.reconciler.Reconcile(t.Context(), reconcile.Request{NamespacedName: tenant})
	}()
	for {
		select {
		case waker := <-m.reconciler.Woken():
			woken = append(woken, client.ObjectKeyFromObject(waker.Object))
		case <-done:
			return result, woken, err
		}
	}
}

// openThroughProxy opens the database by way of the fuse. The tenant's runtime is told the database's own address.
func openThroughProxy(t *testing.T, f *fuse, direct string) (*database.Server, func()) {
	t.Helper()
	location, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(location.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	host := location.Hostname()
	proxy := startDatabaseProxy(t, f, location.Host)
	location.Host = proxy.address
	db, err := database.Open(t.Context(), database.Options{
		URL:         func() (secret.Value, error) { return secret.FromString(location.String()), nil },
		RuntimeHost: host, RuntimePort: uint16(port),
	})
	if err != nil {
		t.Fatal(err)
	}
	return db, func() {
		proxy.close()
		db.Close()
	}
}
