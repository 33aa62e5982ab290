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

// settled is how long nothing was done when memory counts: a runtime gives back what a rush has taken when two quiet minutes
// are over.
const settled = 2*time.Minute + 2*atRest

// rest measures what our pods take while no mail comes.
func rest(ctx context.Context, t *theatre) error {
	if !t.Own() {
		t.say("left out: the processes of another cluster's pods cannot be seen from here")
		return nil
	}
	var measures []stage.Measure
	var quiet time.Duration
	calm := func(ctx context.Context) (bool, error) {
		var err error
		measures, err = t.MeasurePods(ctx, atRest, operatorNamespace, namespace)
		if quiet += atRest; err != nil || slices.ContainsFunc(measures, func(m stage.Measure) bool { return m.CPU > busy }) {
			quiet = 0
		}
		return quiet > 0, err
	}
	if err := await(ctx, "the pods to come to rest", calm); err != nil {
		return err
	}
	err := await(ctx, "the pods to stay at rest", func(ctx context.Context) (bool, error) {
		_, err := calm(ctx)
		return quiet >= settled, err
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
