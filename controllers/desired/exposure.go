package desired

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applynetworking "k8s.io/client-go/applyconfigurations/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	applygateway "sigs.k8s.io/gateway-api/applyconfiguration/apis/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// requestTimeout is how long the runtime may take for an answer (its write timeout): a registration waits for Exchange.
const requestTimeout = "90s"

// PublicServiceName is the name of the Service of type LoadBalancer. It is one of its own, because the tenant's Service
// has the port of metrics, too, which is nobody's business outside of the cluster.
func PublicServiceName(tenant *v1alpha1.EnsTenant) string { return name(tenant, "-public") }

// AnnotationClass holds the class of load balancer that a Service was made for: the class itself cannot be changed, and
// where none is asked for, others may fill it in.
const AnnotationClass = v1alpha1.GroupName + "/load-balancer-class"

// apiPaths are the paths under which the tenant is called. The runtime compares them without case (P-03), which routes do
// not: so each is there in lower case, too, as what stands in front of phones may rewrite it.
func apiPaths(tenant *v1alpha1.EnsTenant) []string {
	var paths []string
	for _, path := range given(tenant).Effective().Server.BasePaths {
		paths = append(paths, path, strings.ToLower(path))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// servicePort is the port of the tenant's Service, and what is spoken there.
func servicePort(tenant *v1alpha1.EnsTenant) (port int32, protocol string) {
	if tenant.Spec.TLS.TerminatedElsewhere != nil {
		return httpPort, "http"
	}
	return httpsPort, "https"
}

// HTTPRoute has Gateways send the tenant's calls to its Service; nil if the tenant is not exposed so.
func HTTPRoute(tenant *v1alpha1.EnsTenant) *applygateway.HTTPRouteApplyConfiguration {
	if tenant.Spec.Exposure.Kind() != v1alpha1.ExposureGateway {
		return nil
	}
	spec := applygateway.HTTPRouteSpec().WithParentRefs(parents(tenant)...)
	for _, hostname := range Hostnames(tenant) {
		spec.WithHostnames(gatewayv1.Hostname(hostname))
	}
	port, _ := servicePort(tenant)
	rule := applygateway.HTTPRouteRule().
		WithTimeouts(applygateway.HTTPRouteTimeouts().WithRequest(requestTimeout).WithBackendRequest(requestTimeout)).
		WithBackendRefs(applygateway.HTTPBackendRef().WithName(gatewayv1.ObjectName(WorkloadName(tenant))).WithPort(port))
	for _, path := range apiPaths(tenant) {
		rule.WithMatches(applygateway.HTTPRouteMatch().
			WithPath(applygateway.HTTPPathMatch().WithType(gatewayv1.PathMatchPathPrefix).WithValue(path)))
	}
	return applygateway.HTTPRoute(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(spec.WithRules(rule))
}

// Ingress has an ingress controller send the tenant's calls to its Service; nil if the tenant is not exposed so.
func Ingress(tenant *v1alpha1.EnsTenant) *applynetworking.IngressApplyConfiguration {
	if tenant.Spec.Exposure.Kind() != v1alpha1.ExposureIngress {
		return nil
	}
	exposure := tenant.Spec.Exposure.Ingress
	hostnames := Hostnames(tenant)
	encrypted := applynetworking.IngressTLS().WithHosts(hostnames...)
	if secretName := TLSSecretName(tenant); secretName != "" {
		encrypted.WithSecretName(secretName)
	} else if exposure.TLSSecretName != "" {
		encrypted.WithSecretName(string(exposure.TLSSecretName))
	}
	spec := applynetworking.IngressSpec().WithTLS(encrypted)
	if exposure.ClassName != "" {
		spec.WithIngressClassName(string(exposure.ClassName))
	}
	for _, hostname := range hostnames {
		paths := applynetworking.HTTPIngressRuleValue()
		for _, path := range apiPaths(tenant) {
			backend := applynetworking.IngressServiceBackend().WithName(WorkloadName(tenant)).
				WithPort(applynetworking.ServiceBackendPort().WithName(portAPI))
			paths.WithPaths(applynetworking.HTTPIngressPath().WithPath(path).WithPathType(networkingv1.PathTypePrefix).
				WithBackend(applynetworking.IngressBackend().WithService(backend)))
		}
		spec.WithRules(applynetworking.IngressRule().WithHost(hostname).WithHTTP(paths))
	}
	return applynetworking.Ingress(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithAnnotations(allowedMetadata(exposure.Annotations)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(spec)
}

// PublicService has a load balancer connect phones and Exchange with the pods; nil if the tenant is not exposed so.
func PublicService(tenant *v1alpha1.EnsTenant) *applycore.ServiceApplyConfiguration {
	if tenant.Spec.Exposure.Kind() != v1alpha1.ExposureLoadBalancer {
		return nil
	}
	exposure := tenant.Spec.Exposure.LoadBalancer
	port, protocol := servicePort(tenant)
	spec := applycore.ServiceSpec().
		WithType(corev1.ServiceTypeLoadBalancer).
		WithSelector(SelectorLabels(tenant)).
		// No further hop, and the pods see who calls.
		WithExternalTrafficPolicy(corev1.ServiceExternalTrafficPolicyLocal).
		// No port of every node is open beside the load balancer's.
		WithAllocateLoadBalancerNodePorts(false).
		WithPorts(applycore.ServicePort().WithName(portAPI).WithProtocol(corev1.ProtocolTCP).
			WithPort(port).WithTargetPort(intstr.FromString(portAPI)).WithAppProtocol(protocol))
	if exposure.Class != "" {
		spec.WithLoadBalancerClass(exposure.Class)
	}
	for _, networks := range exposure.SourceRanges {
		spec.WithLoadBalancerSourceRanges(string(networks))
	}
	return applycore.Service(PublicServiceName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithAnnotations(allowedMetadata(exposure.Annotations)).
		WithAnnotations(map[string]string{AnnotationClass: exposure.Class}).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(spec)
}
