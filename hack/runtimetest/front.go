package runtimetest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Front stands before the replicas as an ingress does, so that the webhook URL outlives any of them.
type Front struct {
	// URL is where phones and Exchange come to.
	URL string

	mu    sync.Mutex
	route func(*http.Request) string
}

func newFront(t testing.TB) *Front {
	f := &Front{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			f.mu.Lock()
			defer f.mu.Unlock()
			target := "127.0.0.1:1" // nothing is there
			if f.route != nil {
				target = f.route(r.In)
			}
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			// A malformed query must arrive as it was sent.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Route makes choose decide which host:port a request goes to.
func (f *Front) Route(choose func(*http.Request) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.route = choose
}

// Use sends every request to one address.
func (f *Front) Use(address string) { f.Route(func(*http.Request) string { return address }) }
