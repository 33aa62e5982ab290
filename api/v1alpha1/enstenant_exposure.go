package v1alpha1

// TenantExposure is how phones and Exchange reach the tenant from outside of the cluster: exactly one of gateway,
// ingress, loadBalancer and none.
//
// +kubebuilder:validation:XValidation:rule="[has(self.gateway), has(self.ingress), has(self.loadBalancer), has(self.none)].filter(x, x).size() == 1",message="exposure needs exactly one of gateway, ingress, loadBalancer and none"
type TenantExposure struct {
	// gateway makes an HTTPRoute (gateway.networking.k8s.io) for hostname and hostnames. The Gateway serves https, so it
	// needs tls.terminatedElsewhere.
	// +optional
	Gateway *GatewayExposure `json:"gateway,omitempty"`

	// ingress makes an Ingress for hostname and hostnames.
	// +optional
	Ingress *IngressExposure `json:"ingress,omitempty"`

	// loadBalancer makes a Service of type LoadBalancer, whose connections the pods themselves serve https on.
	// +optional
	LoadBalancer *LoadBalancerExposure `json:"loadBalancer,omitempty"`

	// none makes nothing: whoever exposes the tenant does so on their own. Write it as {}.
	// +optional
	None *NoExposure `json:"none,omitempty"`
}

// NoExposure has no settings; write it as {}.
type NoExposure struct{}

// GatewayExposure asks Gateways for a route to the tenant.
//
// +kubebuilder:validation:XValidation:rule="!has(self.listenerSet) || self.parentRefs.size() == 1 && !has(self.parentRefs[0].sectionName)",message="with listenerSet, parentRefs names one Gateway and no listener of it (sectionName)"
type GatewayExposure struct {
	// parentRefs are the Gateways. A Gateway of another namespace must allow routes from the tenant's.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	ParentRefs []GatewayReference `json:"parentRefs"`

	// listenerSet makes a ListenerSet (gateway.networking.k8s.io/v1) with an https listener for each name, which the route
	// attaches to: for a new name or certificate the Gateway need not be changed. It must allow that (spec.allowedListeners).
	// +optional
	ListenerSet *GatewayListeners `json:"listenerSet,omitempty"`
}

// GatewayReference names a Gateway or one of its listeners.
type GatewayReference struct {
	// name is the Gateway's name.
	// +required
	Name ResourceName `json:"name"`

	// namespace is the Gateway's. In effect unless set: the tenant's.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`

	// sectionName is the listener's name. Unless set, every listener that allows it takes the route; name the one that
	// serves https, so that no other serves plain http.
	// +optional
	SectionName ResourceName `json:"sectionName,omitempty"`
}

// NamespaceName is the name of a namespace.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be the name of a namespace: lower-case letters, digits and '-', beginning and ending with a letter or digit"
type NamespaceName string

// IngressExposure is what an Ingress needs to know.
type IngressExposure struct {
	// className names the IngressClass. Unless set, the cluster's default.
	// +optional
	ClassName ResourceName `json:"className,omitempty"`

	// annotations are the Ingress's: what its controller is told beside the class, e.g. time-outs.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Annotations map[string]string `json:"annotations,omitempty"`

	// tlsSecretName names a Secret of type kubernetes.io/tls that the Ingress serves https with, for a tenant with
	// tls.terminatedElsewhere; unless set, the controller uses a certificate of its own. A tenant that has a certificate
	// shares it with the Ingress.
	// +optional
	TLSSecretName ResourceName `json:"tlsSecretName,omitempty"`
}

// LoadBalancerExposure is what a Service of type LoadBalancer needs to know.
type LoadBalancerExposure struct {
	// class names the kind of load balancer (loadBalancerClass). Unless set, the cluster's default. With another class
	// the Service is made anew, and with it its address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Class string `json:"class,omitempty"`

	// annotations are the Service's: what the load balancer is told beside the class.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Annotations map[string]string `json:"annotations,omitempty"`

	// sourceRanges are the networks that may connect (loadBalancerSourceRanges). Unless set, all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	SourceRanges []NetworkRange `json:"sourceRanges,omitempty"`
}

// NetworkRange is a range of IP addresses, e.g. 203.0.113.0/24.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9a-fA-F:.]+/[0-9]{1,3}$')",message="must be a range of IP addresses, e.g. 203.0.113.0/24"
type NetworkRange string

// ExposureKind is how a tenant is exposed.
//
// +kubebuilder:validation:Enum=None;Gateway;Ingress;LoadBalancer
type ExposureKind string

// The kinds of exposure.
const (
	ExposureNone         ExposureKind = "None"
	ExposureGateway      ExposureKind = "Gateway"
	ExposureIngress      ExposureKind = "Ingress"
	ExposureLoadBalancer ExposureKind = "LoadBalancer"
)

// Kind is which of the fields is set; None for a tenant that says nothing.
func (e *TenantExposure) Kind() ExposureKind {
	switch {
	case e == nil:
		return ExposureNone
	case e.Gateway != nil:
		return ExposureGateway
	case e.Ingress != nil:
		return ExposureIngress
	case e.LoadBalancer != nil:
		return ExposureLoadBalancer
	default:
		return ExposureNone
	}
}

// TenantNetworkPolicy limits what the tenant's pods may talk to.
type TenantNetworkPolicy struct {
	// enabled makes a NetworkPolicy: in, the ports of the API and of metrics; out, DNS, the database, https and the ports
	// of what the tenant refers to.
	// +required
	Enabled bool `json:"enabled"`

	// egressPorts are further TCP ports that the pods may connect to, e.g. those of a database's pods where they are not
	// those of its Service.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	EgressPorts []int32 `json:"egressPorts,omitempty"`
}
