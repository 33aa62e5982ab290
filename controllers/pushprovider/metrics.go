package pushprovider

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
)

// refused is of the process: there is one operator in it, but for tests.
var refused = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "ens_operator_provider_refused", Help: "1 if what tenants push through the PushProvider is refused until somebody acts, else 0.",
}, []string{"namespace", "name"})

func init() { metrics.Registry.MustRegister(refused) }

func measure(provider *v1alpha1.PushProvider, delivering condition.Finding) {
	value := 0.0
	if delivering.Reason == v1alpha1.ReasonRefused {
		value = 1
	}
	refused.WithLabelValues(provider.Namespace, provider.Name).Set(value)
}
