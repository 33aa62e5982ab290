package desired

import (
	"cmp"
	"maps"
	"path"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

const (
	containerName = "runtime"

	// finishSeconds is how long a pod may work after its drain delay before it is killed: a fetch (30 s) and a push
	// (20 s) that have just begun, and a moment to write down what is still owed.
	finishSeconds = 60

	// A pod that does not answer for half a minute is started anew; one that is not ready gets no more requests after
	// 10 s, and is asked often so that it gets them soon.
	probePeriodSeconds    = 5
	probeTimeoutSeconds   = 3
	livenessFailures      = 6
	readinessFailures     = 2
	revisionHistoryLimit  = 3
	topologyMaxSkew       = 1
	hostnameTopology      = "kubernetes.io/hostname"
	podTemplateHashLabel  = "pod-template-hash"
	livenessPath          = "/livez"
	readinessPath         = "/readyz"
	configurationArgument = "--config"
)

// What the operator keeps on a Deployment itself, and not on its pods, so that it is changed together with the image.
const (
	// annotationRuntimeImage is the image that was asked for. That of the container may be another: a mutating policy of
	// the cluster may name a mirror there.
	annotationRuntimeImage = v1alpha1.GroupName + "/runtime-image"
	// annotationReplacedImage is the image of the pods that are being replaced because the operator's own image is another
	// one. It goes when they have been.
	annotationReplacedImage = v1alpha1.GroupName + "/replaced-image"
)

// RuntimeImage is the image that a Deployment was made for.
func RuntimeImage(deployment *appsv1.Deployment) string {
	if image := deployment.Annotations[annotationRuntimeImage]; image != "" {
		return image
	}
	for i := range deployment.Spec.Template.Spec.Containers {
		if container := &deployment.Spec.Template.Spec.Containers[i]; container.Name == containerName {
			return container.Image
		}
	}
	return ""
}

// ReplacedImage is the image of the pods that are being replaced because the operator's own image is another one; empty if
// none are.
func ReplacedImage(deployment *appsv1.Deployment) string {
	return deployment.Annotations[annotationReplacedImage]
}

// Deployment runs the tenant's pods. With autoscaling it says nothing of their number, but for what it begins with. The
// error is an *AffinityError.
func Deployment(t Tenant) (*applyapps.DeploymentApplyConfiguration, error) {
	template, err := podTemplate(t)
	if err != nil {
		return nil, err
	}
	selector := applymeta.LabelSelector().WithMatchLabels(SelectorLabels(t.Object))
	// A new pod is there before an old one goes, so that a rollout takes nothing away.
	rollout := applyapps.DeploymentStrategy().
		WithType(appsv1.RollingUpdateDeploymentStrategyType).
		WithRollingUpdate(applyapps.RollingUpdateDeployment().
			WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromInt32(1)))
	spec := applyapps.DeploymentSpec().
		WithRevisionHistoryLimit(revisionHistoryLimit).
		WithStrategy(rollout).
		WithSelector(selector).
		WithTemplate(template)
	if replicas := cmp.Or(t.Settings.Replicas, t.FirstReplicas); replicas != nil {
		spec.WithReplicas(*replicas)
	}
	annotations := map[string]string{annotationRuntimeImage: t.Settings.Image}
	if t.ReplacedImage != "" {
		annotations[annotationReplacedImage] = t.ReplacedImage
	}
	return applyapps.Deployment(WorkloadName(t.Object), t.Object.Namespace).
		WithLabels(Labels(t.Object)).
		WithAnnotations(annotations).
		WithOwnerReferences(ownerOf(t.Object)).
		WithSpec(spec), nil
}

func podTemplate(t Tenant) (*applycore.PodTemplateSpecApplyConfiguration, error) {
	template := orZero(orZero(t.Object.Spec.Runtime).PodTemplate)
	spec, err := podSpec(t, template)
	if err != nil {
		return nil, err
	}
	labels := allowedMetadata(template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, Labels(t.Object))
	return applycore.PodTemplateSpec().
		WithLabels(labels).
		WithAnnotations(allowedMetadata(template.Annotations)).
		WithSpec(spec), nil
}

func podSpec(t Tenant, template v1alpha1.PodTemplate) (*applycore.PodSpecApplyConfiguration, error) {
	affinity, err := affinity(template)
	if err != nil {
		return nil, err
	}
	spec := applycore.PodSpec().
		WithServiceAccountName(WorkloadName(t.Object)).
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(int64(GracePeriod(t.Settings).Seconds())).
		WithSecurityContext(applycore.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithSeccompProfile(applycore.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithTopologySpreadConstraints(topologySpread(t.Object, template)...).
		WithNodeSelector(template.NodeSelector).
		WithVolumes(volume(t)).
		WithContainers(container(t, template))
	if template.PriorityClassName != "" {
		spec.WithPriorityClassName(string(template.PriorityClassName))
	}
	for _, name := range template.ImagePullSecrets {
		spec.WithImagePullSecrets(applycore.LocalObjectReference().WithName(string(name)))
	}
	for _, toleration := range template.Tolerations {
		spec.WithTolerations(tolerationOf(toleration))
	}
	if affinity != nil {
		spec.WithAffinity(affinity)
	}
	return spec, nil
}

func container(t Tenant, template v1alpha1.PodTemplate) *applycore.ContainerApplyConfiguration {
	server := config.Config{}.Effective().Server
	return applycore.Container().
		WithName(containerName).
		WithImage(t.Settings.Image).
		WithArgs(configurationArgument, path.Join(ConfigFolder, config.FileName)).
		WithPorts(
			applycore.ContainerPort().WithName(portAPI).WithProtocol(corev1.ProtocolTCP).WithContainerPort(portOf(server.Listen)),
			applycore.ContainerPort().WithName(portMetrics).WithProtocol(corev1.ProtocolTCP).WithContainerPort(portOf(server.Metrics)),
		).
		WithEnv(variables(template)...).
		WithResources(resources(template)).
		WithLivenessProbe(probe(livenessPath, livenessFailures)).
		WithReadinessProbe(probe(readinessPath, readinessFailures)).
		WithSecurityContext(applycore.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithCapabilities(applycore.Capabilities().WithDrop("ALL"))).
		WithVolumeMounts(applycore.VolumeMount().WithName(volumeName).WithMountPath(ConfigFolder).WithReadOnly(true))
}

func probe(at string, failures int32) *applycore.ProbeApplyConfiguration {
	return applycore.Probe().
		WithHTTPGet(applycore.HTTPGetAction().WithPath(at).WithPort(intstr.FromString(portMetrics))).
		WithPeriodSeconds(probePeriodSeconds).
		WithTimeoutSeconds(probeTimeoutSeconds).
		WithFailureThreshold(failures)
}

func tolerationOf(toleration corev1.Toleration) *applycore.TolerationApplyConfiguration {
	result := applycore.Toleration()
	if toleration.Key != "" {
		result.WithKey(toleration.Key)
	}
	if toleration.Operator != "" {
		result.WithOperator(toleration.Operator)
	}
	if toleration.Value != "" {
		result.WithValue(toleration.Value)
	}
	if toleration.Effect != "" {
		result.WithEffect(toleration.Effect)
	}
	if toleration.TolerationSeconds != nil {
		result.WithTolerationSeconds(*toleration.TolerationSeconds)
	}
	return result
}

// GracePeriod is how long a pod may take to end.
func GracePeriod(settings v1alpha1.EffectiveSettings) time.Duration {
	return time.Duration(*settings.DrainDelaySeconds+finishSeconds) * time.Second
}
