package main

import (
	"context"
	"slices"
	"time"

	"github.com/ens-operator/ens-operator/hack/e2e/stage"
)

// atRest is how long CPU time is measured while nothing is done.
const atRest = 20 * time.Second

// busy is the part of a CPU above which a pod is not at rest: a new tenant makes 500 keys in its first minutes.
const busy = 0.02

// rest measures what our pods take while no mail comes.
func rest(ctx context.Context, t *theatre) error {
	if !t.Own() {
		t.say("left out: the processes of another cluster's pods cannot be seen from here")
		return nil
	}
	var measures []stage.Measure
	err := await(ctx, "the pods to come to rest", func(ctx context.Context) (calm bool, err error) {
		measures, err = t.MeasurePods(ctx, atRest, operatorNamespace, namespace)
		return !slices.ContainsFunc(measures, func(m stage.Measure) bool { return m.CPU > busy }), err
	})
	if err != nil {
		return err
	}
	for _, m := range measures {
		t.say("%-36s %5.1f MiB RssAnon, %4.1f %% of a CPU", m.Pod, float64(m.Memory)/stage.MiB, m.CPU*100)
	}
	t.counted = stage.Largest(measures)
	return nil
}
