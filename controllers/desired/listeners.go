package desired

import (
	"cmp"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	applygateway "sigs.k8s.io/gateway-api/applyconfiguration/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// ListenerSetKind is the kind of a gatewayv1.ListenerSet.
const ListenerSetKind = "ListenerSet"

// ListenerSet has a Gateway listen for the tenant's names, each with the tenant's certificate; nil if the tenant does not
// ask for that.
func ListenerSet(tenant *v1alpha1.EnsTenant) *applygateway.ListenerSetApplyConfiguration {
	wanted := Listeners(tenant)
	if wanted == nil {
		return nil
	}
	ref := tenant.Spec.Exposure.Gateway.ParentRefs[0]
	parent := applygateway.ParentGatewayReference().WithName(gatewayv1.ObjectName(ref.Name))
	if ref.Namespace != "" {
		parent.WithNamespace(gatewayv1.Namespace(ref.Namespace))
	}
	spec := applygateway.ListenerSetSpec().WithParentRef(parent)
	for _, hostname := range Hostnames(tenant) {
		// Only routes of the tenant's namespace get in, which is the default.
		spec.WithListeners(applygateway.ListenerEntry().
			WithName(gatewayv1.SectionName(hostname)).
			WithHostname(gatewayv1.Hostname(hostname)).
			WithPort(cmp.Or(wanted.Port, httpsPort)).
			WithProtocol(gatewayv1.HTTPSProtocolType).
			WithTLS(applygateway.ListenerTLSConfig().
				WithMode(gatewayv1.TLSModeTerminate).
				WithCertificateRefs(applygateway.SecretObjectReference().WithName(gatewayv1.ObjectName(wanted.TLSSecretName)))))
	}
	return applygateway.ListenerSet(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithAnnotations(allowedMetadata(wanted.Annotations)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(spec)
}

// Listeners are the listeners of its own that the tenant asks for, nil if none.
func Listeners(tenant *v1alpha1.EnsTenant) *v1alpha1.GatewayListeners {
	if tenant.Spec.Exposure.Kind() != v1alpha1.ExposureGateway {
		return nil
	}
	return tenant.Spec.Exposure.Gateway.ListenerSet
}

// parents are what the tenant's route attaches to: its own listeners, or the Gateways.
func parents(tenant *v1alpha1.EnsTenant) []*applygateway.ParentReferenceApplyConfiguration {
	if Listeners(tenant) != nil {
		return []*applygateway.ParentReferenceApplyConfiguration{applygateway.ParentReference().
			WithGroup(gatewayv1.GroupName).WithKind(ListenerSetKind).WithName(gatewayv1.ObjectName(WorkloadName(tenant)))}
	}
	var found []*applygateway.ParentReferenceApplyConfiguration
	for _, ref := range tenant.Spec.Exposure.Gateway.ParentRefs {
		parent := applygateway.ParentReference().WithName(gatewayv1.ObjectName(ref.Name))
		if ref.Namespace != "" {
			parent.WithNamespace(gatewayv1.Namespace(ref.Namespace))
		}
		if ref.SectionName != "" {
			parent.WithSectionName(gatewayv1.SectionName(ref.SectionName))
		}
		found = append(found, parent)
	}
	return found
}
