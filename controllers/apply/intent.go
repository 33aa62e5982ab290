package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// AnnotationApplied holds, on an object that was applied, a digest of what was.
const AnnotationApplied = v1alpha1.GroupName + "/applied"

// digestLength is how many bytes of the digest are in the annotation: enough to tell what two versions of an operator want
// of an object.
const digestLength = 16

// intent is what is to be applied.
type intent struct {
	// object has the annotation, too. An apply fills it with the API server's answer.
	object *unstructured.Unstructured
	digest [sha256.Size]byte
	// shape is the annotation's value. It is of everything but what is secret.
	shape string
}

// newIntent makes it of a configuration's JSON, of which digest is one.
func newIntent(body []byte, digest [sha256.Size]byte) (*intent, error) {
	i := &intent{object: &unstructured.Unstructured{}, digest: digest}
	err := utiljson.Unmarshal(body, &i.object.Object) // with whole numbers, as the converter has them
	if err != nil {
		return nil, err
	}
	if i.shape, err = shapeOf(i.object); err != nil {
		return nil, err
	}
	annotations := i.object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationApplied] = i.shape
	i.object.SetAnnotations(annotations)
	return i, nil
}

// shapeOf is a digest of an object. Of a Secret it holds the names of the values and not the values: somebody who may not
// read them could try out guesses.
func shapeOf(object *unstructured.Unstructured) (string, error) {
	shape := object.Object
	if data, isMap := shape["data"].(map[string]any); isMap && object.GetKind() == "Secret" {
		shape = runtime.DeepCopyJSON(shape)
		names := map[string]any{}
		for name := range data {
			names[name] = ""
		}
		shape["data"] = names
	}
	body, err := json.Marshal(shape) // in the order of the keys
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(body)
	return hex.EncodeToString(digest[:digestLength]), nil
}

func (i *intent) configuration() runtime.ApplyConfiguration {
	return client.ApplyConfigurationFromUnstructured(i.object)
}

// metBy reports whether an object is what an apply would make of it: this was applied last, so there is nothing to take
// away, and everything that is wanted is there.
func (i *intent) metBy(current client.Object) (bool, error) {
	if current.GetAnnotations()[AnnotationApplied] != i.shape {
		return false, nil
	}
	is, err := runtime.DefaultUnstructuredConverter.ToUnstructured(current)
	if err != nil {
		return false, err
	}
	wanted := i.object.Object
	for field, value := range wanted {
		if field == "apiVersion" || field == "kind" { // which an object of the cache does not say
			continue
		}
		if there, found := is[field]; !found || !covers(there, value) {
			return false, nil
		}
	}
	return true, nil
}

// covers reports whether all of what is wanted is there. Lists must be the same, but for fields of their items that
// nobody here wants: others' items may be there by right, but then an apply only costs time.
func covers(is, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		there, isMap := is.(map[string]any)
		if !isMap {
			return false
		}
		for field, value := range wanted {
			found, ok := there[field]
			if !ok && !empty(value) || ok && !covers(found, value) {
				return false
			}
		}
		return true
	case []any:
		there, isList := is.([]any)
		return isList && slices.EqualFunc(there, wanted, covers)
	default:
		return reflect.DeepEqual(is, wanted)
	}
}

// empty reports whether a value is one that objects of the cache do not show.
func empty(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	default:
		return value == nil || reflect.ValueOf(value).IsZero()
	}
}
