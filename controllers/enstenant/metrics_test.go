package enstenant

import (
	"testing"

	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

func TestEachTenantIsCountedOnce(t *testing.T) {
	t.Parallel()
	a, b := types.NamespacedName{Namespace: "mail", Name: "a"}, types.NamespacedName{Namespace: "mail", Name: "b"}
	want := func(when string, wanted map[string]float64) {
		t.Helper()
		for reason, number := range wanted {
			var got dto.Metric
			if err := tenants.WithLabelValues(reason).Write(&got); err != nil || got.GetGauge().GetValue() != number {
				t.Errorf("%s: %v tenants are %s, want %v (%v)", when, got.GetGauge().GetValue(), reason, number, err)
			}
		}
	}
	count(a, v1alpha1.ReasonWaitingForTurn)
	count(b, v1alpha1.ReasonWaitingForTurn)
	count(b, v1alpha1.ReasonWaitingForTurn)
	want("at first", map[string]float64{v1alpha1.ReasonWaitingForTurn: 2, v1alpha1.ReasonRollingOut: 0})
	count(a, v1alpha1.ReasonRollingOut)
	want("when one begins", map[string]float64{v1alpha1.ReasonWaitingForTurn: 1, v1alpha1.ReasonRollingOut: 1})
	unmeasure(a)
	unmeasure(a)
	unmeasure(b)
	want("when both are gone", map[string]float64{v1alpha1.ReasonWaitingForTurn: 0, v1alpha1.ReasonRollingOut: 0})
}
