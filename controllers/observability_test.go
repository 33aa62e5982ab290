package controllers_test

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestAllThatManifestsSayOfLogAndTracesReachesTheRuntime(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.create(authoritiesUntil(t, time.Now().Add(time.Hour)))
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() != "EnsTenant" {
			return
		}
		spec := o.Object["spec"].(map[string]any)
		spec["logging"] = map[string]any{"format": "ens2"}
		spec["tracing"] = map[string]any{"endpoint": "https://collector.example.com:4318", "caBundle": inConfigMap("ca.crt")}
	})
	loaded, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := loaded.Config.Logging, (config.Logging{Format: config.LogENS2, Level: config.LogInfo}); got != want {
		t.Errorf("the log is %+v, want %+v", got, want)
	}
	want := config.Tracing{Endpoint: "https://collector.example.com:4318", SamplePerMille: 10, CABundle: true}
	if got := loaded.Config.Tracing; got == nil || *got != want || loaded.TracingCAs == nil {
		t.Errorf("traces go to %+v, want %+v with its bundle", got, want)
	}
	effective := tenant.Status.Effective
	if got := effective.Logging; got == nil || *got != (api.TenantLogging{Format: api.LogENS2, Level: api.LogInfo}) {
		t.Errorf("status.effective.logging is %+v", got)
	}
	if got := effective.Tracing; got == nil || *got != (api.EffectiveTracing{Endpoint: "https://collector.example.com:4318/v1/traces", SamplePerMille: 10}) {
		t.Errorf("status.effective.tracing is %+v", got)
	}
	if got := tenant.Status.TracingCABundle; got == nil || got.Certificates != 1 || got.NotAfter.IsZero() {
		t.Errorf("status.tracingCABundle is %+v", got)
	}
}
