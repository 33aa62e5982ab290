package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// withDeletionPolicy sets the policy of the samples' tenant.
func withDeletionPolicy(policy api.DeletionPolicy) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, string(policy), "spec", "deletionPolicy")
		}
	}
}

// namespaceController does what Kubernetes' controller of that name does with a namespace that is being deleted, and which
// does not run here: it deletes everything in it, of all kinds at once, until nothing is left, and lets the namespace go.
func (s *stage) namespaceController() {
	s.t.Helper()
	config := s.kube.Config()
	config.WarningHandler = rest.NoWarnings{} // about kinds that are out of use
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	everything, err := metadata.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	lists, err := finder.ServerPreferredNamespacedResources()
	if err != nil {
		s.t.Fatal(err)
	}
	kinds, err := discovery.GroupVersionResources(discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "deletecollection"}}, lists))
	if err != nil {
		s.t.Fatal(err)
	}
	s.eventually("emptying the namespace", func() error {
		var left []string
		for kind := range kinds {
			objects := everything.Resource(kind).Namespace(s.namespace)
			if err := objects.DeleteCollection(s.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
				return err
			}
			found, err := objects.List(s.t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, item := range found.Items {
				left = append(left, fmt.Sprintf("%s %s %v", kind.Resource, item.Name, item.Finalizers))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("these are left: %v", left)
		}
		return nil
	})
}

func TestNamespaceIsDeletedWithItsTenants(t *testing.T) {
	t.Parallel()
	for _, policy := range []api.DeletionPolicy{api.DeletionDelete, api.DeletionRetain} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.provisioned(withDeletionPolicy(policy))
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
			if err := s.clients.Delete(t.Context(), namespace); err != nil {
				t.Fatal(err)
			}
			s.namespaceController()
			s.get(namespace)
			namespace.Spec.Finalizers = nil
			if err := s.clients.SubResource("finalize").Update(t.Context(), namespace); err != nil {
				t.Fatal(err)
			}
			s.gone(&corev1.Namespace{}, s.namespace)
			if s.schemaExists() != (policy == api.DeletionRetain) {
				t.Errorf("the schema exists: %t", s.schemaExists())
			}
		})
	}
}

// wayOut is what docs/uninstall.md says to do about a tenant whose operator does not come back.
var wayOut = []string{"patch", "enstenant", "acme", "--type=merge", "--patch", `{"metadata":{"finalizers":null}}`}

func TestTheWayOutIsInTheDocs(t *testing.T) {
	t.Parallel()
	root, err := testenv.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "uninstall.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := "patch enstenant acme --type=merge --patch '" + wayOut[len(wayOut)-1] + "'"
	if !strings.Contains(string(text), command) {
		t.Errorf("it does not say %s", command)
	}
	for _, statement := range dropByHand("ens_team_a_acme_0123456789") {
		if !strings.Contains(string(text), statement) {
			t.Errorf("it does not say %s", statement)
		}
	}
}

// dropByHand is what docs/uninstall.md says to do about what such a tenant leaves in the database.
func dropByHand(schema string) []string {
	return []string{
		"DROP SCHEMA " + schema + " CASCADE;",
		"DROP ROLE " + schema + "_a, " + schema + "_b, " + schema + ";",
	}
}

// lonelyStage is a stage with an API server of its own, where an operator comes and goes.
type lonelyStage struct {
	*stage
	kubeconfig string
}

func newLonelyStage(t *testing.T) *lonelyStage {
	t.Helper()
	kube, err := testenv.StartKube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &lonelyStage{
		stage:      &stage{operator: &operator{kube: kube, postgres: testenv.Postgres(t).NewDatabase(t)}, t: t, namespace: kube.NewNamespace(t)},
		kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"),
	}
	if err := kube.WriteKubeconfig(s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return s
}

// operate starts an operator, which stops when the function is called.
func (s *lonelyStage) operate() (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	o, done, err := newOperator(ctx, s.kube, s.postgres, nil, controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID})
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	s.operator = o
	stop = func() {
		cancel()
		<-done
	}
	s.t.Cleanup(stop)
	return stop
}

func (s *lonelyStage) kubectl(arguments ...string) {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), s.kube.Kubectl(), append([]string{"--kubeconfig", s.kubeconfig, "--namespace", s.namespace}, arguments...)...)
	if output, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("kubectl %v: %v\n%s", arguments, err, output)
	}
}

// terminating sees to it that the tenant waits for an operator.
func (s *lonelyStage) terminating() {
	s.t.Helper()
	if tenant := s.acme(); !s.there(tenant, "acme") || tenant.DeletionTimestamp == nil {
		s.t.Fatal("nothing waits for the operator, so nothing is proved")
	}
}

func TestTenantsThatAreDeletedAfterTheOperator(t *testing.T) {
	t.Parallel()
	s := newLonelyStage(t)
	stop := s.operate()
	s.provisioned(withDeletionPolicy(api.DeletionDelete))
	stop()
	s.remove(&api.EnsTenant{}, "acme")
	s.terminating()

	// The operator comes back and finishes.
	stop = s.operate()
	s.gone(&api.EnsTenant{}, "acme")
	if s.schemaExists() || s.there(&corev1.Secret{}, "acme-keys") {
		t.Error("schema or keys are left")
	}

	// It does not come back.
	s.collectGarbage()
	s.provisioned(withDeletionPolicy(api.DeletionDelete))
	stop()
	s.remove(&api.EnsTenant{}, "acme")
	s.terminating()
	s.kubectl(wayOut...)
	s.gone(&api.EnsTenant{}, "acme")
	owner := s.connect(s.postgres.URL)
	for _, statement := range dropByHand(s.names().Schema) {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if s.schemaExists() || len(s.passwords()) > 0 {
		t.Error("schema or roles are left")
	}
	for _, child := range children(s.stage) {
		kept := strings.HasSuffix(child.GetName(), "-keys") || strings.HasSuffix(child.GetName(), "-api-token")
		if s.get(child); kept != (metav1.GetControllerOf(child) == nil) {
			t.Errorf("%T %s has the owners %v: the docs say that the Secrets with keys and token stay, and nothing else", child, child.GetName(), child.GetOwnerReferences())
		}
	}
}

func TestCRDsAreDeletedWhileThereAreTenants(t *testing.T) {
	t.Parallel()
	s := newLonelyStage(t)
	stop := s.operate()
	s.provisioned(withDeletionPolicy(api.DeletionDelete))
	crds := func() []client.Object {
		t.Helper()
		var found apiextensions.CustomResourceDefinitionList
		if err := s.clients.List(t.Context(), &found); err != nil {
			t.Fatal(err)
		}
		var ours []client.Object
		for i := range found.Items {
			if found.Items[i].Spec.Group == api.GroupName {
				ours = append(ours, &found.Items[i])
			}
		}
		return ours
	}
	remove := func() {
		t.Helper()
		for _, crd := range crds() {
			if err := s.clients.Delete(t.Context(), crd); err != nil {
				t.Fatal(err)
			}
		}
	}
	noneLeft := func() error {
		if left := crds(); len(left) > 0 {
			return fmt.Errorf("%d CRDs are left", len(left))
		}
		return nil
	}
	if len(crds()) != 3 {
		t.Fatalf("there are %d CRDs", len(crds()))
	}
	remove()
	s.eventually("waiting for the end of the CRDs", noneLeft)
	if s.schemaExists() || s.there(&corev1.Secret{}, "acme-keys") {
		t.Error("schema or keys are left")
	}

	// They come back, and the operator, which was there all the time, works as before.
	root, err := testenv.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	install := func() {
		t.Helper()
		s.collectGarbage()
		s.kubectl("apply", "--server-side", "-k", filepath.Join(root, "config", "crd"))
		s.kubectl("wait", "--for=condition=Established", "crd", "--all")
	}
	install()
	s.provisioned()

	// Without the operator they wait for the tenants, and these for it. The way out is the same.
	stop()
	remove()
	s.eventually("waiting until the tenant is being deleted", func() error {
		tenant := s.acme()
		if err := s.clients.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil || tenant.DeletionTimestamp == nil {
			return errors.Join(err, errNotYet("the tenant is not being deleted"))
		}
		return nil
	})
	s.kubectl(wayOut...)
	s.eventually("waiting for the end of the CRDs", noneLeft)
}

// A node that is gone never says that its pods have ended.
func TestPodsThatDoNotEndAreGivenUp(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	tenant := s.provisioned(withDeletionPolicy(api.DeletionDelete))
	s.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "acme-0", Labels: desired.SelectorLabels(tenant)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "runtime", Image: runtimeImage}}},
	})
	s.remove(&api.EnsTenant{}, "acme")
	found := s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, api.ReasonDeleting)
	if !strings.Contains(found.Message, "pods") || !s.schemaExists() {
		t.Errorf("it does not wait for the pods: %s", found.Message)
	}
	clock.SetTime(clock.Now().Add(time.Hour))
	s.gone(&api.EnsTenant{}, "acme")
	if s.schemaExists() {
		t.Error("the schema is still there")
	}
}
