package controllers_test

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// atPods reads, and does something once the pods have been listed.
type atPods struct {
	client.Reader
	then func()
}

func (r atPods) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := r.Reader.List(ctx, list, options...)
	if _, ok := list.(*corev1.PodList); ok {
		r.then()
	}
	return err
}

// A replica that comes back late seals with the older key after it was found that nothing needs that key: it is looked up
// once more before the key is dropped.
func TestAKeyThatComesIntoUseAtTheLastMomentIsKept(t *testing.T) {
	t.Parallel()
	o, config := withoutOperator(t)
	c := newCrashStage(t, o, config)
	m := c.begin(&fuse{})
	defer m.end()
	c.applySamples(nil)
	c.standIn()
	m.work(t, c.acme())
	c.recordKEK("acme-keys", 1)
	c.exec(aReplica, []int{1}, 1)
	c.exec(aUser)
	c.ask("ticket 1")
	m.work(t, c.acme())
	c.recordKEK("acme-keys", 2)
	c.exec(`UPDATE instances SET kek_ids = '{1,2}', webhook_ids = '{1,2}', sealing_kek = 2, sealing_webhook = 2`)
	c.exec(`UPDATE users SET private_key = int4send(2) || 'x'`)
	c.exec(`INSERT INTO meta VALUES ('kek-retired/1', '2026-03-01T09:00:00Z')`)
	m.work(t, c.acme())
	c.wantMounted(from("acme-keys", "kek-2", "webhook-2"))
	c.rolledOut()

	looks := 0
	plain := m.reconciler.Live
	m.reconciler.Live = atPods{plain, func() {
		if looks++; looks == 1 {
			c.exec(`UPDATE users SET private_key = int4send(1) || 'x'`)
		}
	}}
	m.work(t, c.acme())
	if looks == 0 {
		t.Fatal("nothing was to be dropped, so nothing is proved")
	}
	if got := c.keyFiles("acme-keys"); !slices.Contains(got, "kek-1") {
		t.Fatalf("what is sealed under kek-1 is lost: the keys are %v", got)
	}
	c.wantMounted(from("acme-keys", "kek-1", "kek-2", "webhook-2"))

	// Nobody comes in between: now it goes.
	c.exec(`UPDATE users SET private_key = int4send(2) || 'x'`)
	for range 2 { // the pods are replaced, and are done with it
		m.work(t, c.acme())
		c.rolledOut()
	}
	m.work(t, c.acme())
	if got := c.keyFiles("acme-keys"); !slices.Equal(got, []string{"kek-2", "webhook-2"}) {
		t.Errorf("the keys are %v", got)
	}
}
