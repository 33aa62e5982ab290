package foreign

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// NewCache makes a cache for the metadata of the Secrets and ConfigMaps that selector matches, of which it keeps the names and
// versions only. It is apart from the manager's cache, because that holds those with the operator's label, and a cache has one
// selector per kind. The manager must run it (Add).
func NewCache(config *rest.Config, options cache.Options, selector labels.Selector) (cache.Cache, error) {
	options.DefaultTransform = identityOnly
	options.ByObject, options.DefaultLabelSelector = nil, selector
	c, err := cache.New(config, options)
	if err != nil {
		return nil, fmt.Errorf("making the cache for users' Secrets and ConfigMaps: %w", err)
	}
	return c, nil
}

// identityOnly drops everything but what says which object changed.
func identityOnly(object any) (any, error) {
	full, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	return &metav1.PartialObjectMetadata{TypeMeta: full.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: full.Namespace, Name: full.Name, UID: full.UID, ResourceVersion: full.ResourceVersion,
	}}, nil
}

// Secrets is a source of changes to Secrets, whoever's they are.
func Secrets(c cache.Cache, h handler.EventHandler) source.Source { return metadataOf(c, "Secret", h) }

// ConfigMaps is a source of changes to ConfigMaps, whoever's they are.
func ConfigMaps(c cache.Cache, h handler.EventHandler) source.Source {
	return metadataOf(c, "ConfigMap", h)
}

func metadataOf(c cache.Cache, kind string, h handler.EventHandler) source.Source {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return source.Kind[client.Object](c, object, h)
}

// SecretIndex and ConfigMapIndex are what an object that refers to a Secret or ConfigMap is indexed by. The kind is
// part of it, so that a ConfigMap does not wake up those who refer to a Secret of the same name.
func SecretIndex(name string) string { return "Secret/" + name }

// ConfigMapIndex is SecretIndex for ConfigMaps.
func ConfigMapIndex(name string) string { return "ConfigMap/" + name }

// BundleIndex is what an object that refers to a bundle is indexed by.
func BundleIndex(bundle v1alpha1.CertificateBundle) string {
	if bundle.Secret != nil {
		return SecretIndex(string(bundle.Secret.Name))
	}
	if bundle.ConfigMap == nil {
		return ""
	}
	return ConfigMapIndex(string(bundle.ConfigMap.Name))
}
