package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// pollInterval is how often something is looked at that does not tell by itself. An operator's metrics of a thousand
// tenants cost it some ten milliseconds: asked for more often, they would be what is measured.
const pollInterval = 250 * time.Millisecond

// eventually waits until a condition holds.
func eventually(ctx context.Context, what string, holds func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := holds(); err != nil || ok {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
}

// activity is what an operator has done with tenants, and still has to do with anything.
type activity struct{ reconciled, pending float64 }

// activity reads it from the metrics; there is none before they are served.
func (o *operator) activity(ctx context.Context) (activity, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.metrics, nil)
	if err != nil {
		return activity{}, err
	}
	request.Header.Set("Accept-Encoding", "identity") // compressing takes longer than all the rest
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		select {
		case <-o.Done():
			return activity{}, fmt.Errorf("the operator has ended: %s", o.Output())
		default:
			return activity{}, ctx.Err() // it has just begun
		}
	}
	defer response.Body.Close()
	var found activity
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil:
		case strings.HasPrefix(name, `controller_runtime_reconcile_total{controller="enstenant"`):
			found.reconciled += value
		case strings.HasPrefix(name, "workqueue_depth{"), strings.HasPrefix(name, "controller_runtime_active_workers{"):
			found.pending += value
		}
	}
	return found, nil
}
