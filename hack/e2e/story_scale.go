package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
)

// scale changes the number of pods as an autoscaler or an administrator does.
func scale(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		for _, replicas := range []int32{1, 4, 1, 2} {
			_, err := t.Kubectl(ctx, "--namespace="+namespace, "scale", "enstenant", tenantName, fmt.Sprintf("--replicas=%d", replicas))
			if err != nil {
				return err
			}
			err = t.awaitPods(ctx, func(d *appsv1.Deployment) bool { return d.Spec.Replicas != nil && *d.Spec.Replicas == replicas })
			if err != nil {
				return err
			}
			t.say("%d pods", replicas)
		}
		return nil
	})
}
