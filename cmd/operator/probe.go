package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// probeCommand is the first argument that makes this program a client of another operator's metrics: the chart's test
// has no other image than ours to do that with.
const probeCommand = "probe"

// tokenFile is where Kubernetes puts the token of a pod's ServiceAccount.
const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

const (
	// probePatience is for an operator that has just been installed: its image is pulled, it waits for the database.
	probePatience = 2 * time.Minute
	probeInterval = 2 * time.Second
	// probeTimeout bounds one try.
	probeTimeout = 5 * time.Second
)

// prober reads metrics as Prometheus would.
type prober struct {
	// token is the file with the bearer token; one that is missing is not sent.
	token              string
	patience, interval time.Duration
}

// run tries until it gets metrics from the URL, and says how many.
func (p prober) run(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	var last error
	for {
		count, err := p.metrics(ctx, url)
		if err == nil {
			fmt.Fprintf(out, "%s has %d metrics\n", url, count)
			return nil
		}
		if last == nil || ctx.Err() == nil { // that time was up says less than what was wrong before
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("reading the operator's metrics: %w", last)
		}
	}
}

// metrics counts the metrics behind a URL.
func (p prober) metrics(ctx context.Context, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	token, err := os.ReadFile(p.token)
	switch {
	case err == nil:
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	case !errors.Is(err, os.ErrNotExist):
		return 0, err
	}
	// By default the operator makes its certificate for itself, and nobody can verify it; Prometheus does not either.
	// The token is that of an account which may read metrics and nothing else.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: probeTimeout, CheckRedirect: noRedirect}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	count := 0
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "# TYPE ") {
			count++
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if count == 0 {
		return 0, fmt.Errorf("%s has no metrics", url)
	}
	return count, nil
}

// noRedirect keeps the token from going elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
