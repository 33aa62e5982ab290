package controllers_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// readManifests reads the objects of a file in the checkout.
func readManifests(path ...string) []*unstructured.Unstructured {
	root, err := testenv.RepositoryRoot()
	if err != nil {
		panic(err)
	}
	content, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		panic(err)
	}
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), len(content))
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			panic(fmt.Errorf("reading %v: %w", path, err))
		}
		objects = append(objects, object)
	}
}

// samples are the objects of config/samples in the order of its kustomization.
func samples(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	files, _, err := unstructured.NestedStringSlice(readManifests("config", "samples", "kustomization.yaml")[0].Object, "resources")
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		objects = append(objects, readManifests("config", "samples", file)...)
	}
	return objects
}

// plain turns an unstructured object into a typed one.
func plain[T any](t *testing.T, object *unstructured.Unstructured, into *T) *T {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// sampleOf is the first object of the samples of a kind.
func sampleOf(t *testing.T, kind string) *unstructured.Unstructured {
	t.Helper()
	all := samples(t)
	return all[slices.IndexFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })]
}

// sample is the object of the samples with a name.
func sample(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	for _, object := range samples(t) {
		if object.GetName() == name {
			return object
		}
	}
	t.Fatalf("the samples have no %s", name)
	return nil
}

// named says whether an object has one of the names.
func named(names ...string) func(*unstructured.Unstructured) bool {
	return func(object *unstructured.Unstructured) bool {
		for _, name := range names {
			if object.GetName() == name {
				return true
			}
		}
		return false
	}
}

// without is the opposite of named.
func without(names ...string) func(*unstructured.Unstructured) bool {
	return func(object *unstructured.Unstructured) bool { return !named(names...)(object) }
}
