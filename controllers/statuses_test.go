package controllers_test

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
)

// lateCache answers with what there was when it was last told.
type lateCache struct {
	client.Reader
	known *api.PushProvider
}

func (c *lateCache) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	c.known.DeepCopyInto(into.(*api.PushProvider))
	return nil
}

func (c *lateCache) hear(s *stage) { c.known = fetch(s, &api.PushProvider{}, c.known.Name) }

func TestAStatusIsComparedToWhatWasWrittenLastHoweverLateTheCacheIs(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	provider := plain(t, sampleOf(t, "PushProvider"), &api.PushProvider{})
	provider.Name = "nobodys"
	// Its generation is known, so that the operator at work here leaves the status alone once it has written it.
	s.create(provider)
	s.waitCondition(provider, api.ConditionReady, metav1.ConditionFalse, "")
	cache := &lateCache{known: provider}
	cache.hear(s)
	key := client.ObjectKeyFromObject(provider)

	var statuses condition.Statuses
	reads := func() *api.PushProvider {
		t.Helper()
		read := &api.PushProvider{}
		if err := statuses.Get(t.Context(), cache, s.clients, key, read); err != nil {
			t.Fatal(err)
		}
		return read
	}
	write := func(reason string) {
		t.Helper()
		after := reads()
		before := after.DeepCopy()
		after.Status.Conditions = condition.Set(after.Status.Conditions, after.Generation, metav1.Now(),
			condition.Typed{Type: "Tested", Finding: condition.Finding{Status: metav1.ConditionTrue, Reason: reason}})
		if err := statuses.Patch(t.Context(), s.clients, before, after); err != nil {
			t.Fatal(err)
		}
	}
	reason := func(p *api.PushProvider) string {
		for _, c := range p.Status.Conditions {
			if c.Type == "Tested" {
				return c.Reason
			}
		}
		return ""
	}
	write("First")
	cache.hear(s)
	write("Second")
	write("First") // which is what the cache still has
	if got := reason(fetch(s, &api.PushProvider{}, key.Name)); got != "First" {
		t.Errorf("the status says %s", got)
	}
	if got := reason(reads()); got != "First" {
		t.Errorf("%s is read", got)
	}
	cache.hear(s)
	cache.known.Labels = map[string]string{"from": "cache"}
	if reads().Labels["from"] != "cache" {
		t.Error("a cache that has caught up is not asked")
	}
}
