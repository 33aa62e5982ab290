package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// quiet is how long is waited for writes that must not come.
const quiet = 5 * time.Second

// settledKinds are the objects of a tenant that nobody has a reason to write when nothing changes.
const settledKinds = "enstenants,ewsendpoints,pushproviders,deployments,services,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,httproutes"

// gitOps applies the same manifests again, as Argo CD and Flux do every few minutes.
func gitOps(ctx context.Context, t *theatre) error {
	before, err := t.versions(ctx)
	if err != nil {
		return err
	}
	if _, err := t.Apply(ctx, "tenant.yaml", t.tenantData()); err != nil {
		return err
	}
	time.Sleep(quiet)
	after, err := t.versions(ctx)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("objects were written, although nothing has changed:\nbefore\n%s\nafter\n%s", before, after)
	}
	t.counted = fmt.Sprintf("%d objects, none written", strings.Count(before, "\n"))
	t.say("%s", t.counted)
	return nil
}

// versions lists the tenant's objects with their versions, each on a line.
func (t *theatre) versions(ctx context.Context) (string, error) {
	return t.Kubectl(ctx, "--namespace="+namespace, "get", settledKinds, "--no-headers",
		"--output=custom-columns=:kind,:metadata.name,:metadata.generation,:metadata.resourceVersion")
}
