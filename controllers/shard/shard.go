// Package shard says which objects are this operator's, where several share a cluster: each takes the EnsTenants, EwsEndpoints
// and PushProviders whose labels its selector matches, and leaves the others entirely alone. All may be read.
package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// Shard is what an operator takes. The zero value takes everything.
type Shard struct{ selector labels.Selector }

// Parse reads a label selector, as kubectl's option --selector. An empty one takes everything.
func Parse(text string) (Shard, error) {
	selector, err := labels.Parse(text)
	if err != nil {
		return Shard{}, fmt.Errorf("reading the label selector %q: %w", text, err)
	}
	return Shard{selector}, nil
}

// Has reports whether an object is this operator's.
func (s Shard) Has(object client.Object) bool {
	return s.All() || s.selector.Matches(labels.Set(object.GetLabels()))
}

// All reports whether every object is this operator's.
func (s Shard) All() bool { return s.selector == nil || s.selector.Empty() }

// idLength keeps the names of Leases short; two selectors of a cluster do not share ten hex digits by chance.
const idLength = 10

// LeaderElectionID names the Lease by which the pods of this shard's operator agree on who works, which must be another than
// that of other shards in the same namespace. Base is the one of an operator that takes everything.
func (s Shard) LeaderElectionID(base string) string {
	if s.All() {
		return base
	}
	sum := sha256.Sum256([]byte(s.selector.String())) // in an order of its own
	return hex.EncodeToString(sum[:])[:idLength] + "." + base
}

// Changes lets events pass that the given predicate does, and those by which an object may change from one operator to
// another.
func Changes(others ...predicate.Predicate) predicate.Predicate {
	return predicate.Or(append(others, predicate.LabelChangedPredicate{})...)
}
