package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

const someMetrics = "# HELP a b\n# TYPE a counter\na 1\n# TYPE c gauge\nc 2\n"

func TestProbe(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("let-me-in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for name, c := range map[string]struct {
		token  string
		answer func(http.ResponseWriter, *http.Request)
		count  int
		says   string
	}{
		"reads metrics with the pod's token": {token, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer let-me-in" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, someMetrics)
		}, 2, ""},
		"sends no token where there is none": {token + "-missing", func(w http.ResponseWriter, r *http.Request) {
			if len(r.Header.Values("Authorization")) > 0 {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, someMetrics)
		}, 2, ""},
		"says that it may not": {token, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}, 0, "403 Forbidden"},
		"is not content with something else": {token, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "welcome")
		}, 0, "has no metrics"},
		"goes nowhere else": {token, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}, 0, "302 Found"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(c.answer))
			t.Cleanup(server.Close)
			count, err := prober{token: c.token}.metrics(t.Context(), server.URL+"/metrics")
			if count != c.count || c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%d metrics, %v; want %d, %q", count, err, c.count, c.says)
			}
		})
	}
	if elsewhere.Load() > 0 {
		t.Error("the token was taken elsewhere")
	}
}

func TestProbeWaitsForAnOperatorThatIsStarting(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, someMetrics)
	}))
	t.Cleanup(server.Close)
	if err := (prober{token: "missing", patience: patience, interval: poll}).run(t.Context(), server.URL, t.Output()); err != nil {
		t.Error(err)
	}
}
