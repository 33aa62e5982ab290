package tenant

import "github.com/prometheus/client_golang/prometheus"

// Metrics tell of the push providers of the tenant that is in force.
type Metrics struct {
	tenant func() *Tenant
	expiry *prometheus.Desc
	open   *prometheus.Desc
}

var _ prometheus.Collector = (*Metrics)(nil)

// NewMetrics registers the metrics. Tenant returns the one that is in force.
func NewMetrics(registry prometheus.Registerer, tenant func() *Tenant) {
	registry.MustRegister(&Metrics{
		tenant: tenant,
		expiry: prometheus.NewDesc(
			"ens_push_credential_expiry_timestamp_seconds",
			"When the first certificate that a push provider is signed in to with expires, in seconds since 1970. Providers whose credentials do not expire have none.",
			[]string{"provider"}, nil,
		),
		open: prometheus.NewDesc(
			"ens_push_provider_open",
			"1 while a push provider is left alone because it is out of order or has asked to wait, else 0.",
			[]string{"provider"}, nil,
		),
	})
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.expiry
	descriptions <- m.open
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	for name, provider := range m.tenant().providers {
		open := 0.0
		if provider.Open() {
			open = 1
		}
		metrics <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, open, name)
		if !provider.notAfter.IsZero() {
			metrics <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, float64(provider.notAfter.Unix()), name)
		}
	}
}
