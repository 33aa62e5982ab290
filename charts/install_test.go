package charts_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/hack/testenv"
)

// The life of a release in a cluster: installed, at work, upgraded, removed, installed again.
func TestReleaseForTheWholeCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.helm("install", release, chart, "--namespace", namespace, "--create-namespace")
	team := c.kube.NewNamespace(t)
	c.applySamples(team)
	o := c.startOperator(namespace, testenv.Postgres(t).NewDatabase(t))
	c.waitProvisioned(o, team)

	t.Run("who is bound to the reader's role reads metrics, and nobody else", func(t *testing.T) { c.in(t).readsMetrics(o) })
	t.Run("an upgrade with no change writes nothing", func(t *testing.T) {
		c := c.in(t)
		before := c.versions()
		for range 2 {
			c.helm("upgrade", release, chart, "--namespace", namespace)
			if after := c.versions(); !maps.Equal(before, after) {
				t.Errorf("before\n%v\nafterwards\n%v", before, after)
			}
		}
	})
	t.Run("users' objects stay their own", func(t *testing.T) { c.in(t).ownTheirObjects(team) })
	t.Run("an upgrade brings the chart's CRDs", func(t *testing.T) {
		c := c.in(t)
		next := filepath.Join(t.TempDir(), chart)
		if err := os.CopyFS(next, os.DirFS(chart)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(next, "files", "crds", "ens-operator.io_enstenants.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const shortName = "    - enst\n"
		if !strings.Contains(string(text), shortName) {
			t.Fatal("the CRD has another short name, so nothing would be proved")
		}
		text = []byte(strings.Replace(string(text), shortName, "    - nextenst\n", 1))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.helm("upgrade", release, next, "--namespace", namespace)
		crd := &apiextensions.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "enstenants.ens-operator.io"}}
		c.get(crd)
		if !slices.Equal(crd.Spec.Names.ShortNames, []string{"nextenst"}) {
			t.Errorf("the CRD has the short names %v", crd.Spec.Names.ShortNames)
		}
	})

	o.stop()
	t.Run("the CRDs and tenants outlive the release, and the next takes the CRDs over", func(t *testing.T) {
		c := c.in(t)
		tenant := &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "acme"}}
		c.get(tenant)
		uid := tenant.UID
		c.helm("uninstall", release, "--namespace", namespace)
		deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ens-operator"}}
		if err := c.clients.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); !apierrors.IsNotFound(err) {
			t.Errorf("the operator's Deployment is still there (%v)", err)
		}
		c.get(tenant)
		if tenant.UID != uid || tenant.DeletionTimestamp != nil {
			t.Error("the tenant was deleted")
		}
		c.helm("install", release, chart, "--namespace", namespace)
		c.get(deployment)
		c.helm("uninstall", release, "--namespace", namespace)
	})
}

// Who administers some namespaces and nothing of the cluster runs an operator for them.
func TestReleaseForSomeNamespaces(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	if _, err := c.kubectl("apply", "--server-side", "-k", filepath.Join("..", "config", "crd")); err != nil {
		t.Fatal(err)
	}
	home, team, other := c.kube.NewNamespace(t), c.kube.NewNamespace(t), c.kube.NewNamespace(t)
	admin := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "admin"}}
	c.create(admin)
	for _, place := range []string{home, team} {
		c.create(&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: place, Name: "admin"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: home, Name: "admin"}},
		})
	}
	values := fmt.Sprintf("rbac: {scope: namespace, namespaces: [%s]}\nclusterID: charts-test\nmetrics: {secure: false}\n", team)
	kubeconfig := c.kubeconfigOf(home, "admin")
	if _, err := helmWith(t, values, "install", release, chart, "--namespace", home, "--kubeconfig", kubeconfig, "--values", "-"); err == nil || !strings.Contains(err.Error(), "customresourcedefinitions") {
		t.Errorf("with the CRDs it should need rights on the cluster: %v", err)
	}
	values += "crds: {enabled: false}\n"
	for _, command := range [][]string{{"install"}, {"upgrade"}} {
		if _, err := helmWith(t, values, append(command, release, chart, "--namespace", home, "--kubeconfig", kubeconfig, "--values", "-")...); err != nil {
			t.Fatal(err)
		}
	}
	c.applySamples(team)
	c.applySamples(other)
	o := c.startOperator(home, testenv.Postgres(t).NewDatabase(t))
	c.waitProvisioned(o, team)
	for line := range strings.Lines(o.Output()) {
		if strings.Contains(line, "forbidden") {
			t.Errorf("it lacks a right: %s", line)
		}
	}
	tenant := &api.EnsTenant{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "acme"}}
	c.get(tenant)
	if tenant.Status.ObservedGeneration == tenant.Generation {
		t.Error("it works in a namespace that is not its own")
	}
	// The program of the chart's test reads these metrics without a token.
	output, err := exec.CommandContext(t.Context(), o.program, "probe", "http://"+o.metrics+"/metrics").CombinedOutput()
	if err != nil || !strings.Contains(string(output), "metrics") {
		t.Errorf("%v: %s", err, output)
	}
	o.stop()
	if _, err := helm(t, "uninstall", release, "--namespace", home, "--kubeconfig", kubeconfig); err != nil {
		t.Error(err)
	}
}

// readsMetrics takes the account and the binding that exist only during `helm test`. The pod cannot run here; it must be
// let in where nothing but restricted pods is.
func (c *cluster) readsMetrics(o *operator) {
	t := c.t
	all := render(t, "")
	for _, object := range all {
		if hook(object) && object.GetKind() != "Pod" {
			c.create(object)
		}
	}
	if _, err := c.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"); err != nil {
		t.Fatal(err)
	}
	if err := c.clients.Create(t.Context(), all["Pod ens-operator-system/ens-operator-test"], client.DryRunAll); err != nil {
		t.Error(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	ask := func(token string) (int, string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+o.metrics+"/metrics", nil)
		if err != nil {
			return 0, "", err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return 0, "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text), err
	}
	c.eventually(o, "reading metrics", func() error {
		// Another token each time, since answers are remembered.
		code, text, err := ask(c.token(namespace, "ens-operator-test"))
		if err == nil && (code != http.StatusOK || !strings.Contains(text, "controller_runtime_reconcile_total")) {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
	if code, _, err := ask(c.token(namespace, "ens-operator")); code != http.StatusForbidden {
		t.Errorf("an account that is not bound gets %d, %v", code, err)
	}
	if code, _, err := ask(""); code != http.StatusUnauthorized {
		t.Errorf("nobody gets %d, %v", code, err)
	}
}

// ownTheirObjects applies the samples once more as their owner does, changed and unchanged, and looks who else owns
// fields of a spec.
func (c *cluster) ownTheirObjects(team string) {
	t := c.t
	c.applySamples(team)
	kinds := []client.ObjectList{&api.EnsTenantList{}, &api.EwsEndpointList{}, &api.PushProviderList{}}
	for _, list := range kinds {
		if err := c.clients.List(t.Context(), list, client.InNamespace(team)); err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil || len(items) == 0 {
			t.Fatalf("%T has %d objects, %v", list, len(items), err)
		}
		for _, item := range items {
			object := item.(client.Object)
			var others []string
			for _, entry := range object.GetManagedFields() {
				if entry.Manager == samplesOwner {
					continue
				}
				others = append(others, entry.Manager)
				if fields := entry.FieldsV1.GetRawString(); strings.Contains(fields, `"f:spec"`) {
					t.Errorf("%s owns %s of %s", entry.Manager, fields, object.GetName())
				}
			}
			if len(others) == 0 {
				t.Errorf("the operator has written nothing to %s, so nothing was proved", object.GetName())
			}
		}
	}
}

// versions are the resource versions of everything that the release has.
func (c *cluster) versions() map[string]string {
	c.t.Helper()
	versions := map[string]string{}
	for name, object := range render(c.t, "") {
		if hook(object) {
			continue
		}
		c.get(object)
		versions[name] = object.GetResourceVersion()
	}
	return versions
}
