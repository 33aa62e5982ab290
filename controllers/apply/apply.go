// Package apply writes objects that the operator owns, by server-side apply, and only when there is something to write.
//
// An apply that changes nothing still costs the API server milliseconds. So the Applier remembers for each object what
// it applied and which version came of it; as long as both are the same nothing is sent. Where it has no memory of an
// object, since the operator has just begun, or where the version has changed, it looks whether the object says itself
// that just this was applied (AnnotationApplied), and still is so.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldOwner is the name under which the operator owns fields of objects.
const FieldOwner = "ens-operator"

// ErrNotOwned says that an object of the wanted name is there and belongs to somebody else. It is left alone.
var ErrNotOwned = errors.New("it belongs to somebody else")

// NotOwnedError tells which object is not the operator's.
type NotOwnedError struct{ Kind, Name string }

// Error says what to do.
func (e *NotOwnedError) Error() string {
	return fmt.Sprintf("%s %s exists and was not made by the operator for this object: remove it, or choose another name", e.Kind, e.Name)
}

// Is makes errors.Is(err, ErrNotOwned) true.
func (e *NotOwnedError) Is(target error) bool { return target == ErrNotOwned }

// Configuration is a generated apply configuration.
type Configuration interface {
	runtime.ApplyConfiguration
	GetAPIVersion() *string
	GetKind() *string
	GetNamespace() *string
	GetName() *string
}

// Applier applies objects. It is safe for concurrent use.
type Applier struct {
	// Client reads from a cache and writes.
	Client client.Client
	// Live reads without a cache.
	Live client.Reader

	applied sync.Map // of identity to record
}

type identity struct {
	kind            schema.GroupVersionKind
	namespace, name string
}

// A record is what was applied and the object's version thereafter.
type record struct {
	digest  [sha256.Size]byte
	version string
	// generation counts the changes of the object's spec.
	generation int64
}

// Apply makes the object what desired says, unless it is known to be so already. It takes over no object that owns
// refuses; the error is then a *NotOwnedError. Current is an empty object of the kind, through which the cache is read.
func (a *Applier) Apply(ctx context.Context, desired Configuration, current client.Object, owns func(metav1.Object) bool) error {
	id := identityOf(desired)
	body, err := json.Marshal(desired)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", id.kind.Kind, id.name, err)
	}
	version, err := a.version(ctx, id, current, owns)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(body)
	known, found := a.applied.Load(id)
	if found && version != "" && known.(record).digest == digest && known.(record).version == version {
		return nil
	}
	wanted, err := newIntent(body, digest)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", id.kind.Kind, id.name, err)
	}
	// What the cache has may be what was before our last apply.
	if version != "" && (!found || !older(version, known.(record).version)) {
		met, err := wanted.metBy(current)
		if err != nil {
			return fmt.Errorf("comparing %s %s: %w", id.kind.Kind, id.name, err)
		}
		if met {
			a.applied.Store(id, record{digest: wanted.digest, version: version, generation: current.GetGeneration()})
			return nil
		}
	}
	if err := a.Client.Apply(ctx, wanted.configuration(), client.FieldOwner(FieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %s: %w", id.kind.Kind, id.name, err)
	}
	a.applied.Store(id, record{digest: wanted.digest, version: wanted.object.GetResourceVersion(), generation: wanted.object.GetGeneration()})
	return nil
}

// older reports whether a version of an object came before another.
func older(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order < 0
}

// Generation is the object's generation after it was applied last, 0 if that is not known. A cached object of a lower one
// is older than what was applied.
func (a *Applier) Generation(kind schema.GroupVersionKind, name types.NamespacedName) int64 {
	if known, found := a.applied.Load(identity{kind: kind, namespace: name.Namespace, name: name.Name}); found {
		return known.(record).generation
	}
	return 0
}

// version is the object's version, empty if there is no object.
func (a *Applier) version(ctx context.Context, id identity, current client.Object, owns func(metav1.Object) bool) (string, error) {
	key := client.ObjectKey{Namespace: id.namespace, Name: id.name}
	err := a.Client.Get(ctx, key, current)
	if apierrors.IsNotFound(err) {
		// The cache holds objects with the operator's label. Another one of this name may be there without.
		err = a.Live.Get(ctx, key, current)
	}
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading %s %s: %w", id.kind.Kind, id.name, err)
	case !owns(current):
		return "", &NotOwnedError{Kind: id.kind.Kind, Name: id.name}
	}
	return current.GetResourceVersion(), nil
}

// Forget drops what is remembered of objects of that name, of whatever kind.
func (a *Applier) Forget(name types.NamespacedName) {
	a.applied.Range(func(key, _ any) bool {
		if id := key.(identity); id.namespace == name.Namespace && id.name == name.Name {
			a.applied.Delete(key)
		}
		return true
	})
}

func identityOf(c Configuration) identity {
	value := func(text *string) string {
		if text == nil {
			return ""
		}
		return *text
	}
	return identity{
		kind:      schema.FromAPIVersionAndKind(value(c.GetAPIVersion()), value(c.GetKind())),
		namespace: value(c.GetNamespace()),
		name:      value(c.GetName()),
	}
}
