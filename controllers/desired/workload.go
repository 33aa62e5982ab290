package desired

import (
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	applypolicy "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// ConfigFolder is where the pod sees the configuration and all its files.
const ConfigFolder = "/etc/ens"

const (
	portAPI     = "api"
	portMetrics = "metrics"
	// The usual ports of https and http: what stands in front looks for them.
	httpsPort = 443
	httpPort  = 80
	// maxPort is the highest TCP port.
	maxPort = 65535
)

// ServiceAccount is the pods' own. It has no rights and its token is not mounted: the runtime knows nothing of
// Kubernetes. A push provider may want one that is good for nothing but to show who the pod is.
func ServiceAccount(tenant *v1alpha1.EnsTenant) *applycore.ServiceAccountApplyConfiguration {
	return applycore.ServiceAccount(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithAnnotations(allowedMetadata(orZero(orZero(tenant.Spec.Runtime).PodTemplate).ServiceAccountAnnotations)).
		WithOwnerReferences(ownerOf(tenant)).
		WithAutomountServiceAccountToken(false)
}

// Service is the address of the pods inside the cluster.
func Service(tenant *v1alpha1.EnsTenant) *applycore.ServiceApplyConfiguration {
	port, protocol := servicePort(tenant)
	server := config.Config{}.Effective().Server
	return applycore.Service(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(applycore.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(SelectorLabels(tenant)).
			WithPorts(
				applycore.ServicePort().WithName(portAPI).WithProtocol(corev1.ProtocolTCP).
					WithPort(port).WithTargetPort(intstr.FromString(portAPI)).WithAppProtocol(protocol),
				applycore.ServicePort().WithName(portMetrics).WithProtocol(corev1.ProtocolTCP).
					WithPort(portOf(server.Metrics)).WithTargetPort(intstr.FromString(portMetrics)).WithAppProtocol("http"),
			))
}

// PodDisruptionBudget lets nodes be drained one pod of the tenant at a time.
func PodDisruptionBudget(tenant *v1alpha1.EnsTenant) *applypolicy.PodDisruptionBudgetApplyConfiguration {
	return applypolicy.PodDisruptionBudget(WorkloadName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(applypolicy.PodDisruptionBudgetSpec().
			WithMaxUnavailable(intstr.FromInt32(1)).
			// A pod that is broken must not keep a node from being drained.
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(applymeta.LabelSelector().WithMatchLabels(SelectorLabels(tenant))))
}

// keyFileName is what the tenant's keys are called in their Secret (config.ParseKeys).
var keyFileName = regexp.MustCompile(`^(` + config.KEKPrefix + `|` + config.WebhookPrefix + `)[1-9][0-9]*$`)

// volume is the configuration's folder: one projected volume, so that all of it changes at once.
func volume(t Tenant) *applycore.VolumeApplyConfiguration {
	own := []Mount{
		{Path: config.FileName, ConfigMap: RuntimeName(t.Object), Key: config.FileName},
		{Path: config.APITokenHashesFile, Secret: RuntimeName(t.Object), Key: tokenHashesKey},
		{Path: config.DatabaseURLFile, Secret: RuntimeName(t.Object), Key: databaseURLKey},
	}
	own = slices.Concat(own, keyMounts(KeysName(t.Object), t.KeyFiles), keyMounts(t.OwnKEKSecret, t.OwnKEKFiles))
	projected := applycore.ProjectedVolumeSource()
	for _, mount := range slices.Concat(own, tlsMounts(t.Object), t.References.Mounts) {
		projected.WithSources(projection(mount))
	}
	return applycore.Volume().WithName(volumeName).WithProjected(projected)
}

// keyMounts mounts keys of a Secret.
func keyMounts(from string, keys []string) []Mount {
	var mounts []Mount
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if keyFileName.MatchString(key) {
			mounts = append(mounts, Mount{Path: path.Join(config.KeysFolder, key), Secret: from, Key: key})
		}
	}
	return mounts
}

const volumeName = "config"

// tokenLife is how long a token of the service account lives, in seconds; kubelet replaces it in good time.
const tokenLife = 3600

func projection(mount Mount) *applycore.VolumeProjectionApplyConfiguration {
	if mount.TokenAudience != "" {
		return applycore.VolumeProjection().WithServiceAccountToken(applycore.ServiceAccountTokenProjection().
			WithPath(mount.Path).WithAudience(mount.TokenAudience).WithExpirationSeconds(tokenLife))
	}
	item := applycore.KeyToPath().WithKey(mount.Key).WithPath(mount.Path)
	if mount.Secret != "" {
		return applycore.VolumeProjection().WithSecret(applycore.SecretProjection().WithName(mount.Secret).WithItems(item))
	}
	return applycore.VolumeProjection().WithConfigMap(applycore.ConfigMapProjection().WithName(mount.ConfigMap).WithItems(item))
}

// resources are the container's, given or in effect.
func resources(template v1alpha1.PodTemplate) *applycore.ResourceRequirementsApplyConfiguration {
	if given := template.Resources; given != nil {
		result := applycore.ResourceRequirements()
		// An empty list would be sent as null.
		if len(given.Requests) > 0 {
			result.WithRequests(given.Requests)
		}
		if len(given.Limits) > 0 {
			result.WithLimits(given.Limits)
		}
		return result
	}
	return applycore.ResourceRequirements().
		WithRequests(corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("128Mi"),
		}).
		// No limit of CPU: it would delay answers to Exchange.
		WithLimits(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")})
}

// portOf is the port of a listening address; 0 cannot come, for the addresses are the runtime's defaults.
func portOf(address string) int32 {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > maxPort {
		return 0
	}
	return int32(port)
}
