package testenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func clients(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestNamespaceOfATestHoldsObjects(t *testing.T) {
	t.Parallel()
	kube := testenv.Kube(t)
	namespace := kube.NewNamespace(t)
	secrets := clients(t, kube.Config()).CoreV1().Secrets(namespace)
	want := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one"}, StringData: map[string]string{"key": "value"}}
	if _, err := secrets.Create(t.Context(), want, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := secrets.Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Data["key"]) != "value" {
		t.Errorf("the secret reads back as %q", got.Data)
	}
}

func TestServicesGetAddressesFromAWideRange(t *testing.T) {
	t.Parallel()
	kube := testenv.Kube(t)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "far-away"},
		// Inside 10.96.0.0/12 and far outside of the /24 that envtest would use.
		Spec: corev1.ServiceSpec{ClusterIP: "10.111.1.1", Ports: []corev1.ServicePort{{Port: 443}}},
	}
	services := clients(t, kube.Config()).CoreV1().Services(kube.NewNamespace(t))
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Gives the address back, for -count.
	if err := services.Delete(t.Context(), service.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestAddedUserMayDoNothingYet(t *testing.T) {
	t.Parallel()
	kube := testenv.Kube(t)
	config, err := kube.AddUser("somebody", "some-group")
	if err != nil {
		t.Fatal(err)
	}
	_, err = clients(t, config).CoreV1().Secrets(kube.NewNamespace(t)).List(t.Context(), metav1.ListOptions{})
	if !errors.IsForbidden(err) {
		t.Fatalf("listing secrets as a new user: %v, want Forbidden", err)
	}
}

func TestKubeconfigWorksForKubectl(t *testing.T) {
	t.Parallel()
	kube := testenv.Kube(t)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kube.WriteKubeconfig(file); err != nil {
		t.Fatal(err)
	}
	kubectl := exec.CommandContext(t.Context(), kube.Kubectl(), "--kubeconfig", file, "get", "crds", "-o", "name")
	output, err := kubectl.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl: %v\n%s", err, output)
	}
	if want := "certificates.cert-manager.io"; !strings.Contains(string(output), want) {
		t.Errorf("the CRDs are\n%swant %s among them", output, want)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig has mode %v (%v), want 0600", info.Mode(), err)
	}
}
