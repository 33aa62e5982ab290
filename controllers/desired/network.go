package desired

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	applynetworking "k8s.io/client-go/applyconfigurations/networking/v1"

	"github.com/ens-operator/ens-operator/runtime/config"
)

const (
	dnsPort = 53
	// dnsPodPort is where the DNS server's pods listen in some clusters: a policy sees pods, not Services.
	dnsPodPort = 5353
)

// NetworkPolicy limits what the pods may talk to; nil if the tenant does not ask for that. It names ports and no
// addresses: Exchange, the database and the push services are outside of the cluster, and their addresses change.
func NetworkPolicy(t Tenant) (*applynetworking.NetworkPolicyApplyConfiguration, error) {
	policy := orZero(t.Object.Spec.NetworkPolicy)
	if !policy.Enabled {
		return nil, nil
	}
	outgoing, err := addressPorts(t)
	if err != nil {
		return nil, err
	}
	outgoing = slices.Concat(outgoing, t.DatabasePorts, policy.EgressPorts, []int32{httpsPort})
	slices.Sort(outgoing)
	server := config.Config{}.Effective().Server
	// The node's probes come to the port of metrics, so it is open to all.
	in := applynetworking.NetworkPolicyIngressRule().
		WithPorts(port(corev1.ProtocolTCP, portOf(server.Listen)), port(corev1.ProtocolTCP, portOf(server.Metrics)))
	names := applynetworking.NetworkPolicyEgressRule()
	for _, number := range []int32{dnsPort, dnsPodPort} {
		names.WithPorts(port(corev1.ProtocolUDP, number), port(corev1.ProtocolTCP, number))
	}
	servers := applynetworking.NetworkPolicyEgressRule()
	for _, number := range slices.Compact(outgoing) {
		servers.WithPorts(port(corev1.ProtocolTCP, number))
	}
	return applynetworking.NetworkPolicy(WorkloadName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithOwnerReferences(ownerOf(t.Object)).
		WithSpec(applynetworking.NetworkPolicySpec().
			WithPodSelector(applymeta.LabelSelector().WithMatchLabels(SelectorLabels(t.Object))).
			WithPolicyTypes(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress).
			WithIngress(in).
			WithEgress(names, servers)), nil
}

func port(protocol corev1.Protocol, number int32) *applynetworking.NetworkPolicyPortApplyConfiguration {
	return applynetworking.NetworkPolicyPort().WithProtocol(protocol).WithPort(intstr.FromInt32(number))
}

// addressPorts are the ports of all addresses in the runtime's configuration, whatever they are for, but for its own.
func addressPorts(t Tenant) ([]int32, error) {
	content := Config(t)
	content.Server = config.Server{}
	text, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encoding the runtime's configuration: %w", err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("decoding the runtime's configuration: %w", err)
	}
	var ports []int32
	if content.Autodiscover != nil {
		ports = append(ports, httpPort) // one of the places to ask redirects from plain http
	}
	walk(tree, func(text string) {
		if number := urlPort(text); number != 0 {
			ports = append(ports, number)
		}
	})
	return ports, nil
}

// walk visits every string in a decoded JSON value.
func walk(value any, visit func(string)) {
	switch value := value.(type) {
	case string:
		visit(value)
	case []any:
		for _, entry := range value {
			walk(entry, visit)
		}
	case map[string]any:
		for _, entry := range value {
			walk(entry, visit)
		}
	}
}

// urlPort is the port of an address of http or https, 0 for any other text.
func urlPort(text string) int32 {
	address, err := url.Parse(text)
	if err != nil || address.Host == "" {
		return 0
	}
	if given := address.Port(); given != "" {
		number, err := strconv.ParseUint(given, 10, 16)
		if err != nil {
			return 0
		}
		return int32(number)
	}
	switch address.Scheme {
	case "https":
		return httpsPort
	case "http":
		return httpPort
	}
	return 0
}
