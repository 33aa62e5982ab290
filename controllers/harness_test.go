package controllers_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

const (
	// patience is how long a test waits for the operator, which takes a fraction of a second on an idle machine.
	patience = 60 * time.Second
	poll     = 20 * time.Millisecond

	runtimeImage = "registry.example.com/ens-runtime:test"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(logFile(), nil)))
	testenv.Main(m)
}

// logFile is where the operator's log goes: nowhere, or to the file that TEST_LOG names.
func logFile() io.Writer {
	name := os.Getenv("TEST_LOG")
	if name == "" {
		return io.Discard
	}
	file, err := os.Create(name)
	if err != nil {
		panic(err)
	}
	return file
}

// operator is a running operator that the tests of this package share; each test has a namespace of its own.
type operator struct {
	kube     *testenv.KubeServer
	postgres *testenv.Database
	clients  client.WithWatch
	writes   *writeCounter
}

// shared is the operator that tests have in common. It runs while any of them does, and stops before the API server,
// which would otherwise wait for its watches to end.
var shared struct {
	sync.Mutex
	users    int
	operator *operator
	stop     func()
	postgres *testenv.Database
}

func shareOperator(t *testing.T) *operator {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.users == 0 {
		startShared(t)
	}
	shared.users++
	t.Cleanup(func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.users--; shared.users == 0 {
			shared.stop()
		}
	})
	return shared.operator
}

func startShared(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var err error
	if shared.postgres == nil {
		shared.postgres, err = testenv.Postgres(t).CreateDatabase(ctx, "operator_tests")
	}
	var done <-chan struct{}
	if err == nil {
		options := controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID}
		shared.operator, done, err = newOperator(ctx, testenv.Kube(t), shared.postgres, nil, options)
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	shared.stop = func() {
		cancel()
		<-done
	}
}

const clusterID = "operator-tests"

// newOperator starts an operator with the rights that config/rbac gives it; it has stopped when the channel is closed.
func newOperator(ctx context.Context, kube *testenv.KubeServer, postgres *testenv.Database, namespaces []string, options controllers.Options) (*operator, <-chan struct{}, error) {
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, nil, err
	}
	if err := apiextensions.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	clients, err := client.NewWithWatch(kube.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return nil, nil, err
	}
	config, err := limitedUser(ctx, kube, clients)
	if err != nil {
		return nil, nil, err
	}
	o := &operator{kube: kube, postgres: postgres, clients: clients, writes: &writeCounter{counts: map[string][]string{}}}
	config.Wrap(o.writes.wrap)
	if options.Database == nil {
		options.Database, err = database.Open(ctx, database.Options{
			URL: func() (secret.Value, error) { return secret.FromString(postgres.URL), nil },
		})
		if err != nil {
			return nil, nil, err
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:     scheme,
		Cache:      controllers.CacheOptions(namespaces),
		Metrics:    metrics.Options{BindAddress: "0"},
		Controller: crconfig.Controller{SkipNameValidation: new(true)}, // there may be several in one process
	})
	if err != nil {
		return nil, nil, err
	}
	if err := controllers.Setup(ctx, mgr, namespaces, options); err != nil {
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = mgr.Start(ctx)
		options.Database.Close()
	}()
	return o, done, nil
}

// limitedUser is a user with the operator's role and no other rights.
func limitedUser(ctx context.Context, kube *testenv.KubeServer, admin client.Client) (*rest.Config, error) {
	for _, object := range readManifests("config", "rbac", "role.yaml") {
		if err := admin.Create(ctx, object); client.IgnoreAlreadyExists(err) != nil {
			return nil, err
		}
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "operator-under-test"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "ens-operator"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "operator"}},
	}
	if err := admin.Create(ctx, binding); client.IgnoreAlreadyExists(err) != nil {
		return nil, err
	}
	return kube.AddUser("operator")
}

// writeCounter notes the requests of the operator that change something, by namespace, and the paths that it read.
type writeCounter struct {
	mutex  sync.Mutex
	counts map[string][]string
	paths  []string
}

func (w *writeCounter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		// Events follow changes of a status, which are counted, and are sent when it suits the recorder.
		event := strings.HasSuffix(r.URL.Path, "/events")
		if _, rest, found := strings.Cut(r.URL.Path, "/namespaces/"); found && r.Method != http.MethodGet && !event {
			namespace, _, _ := strings.Cut(rest, "/")
			w.mutex.Lock()
			w.counts[namespace] = append(w.counts[namespace], r.Method+" "+r.URL.Path)
			w.mutex.Unlock()
		}
		if r.Method == http.MethodGet {
			w.mutex.Lock()
			w.paths = append(w.paths, r.URL.Path)
			w.mutex.Unlock()
		}
		return next.RoundTrip(r)
	})
}

// hasRead reports whether an object of a namespace was read past the cache.
func (w *writeCounter) hasRead(namespace, resource, name string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return slices.ContainsFunc(w.paths, func(path string) bool {
		return strings.HasSuffix(path, "/namespaces/"+namespace+"/"+resource+"/"+name)
	})
}

// of returns what was written in a namespace so far.
func (w *writeCounter) of(namespace string) []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return append([]string(nil), w.counts[namespace]...)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// stage is a test's namespace with the shared operator at work in it.
type stage struct {
	*operator
	t         *testing.T
	namespace string
	// restart has another operator take over, where the stage has one of its own.
	restart func(changes ...func(*controllers.Options))
	// labels are those by which the operator takes an object; none if it takes all.
	labels map[string]string
	// certificate is that of hostname, made when it is needed.
	certificate map[string][]byte
}

// sampleHostname is the name of the samples' tenant.
const sampleHostname = "ens.example.com"

// hostname is the name of the stage's tenant: no two tenants of a cluster may have the same.
func (s *stage) hostname() string { return s.namespace + ".example.com" }

// localize gives the samples' tenant the stage's host name, and its certificate.
func (s *stage) localize(object *unstructured.Unstructured) {
	s.t.Helper()
	if name, _, _ := unstructured.NestedString(object.Object, "spec", "hostname"); name == sampleHostname {
		_ = unstructured.SetNestedField(object.Object, s.hostname(), "spec", "hostname")
	}
	const certificate = "acme-server-certificate"
	if object.GetName() != certificate || !reflect.DeepEqual(object.Object["stringData"], sample(s.t, certificate).Object["stringData"]) {
		return
	}
	if s.certificate == nil {
		const years = 5 // some tests turn the clock by months
		s.certificate = issue(s.t, time.Now().AddDate(years, 0, 0), s.hostname())
	}
	for key, value := range s.certificate {
		_ = unstructured.SetNestedField(object.Object, string(value), "stringData", key)
	}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	o := shareOperator(t)
	return &stage{operator: o, t: t, namespace: o.kube.NewNamespace(t)}
}

// apply applies an object as `kubectl apply --server-side` does.
func (s *stage) apply(object *unstructured.Unstructured) {
	s.t.Helper()
	object = object.DeepCopy()
	object.SetNamespace(s.namespace)
	s.localize(object)
	err := s.clients.Apply(s.t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("kubectl"))
	if err != nil {
		s.t.Fatalf("applying %s %s: %v", object.GetKind(), object.GetName(), err)
	}
}

// applySamples applies those of the samples that want says; nil is all.
func (s *stage) applySamples(want func(*unstructured.Unstructured) bool) {
	s.t.Helper()
	for _, object := range samples(s.t) {
		if want == nil || want(object) {
			s.apply(object)
		}
	}
}

// acme is the tenant of the samples.
func (s *stage) acme() *api.EnsTenant {
	return &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "acme"}}
}

// provisioned applies the samples, changed, and waits until the tenant is provisioned.
func (s *stage) provisioned(change ...func(*unstructured.Unstructured)) *api.EnsTenant {
	s.t.Helper()
	for _, object := range samples(s.t) {
		for _, c := range change {
			c(object)
		}
		s.apply(object)
	}
	tenant := s.acme()
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	return tenant
}

func (s *stage) identity() migrations.Identity {
	return migrations.Identity{ClusterID: clusterID, Namespace: s.namespace, Name: "acme"}
}

func (s *stage) names() database.Names { return database.NamesFor(s.identity()) }

// get reads an object; a missing one fails the test.
func (s *stage) get(object client.Object) {
	s.t.Helper()
	if err := s.clients.Get(s.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		s.t.Fatal(err)
	}
}

// at is an object of the stage by name.
func at[T client.Object](s *stage, object T, name string) T {
	object.SetNamespace(s.namespace)
	object.SetName(name)
	return object
}

// fetch reads an object of the stage by name.
func fetch[T client.Object](s *stage, object T, name string) T {
	s.t.Helper()
	s.get(at(s, object, name))
	return object
}

// create makes an object.
func (s *stage) create(object client.Object) {
	s.t.Helper()
	object.SetNamespace(s.namespace)
	if err := s.clients.Create(s.t.Context(), object); err != nil {
		s.t.Fatal(err)
	}
}

// change reads an object, changes it and writes it back, until nobody else has written it in between.
func change[T client.Object](s *stage, object T, name string, how func(T)) {
	s.t.Helper()
	s.eventually("changing "+name, func() error {
		s.get(at(s, object, name))
		how(object)
		return s.clients.Update(s.t.Context(), object)
	})
}

// remove deletes an object.
func (s *stage) remove(object client.Object, name string) {
	s.t.Helper()
	if err := s.clients.Delete(s.t.Context(), at(s, object, name)); err != nil {
		s.t.Fatal(err)
	}
}

// eventually repeats check until it gives no error.
func (s *stage) eventually(what string, check func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}

// waitCondition waits for a condition in the object's latest generation, and for a reason unless that is empty. It
// returns the condition; object is then as it was read.
func (s *stage) waitCondition(object client.Object, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	s.t.Helper()
	var found metav1.Condition
	s.eventually(fmt.Sprintf("waiting for %s=%s %s of %T %s", kind, status, reason, object, object.GetName()), func() error {
		if err := s.clients.Get(s.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		conditions, observed := conditionsOf(object)
		current := meta.FindStatusCondition(conditions, kind)
		if current == nil || observed != object.GetGeneration() || current.ObservedGeneration != object.GetGeneration() ||
			current.Status != status || reason != "" && current.Reason != reason {
			return fmt.Errorf("generation %d, observed %d: %v", object.GetGeneration(), observed, conditions)
		}
		found = *current
		return nil
	})
	return found
}

func conditionsOf(object client.Object) ([]metav1.Condition, int64) {
	switch object := object.(type) {
	case *api.EnsTenant:
		return object.Status.Conditions, object.Status.ObservedGeneration
	case *api.EwsEndpoint:
		return object.Status.Conditions, object.Status.ObservedGeneration
	case *api.PushProvider:
		return object.Status.Conditions, object.Status.ObservedGeneration
	}
	panic(fmt.Sprintf("%T has no conditions", object))
}

// connect opens a connection to Postgres.
func (s *stage) connect(url string) *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) })
	return conn
}

// schemaExists asks Postgres itself.
func (s *stage) schemaExists() bool {
	s.t.Helper()
	var exists bool
	err := s.connect(s.postgres.SuperuserURL).QueryRow(s.t.Context(), "SELECT to_regnamespace($1) IS NOT NULL", s.names().Schema).Scan(&exists)
	if err != nil {
		s.t.Fatal(err)
	}
	return exists
}
