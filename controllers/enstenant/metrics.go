package enstenant

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// The metrics of the tenants are those of the process: there is one operator in it, but for tests.
var (
	subject = []string{"namespace", "name"}
	ready   = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_tenant_ready", Help: "1 if the EnsTenant is ready, 0 if something failed; none while the operator is at work.",
	}, subject)
	notAfter = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_tenant_certificate_not_after_timestamp_seconds",
		Help: "When the certificate expires that the EnsTenant's pods serve, read from its Secret.",
	}, subject)
	overdue = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_tenant_certificate_overdue",
		Help: "1 if the EnsTenant's certificate has expired or should have been renewed by now, by its condition TLSReady; else 0.",
	}, subject)
	tenants = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ens_operator_tenants", Help: "EnsTenants by the reason of their condition RuntimeUpToDate.",
	}, []string{"rollout"})
)

func init() {
	metrics.Registry.MustRegister(ready, notAfter, overdue, tenants)
	for _, reason := range []string{
		v1alpha1.ReasonUpToDate, v1alpha1.ReasonOwnImage, v1alpha1.ReasonWaitingForTurn, v1alpha1.ReasonHeldBack,
		v1alpha1.ReasonRollingOut, v1alpha1.ReasonRolloutFailed,
	} {
		tenants.WithLabelValues(reason).Set(0)
	}
}

// measure shows what the status says; what it does not know is not shown.
func measure(tenant *v1alpha1.EnsTenant) {
	switch found := meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionReady); {
	case found == nil || found.Status == metav1.ConditionUnknown:
		ready.DeleteLabelValues(tenant.Namespace, tenant.Name)
	case found.Status == metav1.ConditionTrue:
		ready.WithLabelValues(tenant.Namespace, tenant.Name).Set(1)
	default:
		ready.WithLabelValues(tenant.Namespace, tenant.Name).Set(0)
	}
	certificate := tenant.Status.Certificate
	if certificate == nil || certificate.NotAfter == nil {
		notAfter.DeleteLabelValues(tenant.Namespace, tenant.Name)
		overdue.DeleteLabelValues(tenant.Namespace, tenant.Name)
		return
	}
	notAfter.WithLabelValues(tenant.Namespace, tenant.Name).Set(float64(certificate.NotAfter.Unix()))
	overdue.WithLabelValues(tenant.Namespace, tenant.Name).Set(0)
	found := meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionTLSReady)
	if found != nil && (found.Reason == v1alpha1.ReasonExpiresSoon || found.Reason == v1alpha1.ReasonExpired) {
		overdue.WithLabelValues(tenant.Namespace, tenant.Name).Set(1)
	}
}

// unmeasure takes away what is shown of a tenant that is gone, or another operator's.
func unmeasure(key types.NamespacedName) {
	for _, gauge := range []*prometheus.GaugeVec{ready, notAfter, overdue} {
		gauge.DeleteLabelValues(key.Namespace, key.Name)
	}
	count(key, "")
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
