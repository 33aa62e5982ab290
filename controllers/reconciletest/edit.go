// Package reconciletest helps to fuzz reconcilers: it makes objects that differ from good ones in a place or two, an API
// server out of memory that holds them, and knows what must hold of what a reconciler says, whatever it was given.
//
// The API server is controller-runtime's fake, because a real one would be too slow by far. It does not check objects
// against their CRD, so a reconciler sees here what it never would, too, and must not be thrown by it.
package reconciletest

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// Edit is a change in one place.
type Edit struct {
	// Where counts the values of all objects, the inner ones too, in the order in which they would be printed; it is taken
	// modulo their number.
	Where uint16
	// What is put there: as JSON if it is that, else as text. Nothing removes the value.
	What string
}

// Manifests reads YAML.
func Manifests(tb testing.TB, text string) []map[string]any {
	tb.Helper()
	var objects []map[string]any
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), len(text))
	for {
		object := map[string]any{}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			tb.Fatalf("%v in\n%s", err, text)
		}
		if len(object) > 0 {
			objects = append(objects, object)
		}
	}
}

// Secret is a manifest of a Secret; its values are bytes as they are, in stringData.
func Secret(name string, values map[string]string) map[string]any {
	data := map[string]any{}
	for key, value := range values {
		data[key] = value
	}
	return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name}, "stringData": data}
}

// Apply makes the edits in copies of the objects, one after the other.
func Apply(objects []map[string]any, edits ...Edit) []map[string]any {
	var copies []map[string]any
	for _, object := range objects {
		copies = append(copies, clone(object).(map[string]any))
	}
	for _, edit := range edits {
		var places []place
		for _, object := range copies {
			places = collect(places, object, false)
		}
		if len(places) > 0 {
			places[int(edit.Where)%len(places)].put(edit.What)
		}
	}
	return copies
}

func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		copied := map[string]any{}
		for key, inner := range value {
			copied[key] = clone(inner)
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for i, inner := range value {
			copied[i] = clone(inner)
		}
		return copied
	}
	return value
}

// place is where a value stands.
type place struct {
	object map[string]any
	key    string
	list   []any
	index  int
	// raw says that only text may stand there, as it is.
	raw bool
}

func collect(places []place, value any, raw bool) []place {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			places = append(places, place{object: value, key: key, raw: raw})
			places = collect(places, value[key], raw || key == "stringData")
		}
	case []any:
		for i := range value {
			places = append(places, place{list: value, index: i, raw: raw})
			places = collect(places, value[i], raw)
		}
	}
	return places
}

func (p place) put(what string) {
	var value any = what
	if !p.raw {
		if err := json.Unmarshal([]byte(what), &value); err != nil {
			value = what
		}
	}
	switch {
	case p.list != nil:
		p.list[p.index] = value
	case what == "":
		delete(p.object, p.key)
	default:
		p.object[p.key] = value
	}
}

// Junk is what Each puts in, besides nothing and another kind of value.
const Junk = "junk-that-nobody-expects-ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Each calls try with the objects changed in one place, for every place: without the value, with junk, and with a value of
// another kind.
func Each(objects []map[string]any, try func(edit Edit, edited []map[string]any)) {
	count := 0
	for _, object := range objects {
		count += len(collect(nil, object, false))
	}
	for where := range count {
		for _, what := range []string{"", Junk, `{}`} {
			edit := Edit{Where: uint16(where), What: what}
			try(edit, Apply(objects, edit))
		}
	}
}
