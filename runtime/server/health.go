package server

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// health is what the probes are told.
type health struct {
	draining atomic.Bool
	stopped  chan struct{}
	// fit is closed when the database has been found fit for the first time.
	fit chan struct{}

	mu sync.Mutex
	// fault is why the replica must not serve, or what it still waits for; empty when all is well.
	fault string
}

func newHealth() *health {
	return &health{stopped: make(chan struct{}), fit: make(chan struct{}), fault: "the database has not been looked at yet"}
}

func (h *health) set(fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// sound reports whether the replica may serve, be it about to stop or not.
func (h *health) sound() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault == ""
}

// notReady returns why the replica is not ready, empty if it is.
func (h *health) notReady() string {
	if h.draining.Load() {
		return "draining"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault
}

// Describe tells of all metrics that there may be, with their labels.
func (s *Server) Describe(descriptions chan<- *prometheus.Desc) { s.registry.Describe(descriptions) }

// metricsHandler serves metrics and the probes. Liveness depends on nothing outside the process.
func (s *Server) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.health.notReady(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// Status is what the administration port says of the replica. It holds no secret.
type Status struct {
	Version     string `json:"version"`
	Tenant      string `json:"tenant"`
	ConfigHash  string `json:"configHash"`
	ConfigValid bool   `json:"configValid"`
	// NotReady is why the replica is not ready, empty if it is.
	NotReady string `json:"notReady"`
	// Unheard is what to check if Exchange does not post to new subscriptions, empty if it does.
	Unheard     string `json:"unheard"`
	KEKs        []int  `json:"keks"`
	WebhookKeys []int  `json:"webhookKeys"`
}

// adminHandler serves administrators, on loopback (architecture.md, rule 7).
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		t := s.tenant.Load()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(Status{
			Version: s.options.Version, Tenant: t.Config.Tenant.Namespace + "/" + t.Config.Tenant.Name,
			ConfigHash: t.Hash, ConfigValid: s.source.Valid(), NotReady: s.health.notReady(), Unheard: s.watcher.Unheard(),
			KEKs: config.Numbers(t.Keys.KEKs), WebhookKeys: config.Numbers(t.Keys.Webhooks),
		})
	})
	return mux
}
