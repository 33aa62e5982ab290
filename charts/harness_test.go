// Package charts_test tests the Helm chart: what it renders, what it refuses, and how it behaves on a real API server.
package charts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

const (
	// The names under which the chart renders what config/default has.
	release   = "ens-operator"
	namespace = "ens-operator-system"
	chart     = "ens-operator"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	testenv.Main(m)
}

var helmPath = sync.OnceValues(func() (string, error) { return testenv.Helm(context.Background(), os.Stderr) })

// helm runs helm in the folder charts and returns what it printed.
func helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	return helmWith(t, "", arguments...)
}

// helmWith is helm with something on its standard input.
func helmWith(t *testing.T, input string, arguments ...string) (string, error) {
	t.Helper()
	path, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, arguments...)
	// Nothing of whoever runs the tests: no cluster, no plugins, no repositories.
	home := t.TempDir()
	command.Env = []string{"HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none"), "PATH=" + os.Getenv("PATH")}
	var output, problems bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &output, &problems
	if err := command.Run(); err != nil {
		return output.String(), fmt.Errorf("helm %s: %w\n%s", strings.Join(arguments, " "), err, problems.Bytes())
	}
	if strings.Contains(strings.ToLower(problems.String()), "warning") {
		t.Errorf("helm %s: %s", strings.Join(arguments, " "), problems.Bytes())
	}
	return output.String(), nil
}

// template renders the chart with values as YAML.
func template(t *testing.T, values string) (string, error) {
	t.Helper()
	return helmWith(t, values, "template", release, chart, "--namespace", namespace, "--values", "-")
}

// objects are rendered objects by kind, namespace and name, "Role team-a/ens-operator".
type objects map[string]*unstructured.Unstructured

// render is template with the objects it printed.
func render(t *testing.T, values string) objects {
	t.Helper()
	output, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, output)
}

// read takes apart what helm and kustomize print.
func read(t *testing.T, text string) objects {
	t.Helper()
	found := objects{}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), len(text))
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if len(object.Object) == 0 {
			continue
		}
		if found[nameOf(object)] != nil {
			t.Errorf("%s is there twice", nameOf(object))
		}
		found[nameOf(object)] = object
	}
}

func nameOf(object *unstructured.Unstructured) string {
	name := object.GetName()
	if object.GetNamespace() != "" {
		name = object.GetNamespace() + "/" + name
	}
	return object.GetKind() + " " + name
}

// is returns the object as its type.
func is[T any](t *testing.T, all objects, name string, into *T) *T {
	t.Helper()
	object := all[name]
	if object == nil {
		t.Fatalf("there is no %s", name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return into
}

// hook tells objects that exist only while `helm test` runs.
func hook(object *unstructured.Unstructured) bool {
	return object.GetAnnotations()["helm.sh/hook"] != ""
}

// kubectl runs the kubectl of the API server's version.
func kubectl(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	assets, err := testenv.Assets(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(assets, "kubectl"), arguments...)
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output), nil
}
