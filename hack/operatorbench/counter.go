package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// counter passes the operator's requests on to the API server and counts those that may change something.
type counter struct {
	server *http.Server
	url    string

	mu     sync.Mutex
	writes map[string]int
	last   time.Time
}

// headerLimit bounds how long a request may take to say what it wants.
const headerLimit = 10 * time.Second

// startCounter serves on a loopback address, without TLS, as whoever config is.
func startCounter(ctx context.Context, config *rest.Config) (*counter, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing to call the API server: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the operator: %w", err)
	}
	c := &counter{url: "http://" + listener.Addr().String(), writes: map[string]int{}, last: time.Now()}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1, // a watch is told at once
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	c.server = &http.Server{ReadHeaderTimeout: headerLimit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			c.count(r)
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() {
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // nothing that follows would mean anything
		}
	}()
	return c, nil
}

func (c *counter) close() { _ = c.server.Close() }

// lease is what leader election writes, also where nothing else happens.
const lease = "leases"

func (c *counter) count(r *http.Request) {
	kind := kindOf(r.URL.Path)
	if kind == "events" && strings.Contains(r.URL.Path, "/namespaces/"+namespace+"/") {
		kind = lease // tells who leads
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes[r.Method+" "+kind]++
	if kind != lease {
		c.last = time.Now()
	}
}

// kindOf is the resource in a path of the API server, with the subresource if there is one.
func kindOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	const core, group = 2, 3 // api/v1/…, apis/<group>/<version>/…
	skip := core
	if parts[0] == "apis" {
		skip = group
	}
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	switch len(parts) {
	case 0:
		return path
	case 1, 2:
		return parts[0]
	default:
		return parts[0] + "/" + parts[2]
	}
}

// written is what has been written so far, by method and kind.
func (c *counter) written() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.writes)
}

// quietFor is how long nothing but leases has been written.
func (c *counter) quietFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last)
}

// tally is how many requests there were, by method and kind.
type tally map[string]int

// since is what has come to a tally after an earlier one.
func (t tally) since(earlier tally) tally {
	more := tally{}
	for what, n := range t {
		if n -= earlier[what]; n > 0 {
			more[what] = n
		}
	}
	return more
}

// sum adds up what there is of a kind, by whatever method; all but leases if kind is empty.
func (t tally) sum(kind string) int {
	total := 0
	for what, n := range t {
		_, of, _ := strings.Cut(what, " ")
		if of == kind || kind == "" && of != lease {
			total += n
		}
	}
	return total
}
