package config

import (
	"net/url"
	"strings"
)

// Tracing says where traces go, in OTLP over HTTP.
type Tracing struct {
	// Endpoint is the collector's http or https URL, e.g. https://collector.example.com:4318. Without a path it is
	// /v1/traces, as usual.
	Endpoint string `json:"endpoint"`
	// SamplePerMille is how many of a thousand calls and posts are traced.
	SamplePerMille int32 `json:"samplePerMille,omitempty"`
	// CABundle says that tracing/ca.crt holds the certificate authorities to trust instead of the system's.
	CABundle bool `json:"caBundle,omitempty"`
}

const (
	// defaultSamplePerMille is one in a hundred: a few traces a second with 100,000 users.
	defaultSamplePerMille = 10
	maxSamplePerMille     = 1000
	tracesPath            = "/v1/traces"
)

// URL is where traces are posted to.
func (t Tracing) URL() string {
	if u, err := url.Parse(t.Endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		u.Path = tracesPath
		return u.String()
	}
	return t.Endpoint
}

func (f *findings) tracing(t *Tracing) {
	if t == nil {
		return
	}
	f.url("tracing.endpoint", t.Endpoint, "http", "https")
	f.within("tracing.samplePerMille", t.SamplePerMille, 1, maxSamplePerMille)
	if t.CABundle && !strings.HasPrefix(t.Endpoint, "https://") {
		f.add("tracing.caBundle", "has no effect on an endpoint without https")
	}
}
