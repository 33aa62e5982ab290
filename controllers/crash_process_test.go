package controllers_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/enstenant"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// errCrashed is all that a process hears that a fuse has ended.
var errCrashed = errors.New("the process has crashed")

// verdict is what becomes of a change that a process wants to make.
type verdict int

const (
	// passes is for a change that is made as usual.
	passes verdict = iota
	// loses is for one that is made, and whose answer is lost on the way back.
	loses
	// refuses is for one that is not made, because the process has died just before.
	refuses
)

// manner is what happens at the change after the last one that a fuse lets through.
type manner int

const (
	// never lets everything through.
	never manner = iota
	// dies ends the process: nothing comes through any more, neither changes nor questions.
	dies
	// stumbles loses the answer to one change; the process lives on.
	stumbles
)

// A fuse counts a process's changes, those of the API server's objects and those of the database together, in the order in
// which they leave, and does something at one of them. What is changed in a transaction counts once, when it is committed.
type fuse struct {
	how   manner
	after int

	mutex   sync.Mutex
	changes []string
	dead    bool
}

// change asks what becomes of the next change.
func (f *fuse) change(what string) verdict {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.dead {
		return refuses
	}
	if f.how == dies && len(f.changes) == f.after {
		f.dead = true
		return refuses
	}
	f.changes = append(f.changes, what)
	if f.how == stumbles && len(f.changes) == f.after+1 {
		return loses
	}
	return passes
}

func (f *fuse) alive() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return !f.dead
}

// made are the changes so far.
func (f *fuse) made() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return append([]string(nil), f.changes...)
}

// hit reports whether the fuse has done what it is there for.
func (f *fuse) hit() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.dead || f.how == stumbles && len(f.changes) > f.after
}

// wrap counts what changes something at the API server.
func (f *fuse) wrap(next http.RoundTripper) http.RoundTripper {
	drop := func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errCrashed
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			if !f.alive() {
				return drop(r)
			}
			return next.RoundTrip(r)
		}
		switch f.change(r.Method + " " + r.URL.Path) {
		case refuses:
			return drop(r)
		case loses:
			answer, err := next.RoundTrip(r)
			if err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			return nil, errCrashed
		}
		return next.RoundTrip(r)
	})
}

// mind is a process of the operator as far as one tenant is concerned: the reconciler with nothing in its memory, a way to
// the API server, and one to the database. Reads are never late, so that the same steps come in the same order each time.
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
	clients := interceptor.NewClient(plain, interceptor.Funcs{List: listIndexed(c.namespace)})
	db, closeDB := openThroughProxy(t, f, c.postgres.URL)
	return &mind{
		fuse: f,
		reconciler: &enstenant.Reconciler{
			Client: clients, Live: plain, Foreign: foreign.Reader{Live: plain},
			Applier:  &apply.Applier{Client: clients, Live: plain},
			Recorder: &events.FakeRecorder{}, Clock: clock.PassiveClock(c.clock),
			Database: db, ClusterID: clusterID, Image: runtimeImage,
		},
		end: closeDB,
	}
}

// listIndexed answers questions by an index, of which the API server knows nothing, as the manager's cache does. Only
// tenants of a host name are asked for, and each stage has one tenant and a name of its own.
func listIndexed(namespace string) func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
	return func(ctx context.Context, plain client.WithWatch, list client.ObjectList, given ...client.ListOption) error {
		var options client.ListOptions
		options.ApplyOptions(given)
		if options.FieldSelector == nil || options.FieldSelector.Empty() {
			return plain.List(ctx, list, given...)
		}
		options.FieldSelector, options.Namespace = fields.Everything(), namespace
		return plain.List(ctx, list, &options)
	}
}

// maxPasses is more than any story takes: each fault may cost some.
const maxPasses = 30

// work reconciles the tenant until that changes nothing any more, or until the process is dead. It returns what the last look
// asks for.
func (m *mind) work(t *testing.T, tenant *api.EnsTenant) reconcile.Result {
	t.Helper()
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(tenant)}
	var err error
	for range maxPasses {
		before := len(m.made())
		var result reconcile.Result
		result, err = m.reconciler.Reconcile(t.Context(), request)
		if !m.alive() || err == nil && len(m.made()) == before {
			return result
		}
	}
	t.Fatalf("it comes to no end (%v): %s", err, strings.Join(m.made(), "\n"))
	return reconcile.Result{}
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
