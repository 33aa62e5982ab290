package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/ens-operator/ens-operator/hack/e2e/stage"
)

// rollout tries another runtime image on the tenant, and takes it back.
func rollout(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		for _, step := range []struct{ change, version string }{
			{fmt.Sprintf(`{"spec":{"runtime":{"image":"%s/ens-runtime:%s"}}}`, stage.Registry, stage.NextVersion), stage.NextVersion},
			{`{"spec":{"runtime":{"image":null}}}`, stage.Version},
		} {
			began := time.Now()
			if err := t.patch(ctx, "enstenant", tenantName, step.change); err != nil {
				return err
			}
			if err := t.awaitPods(ctx, hasVersion(step.version)); err != nil {
				return err
			}
			t.say("rollout to %s: %.1f s", step.version, time.Since(began).Seconds())
		}
		return nil
	})
}

// hasVersion says whether a Deployment's pods are of an image with that tag.
func hasVersion(version string) func(*appsv1.Deployment) bool {
	return func(d *appsv1.Deployment) bool {
		return strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":"+version)
	}
}

// upgrade upgrades the operator by its chart, which gives the tenant the next runtime, too.
func upgrade(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		began := time.Now()
		if err := t.upgradeChart(ctx, stage.NextVersion); err != nil {
			return err
		}
		t.say("helm upgrade --wait: %.1f s", time.Since(began).Seconds())
		if err := t.awaitPods(ctx, hasVersion(stage.NextVersion)); err != nil {
			return err
		}
		t.say("helm upgrade to the tenant's last new pod: %.1f s", time.Since(began).Seconds())
		return nil
	})
}
