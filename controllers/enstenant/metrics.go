package enstenant

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// The metrics of the tenants are those of the process: there is one operator in it, but for tests.
var (
	tenants = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_tenants", Help: "EnsTenants by the reason of their condition RuntimeUpToDate.",
	}, []string{"rollout"})
	certificateNotAfter = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_certificate_not_after_timestamp_seconds",
		Help: "When the certificate expires that the EnsTenant's pods serve, read from its Secret.",
	}, []string{"namespace", "tenant"})
)

func init() {
	metrics.Registry.MustRegister(tenants, certificateNotAfter)
	for _, reason := range []string{
		v1alpha1.ReasonUpToDate, v1alpha1.ReasonOwnImage, v1alpha1.ReasonWaitingForTurn, v1alpha1.ReasonHeldBack,
		v1alpha1.ReasonRollingOut, v1alpha1.ReasonRolloutFailed,
	} {
		tenants.WithLabelValues(reason).Set(0)
	}
}

// counted is under which reason each tenant is counted in tenants.
var counted = struct {
	sync.Mutex
	reasons map[types.NamespacedName]string
}{reasons: map[types.NamespacedName]string{}}

// count counts a tenant under a reason, and no longer under another; under none if reason is empty.
func count(tenant types.NamespacedName, reason string) {
	counted.Lock()
	defer counted.Unlock()
	if before := counted.reasons[tenant]; before != "" {
		tenants.WithLabelValues(before).Dec()
	}
	delete(counted.reasons, tenant)
	if reason != "" {
		counted.reasons[tenant] = reason
		tenants.WithLabelValues(reason).Inc()
	}
}

// measureCertificate shows when a tenant's certificate expires; nothing for the zero time.
func measureCertificate(tenant types.NamespacedName, notAfter time.Time) {
	if notAfter.IsZero() {
		certificateNotAfter.DeleteLabelValues(tenant.Namespace, tenant.Name)
		return
	}
	certificateNotAfter.WithLabelValues(tenant.Namespace, tenant.Name).Set(float64(notAfter.Unix()))
}

// unmeasure takes away what is shown of a tenant that is gone.
func unmeasure(tenant types.NamespacedName) {
	count(tenant, "")
	measureCertificate(tenant, time.Time{})
}
