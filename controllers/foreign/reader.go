// Package foreign reads Secrets and ConfigMaps that belong to users.
//
// The operator holds none of them in memory: a cluster may have gigabytes of Secrets. It watches their metadata, to
// learn of changes, and reads the few that it was told of when it needs them.
package foreign

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// MissingError says that an object, or a key in it, is not there.
type MissingError struct {
	// Kind is Secret or ConfigMap.
	Kind, Name string
	// Key is the key that is missing in the object; empty if the object itself is.
	Key string
}

// Error says what is missing and what to do about it.
func (e *MissingError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s %s does not exist: create it or correct the reference", e.Kind, e.Name)
	}
	return fmt.Sprintf("%s %s has no key %s: add it or correct the reference", e.Kind, e.Name, e.Key)
}

// Reason is the reason of the condition that tells of the error.
func (e *MissingError) Reason() string {
	if e.Key == "" {
		return v1alpha1.ReasonNotFound
	}
	return v1alpha1.ReasonKeyNotFound
}

// Reader reads users' objects from the API server itself.
type Reader struct {
	// Live reads without a cache.
	Live client.Reader
}

// Secret returns the data of a Secret, or a *MissingError.
func (r Reader) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	if err := r.get(ctx, namespace, name, "Secret", secret); err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// SecretKey returns one value of a Secret, or a *MissingError.
func (r Reader) SecretKey(ctx context.Context, namespace string, ref v1alpha1.SecretKeyReference) ([]byte, error) {
	data, err := r.Secret(ctx, namespace, string(ref.Name))
	if err != nil {
		return nil, err
	}
	value, found := data[string(ref.Key)]
	if !found {
		return nil, &MissingError{Kind: "Secret", Name: string(ref.Name), Key: string(ref.Key)}
	}
	return value, nil
}

// Bundle returns the value that a bundle names, or a *MissingError.
func (r Reader) Bundle(ctx context.Context, namespace string, bundle v1alpha1.CertificateBundle) ([]byte, error) {
	if bundle.Secret != nil {
		return r.SecretKey(ctx, namespace, *bundle.Secret)
	}
	ref := *bundle.ConfigMap
	configMap := &corev1.ConfigMap{}
	if err := r.get(ctx, namespace, string(ref.Name), "ConfigMap", configMap); err != nil {
		return nil, err
	}
	if value, found := configMap.Data[string(ref.Key)]; found {
		return []byte(value), nil
	}
	if value, found := configMap.BinaryData[string(ref.Key)]; found {
		return value, nil
	}
	return nil, &MissingError{Kind: "ConfigMap", Name: string(ref.Name), Key: string(ref.Key)}
}

func (r Reader) get(ctx context.Context, namespace, name, kind string, into client.Object) error {
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return &MissingError{Kind: kind, Name: name}
	}
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", kind, name, err)
	}
	return nil
}

// Require returns a *MissingError for the first of keys that the data of a Secret lack.
func Require(name string, data map[string][]byte, keys ...string) error {
	for _, key := range keys {
		if len(data[key]) == 0 {
			return &MissingError{Kind: "Secret", Name: name, Key: key}
		}
	}
	return nil
}
