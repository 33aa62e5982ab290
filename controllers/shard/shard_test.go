package shard_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/shard"
)

func TestASelectorSaysWhatIsWhose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		selector string
		labels   map[string]string
		want     bool
	}{
		"no selector":                    {"", nil, true},
		"the label":                      {"ens-operator.io/shard=north", map[string]string{"ens-operator.io/shard": "north"}, true},
		"another value":                  {"ens-operator.io/shard=north", map[string]string{"ens-operator.io/shard": "south"}, false},
		"no label":                       {"ens-operator.io/shard=north", nil, false},
		"what is nobody else's":          {"ens-operator.io/shard notin (north, south)", nil, true},
		"what is somebody else's":        {"ens-operator.io/shard notin (north, south)", map[string]string{"ens-operator.io/shard": "south"}, false},
		"no label where it must not be":  {"!ens-operator.io/shard", nil, true},
		"the label where it must not be": {"!ens-operator.io/shard", map[string]string{"ens-operator.io/shard": "north"}, false},
	} {
		s, err := shard.Parse(c.selector)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := s.Has(&v1alpha1.EnsTenant{ObjectMeta: metav1.ObjectMeta{Labels: c.labels}}); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
	if _, err := shard.Parse("a=b=c"); err == nil {
		t.Error("a selector that is none was read")
	}
	if !(shard.Shard{}).Has(&v1alpha1.EnsTenant{}) {
		t.Error("the zero value does not take everything")
	}
}

func TestEachShardHasALeaseOfItsOwn(t *testing.T) {
	t.Parallel()
	id := func(selector string) string {
		s, err := shard.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		return s.LeaderElectionID("lease")
	}
	if got := id(""); got != "lease" {
		t.Errorf("without a selector it is %s", got)
	}
	if id("a=1") == id("a=2") || id("a=1") == "lease" {
		t.Error("two shards have the same Lease")
	}
	if id("a=1,b=2") != id("b=2, a = 1") {
		t.Error("the same selector, written otherwise, has another Lease")
	}
}
