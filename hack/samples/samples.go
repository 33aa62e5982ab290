// Package samples reads the manifests of config/samples.
package samples

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// Objects are the samples in the order of their kustomization. They are the caller's to change.
func Objects() ([]*unstructured.Unstructured, error) {
	root, err := testenv.RepositoryRoot()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(root, "config", "samples")
	content, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(content, &kustomization); err != nil {
		return nil, fmt.Errorf("reading the samples' kustomization: %w", err)
	}
	objects := make([]*unstructured.Unstructured, 0, len(kustomization.Resources))
	for _, file := range kustomization.Resources {
		content, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(content, &object.Object); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
