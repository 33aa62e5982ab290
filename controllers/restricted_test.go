package controllers_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

const podSecurity = "pod-security.kubernetes.io/enforce"

func TestPodsAreAllowedWhereOnlyRestrictedOnesAre(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	s.get(namespace)
	namespace.Labels[podSecurity] = "restricted"
	if err := s.clients.Update(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	template := fetch(s, &appsv1.Deployment{}, "acme").Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "acme-0"}, Spec: template.Spec}
	if err := s.clients.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("refused: %v", err)
	}
	pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = new(true)
	if err := s.clients.Create(t.Context(), pod, client.DryRunAll); err == nil {
		t.Error("a pod that is not restricted is let in, so nothing was proved")
	}
}

// What the README tells to install is accepted by an API server, without a warning.
func TestManifestsCanBeInstalled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	root, err := testenv.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := s.kube.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		// The CRDs are there already, installed by another.
		output, err := exec.CommandContext(t.Context(), s.kube.Kubectl(), "--kubeconfig", kubeconfig,
			"apply", "--server-side", "--force-conflicts", "-k", filepath.Join(root, "config", "default")).CombinedOutput()
		if err != nil || strings.Contains(string(output), "Warning") {
			t.Fatalf("%v\n%s", err, output)
		}
	}
}
