package ewsendpoint

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// The metrics of the endpoints are those of the process: there is one operator in it, but for tests.
var (
	labels    = []string{"namespace", "name"}
	reachable = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_endpoint_reachable", Help: "1 if the operator reaches the EwsEndpoint's server and it answers like EWS, else 0.",
	}, labels)
	pinned = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_endpoint_pinned", Help: "1 if the EwsEndpoint's server shows a certificate that is accepted, 0 if it shows another.",
	}, labels)
	notAfter = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_endpoint_certificate_not_after_timestamp_seconds", Help: "When the certificate of the EwsEndpoint's server expires.",
	}, labels)
)

func init() { metrics.Registry.MustRegister(reachable, pinned, notAfter) }

// measure shows what the status says; what it does not know is not shown.
func measure(endpoint *v1alpha1.EwsEndpoint) {
	for gauge, kind := range map[*prometheus.GaugeVec]string{reachable: v1alpha1.ConditionReachable, pinned: v1alpha1.ConditionPinned} {
		found := meta.FindStatusCondition(endpoint.Status.Conditions, kind)
		switch {
		case found == nil || found.Status == metav1.ConditionUnknown:
			gauge.DeleteLabelValues(endpoint.Namespace, endpoint.Name)
		case found.Status == metav1.ConditionTrue:
			gauge.WithLabelValues(endpoint.Namespace, endpoint.Name).Set(1)
		default:
			gauge.WithLabelValues(endpoint.Namespace, endpoint.Name).Set(0)
		}
	}
	if server := endpoint.Status.Server; server != nil && len(server.Certificates) > 0 {
		notAfter.WithLabelValues(endpoint.Namespace, endpoint.Name).Set(float64(server.Certificates[0].NotAfter.Unix()))
	}
}

// unmeasure takes away what is shown of an endpoint that is gone.
func unmeasure(key types.NamespacedName) {
	for _, gauge := range []*prometheus.GaugeVec{reachable, pinned, notAfter} {
		gauge.DeleteLabelValues(key.Namespace, key.Name)
	}
}
