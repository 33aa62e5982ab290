package enstenant

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// ensureWorkload applies configuration and workload, in that order, once everything they need is there. The certificate
// is not among that: pods wait for it by themselves, and one that has become unfit must not stop what runs.
func (p *pass) ensureWorkload(ctx context.Context) error {
	complete := p.renderable && p.findings.secrets.Good() && p.findings.database != nil && p.findings.database.Good()
	if err := p.chooseImage(ctx, complete); err != nil {
		return err
	}
	if !complete {
		p.findings.workload = new(condition.Waiting("Configuration and workload wait for what is missing"))
		return nil
	}
	err := p.applyWorkload(ctx)
	p.keepTurn(err)
	return err
}

func (p *pass) applyWorkload(ctx context.Context) error {
	first, err := p.releaseReplicas(ctx)
	if err != nil {
		return err
	}
	objects, err := p.objects(first)
	if refusal := refusalOf(err); refusal != nil {
		p.findings.workload = refusal
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.dropWorkload(ctx); err != nil {
		return err
	}
	for _, object := range objects {
		refusal, err := p.applyOwn(ctx, object.desired, object.current)
		if err != nil {
			return err
		}
		if !refusal.Good() {
			p.findings.workload = &refusal
			return nil
		}
	}
	p.findings.workload = new(condition.OK(v1alpha1.ReasonReady, "Configuration and workload are there"))
	return nil
}

// refusalOf is the finding about an error that trying again does not help against, nil for any other and for none.
func refusalOf(err error) *condition.Finding {
	if refused, ok := errors.AsType[*desired.RefusedError](err); ok {
		return new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"What was applied last stays, because with the spec and what it names %v", refused)))
	}
	if refused, ok := errors.AsType[*desired.AffinityError](err); ok {
		return new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("What was applied last stays, because %v", refused)))
	}
	if refused, ok := errors.AsType[*apply.NotOwnedError](err); ok {
		return new(condition.Stuck(v1alpha1.ReasonNotOwned, refused.Error()))
	}
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok && apierrors.IsInvalid(err) {
		return new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("The API server refuses what the spec asks for: %s", status.ErrStatus.Message)))
	}
	return nil
}

// object is what is wanted, and an empty object to read what there is into.
type object struct {
	desired apply.Configuration
	current client.Object
}

// objects are all objects of the tenant in the order in which they are applied. First is how many pods a Deployment begins
// with that is an autoscaler's from then on.
func (p *pass) objects(first *int32) ([]object, error) {
	keyFiles, ownKEKFiles := p.kept.keys.files()
	tenant := desired.Tenant{
		Object:         p.tenant,
		Settings:       p.settings,
		Schema:         p.names.Schema,
		References:     p.references,
		AllowLoopback:  p.AllowLoopback,
		APIToken:       p.kept.token.current,
		PreviousToken:  desired.PreviousToken{Value: p.kept.token.previous, Expires: p.kept.token.expires},
		DatabaseURL:    p.login.url,
		DatabaseCAs:    string(p.authorities),
		DatabasePorts:  database.Ports(p.login.url.Reveal()),
		PasswordOrigin: p.passwordOrigin(),
		FirstReplicas:  first,
		ReplacedImage:  p.replacedImage,
		KeyFiles:       keyFiles,
		OwnKEKSecret:   p.kept.keys.own,
		OwnKEKFiles:    ownKEKFiles,
	}
	configMap, err := desired.ConfigMap(tenant)
	if err != nil {
		return nil, err
	}
	deployment, err := desired.Deployment(tenant)
	if err != nil {
		return nil, err
	}
	policy, err := desired.NetworkPolicy(tenant)
	if err != nil {
		return nil, err
	}
	objects := []object{
		{desired.RuntimeSecret(tenant), &corev1.Secret{}},
		{configMap, &corev1.ConfigMap{}},
		{desired.BoxerSecret(tenant), &corev1.Secret{}},
		{desired.ServiceAccount(p.tenant), &corev1.ServiceAccount{}},
		{desired.Service(p.tenant), &corev1.Service{}},
		{desired.PodDisruptionBudget(p.tenant), &policyv1.PodDisruptionBudget{}},
	}
	// The policy is there before the pods, the autoscaler after what it scales.
	if policy != nil {
		objects = append(objects, object{policy, &networkingv1.NetworkPolicy{}})
	}
	objects = append(objects, object{deployment, &appsv1.Deployment{}})
	if autoscaler := desired.Autoscaler(tenant); autoscaler != nil {
		objects = append(objects, object{autoscaler, &autoscalingv2.HorizontalPodAutoscaler{}})
	}
	return objects, nil
}

// dropWorkload removes what the spec no longer asks for. The autoscaler goes before the Deployment is told a number again.
func (p *pass) dropWorkload(ctx context.Context) error {
	if p.settings.Autoscaling == nil {
		if err := p.drop(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, desired.WorkloadName(p.tenant)); err != nil {
			return err
		}
	}
	if policy := p.tenant.Spec.NetworkPolicy; policy == nil || !policy.Enabled {
		return p.drop(ctx, &networkingv1.NetworkPolicy{}, desired.WorkloadName(p.tenant))
	}
	return nil
}

// observeWorkload looks at how the pods are.
func (p *pass) observeWorkload(ctx context.Context) error {
	deployment := &appsv1.Deployment{}
	missing, err := p.find(ctx, desired.WorkloadName(p.tenant), deployment)
	if err != nil {
		return err
	}
	applied := p.Applier.Generation(appsv1.SchemeGroupVersion.WithKind("Deployment"),
		client.ObjectKey{Namespace: p.tenant.Namespace, Name: desired.WorkloadName(p.tenant)})
	switch {
	case missing && p.findings.workload.Good() && applied > 0:
		// It has just been made, and the cache has yet to hear of it. What it will say is said at once: a status that is
		// written twice costs twice.
		deployment.Generation = applied
	case missing, !desired.Owns(p.tenant)(deployment):
		p.findings.available = new(condition.Waiting("There is no Deployment yet"))
		p.findings.rollout = new(condition.Waiting("There is no Deployment yet"))
		return nil
	}
	p.findings.replicas = deployment.Status.Replicas
	p.findings.available = new(availableFinding(deployment))
	p.findings.rollout = new(rolloutFinding(deployment))
	if deployment.Generation < applied {
		// The cache has yet to hear of what this pass or the last one has applied.
		p.findings.rollout = new(condition.Waiting("The pods are being replaced"))
		if !p.findings.available.Good() {
			p.findings.available = p.findings.rollout
		}
	}
	return p.observeVersions(ctx)
}

// observeVersions finds out whether pods do not become ready because they and the schema do not fit each other.
func (p *pass) observeVersions(ctx context.Context) error {
	if p.findings.rollout.Good() || p.state == nil || !p.findings.database.Good() {
		return nil
	}
	p.lookAgain(databaseRecheck)
	// Its version is what this pass has made it.
	state := *p.state
	state.Version = p.login.version
	misfits, err := p.Database.Misfits(ctx, p.names, state, p.Clock.Now())
	if err != nil {
		p.databaseFailed(err)
		return nil
	}
	var finding condition.Finding
	switch {
	case misfits.TooOld > 0:
		finding = condition.Failed(v1alpha1.ReasonRuntimeTooOld, fmt.Sprintf(
			"The runtime is too old: %d pods know version %d of the schema at most, and it needs one that knows version %d: upgrade the image, in spec.runtime.image or of the operator",
			misfits.TooOld, misfits.KnowsAtMost, state.Minimum))
	case misfits.TooNew > 0:
		finding = condition.Failed(v1alpha1.ReasonOperatorTooOld, fmt.Sprintf(
			"The operator is too old: %d pods need version %d of the schema, and it makes version %d: upgrade the operator, or go back to an older image",
			misfits.TooNew, misfits.NeedsAtLeast, state.Version))
	default:
		return nil
	}
	p.findings.rollout = &finding
	if !p.findings.available.Good() {
		p.findings.available = &finding
	}
	return nil
}

// availableFinding says whether enough pods serve.
func availableFinding(deployment *appsv1.Deployment) condition.Finding {
	if deployment.Spec.Replicas != nil && *deployment.Spec.Replicas == 0 {
		return condition.Failed(v1alpha1.ReasonScaledToZero, "The spec asks for no pods, so nobody is notified: raise spec.runtime.replicas")
	}
	available := deploymentCondition(deployment, appsv1.DeploymentAvailable)
	progressing := deploymentCondition(deployment, appsv1.DeploymentProgressing)
	switch {
	case available != nil && available.Status == corev1.ConditionTrue:
		return condition.OK(v1alpha1.ReasonAvailable, "Enough pods serve")
	case progressing != nil && progressing.Status == corev1.ConditionFalse:
		return condition.Failed(v1alpha1.ReasonUnavailable, fmt.Sprintf(
			"The pods do not become ready (%s): look at the events and logs of Deployment %s", progressing.Reason, deployment.Name))
	case available != nil && progressing != nil && progressing.Reason == rolloutComplete:
		return condition.Failed(v1alpha1.ReasonUnavailable, fmt.Sprintf(
			"Too few pods serve: look at the events and logs of Deployment %s", deployment.Name))
	}
	return condition.Waiting("The pods have yet to become ready")
}

// rolloutComplete is the reason of a Deployment's condition Progressing after a rollout that succeeded.
const rolloutComplete = "NewReplicaSetAvailable"

// deadlineExceeded is the reason of that condition when a rollout has made no progress for too long.
const deadlineExceeded = "ProgressDeadlineExceeded"

// rolloutFinding says whether all pods are of the latest template and ready, and no others are left, by the rules of
// kubectl rollout status.
func rolloutFinding(deployment *appsv1.Deployment) condition.Finding {
	wanted := int32(1)
	if deployment.Spec.Replicas != nil {
		wanted = *deployment.Spec.Replicas
	}
	status := deployment.Status
	progressing := deploymentCondition(deployment, appsv1.DeploymentProgressing)
	switch {
	case status.ObservedGeneration < deployment.Generation:
		return condition.Waiting("The pods are being replaced")
	case progressing != nil && progressing.Status == corev1.ConditionFalse && progressing.Reason == deadlineExceeded:
		return condition.Failed(v1alpha1.ReasonUnavailable, fmt.Sprintf(
			"The latest pods do not become ready (%s): look at the events and logs of Deployment %s", progressing.Reason, deployment.Name))
	case status.UpdatedReplicas < wanted, status.Replicas > status.UpdatedReplicas:
		return condition.Waiting("The pods are being replaced")
	case status.AvailableReplicas < status.UpdatedReplicas:
		return condition.Waiting("Not all of the latest pods are ready")
	}
	return condition.OK(v1alpha1.ReasonAvailable, "")
}

func deploymentCondition(deployment *appsv1.Deployment, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range deployment.Status.Conditions {
		if deployment.Status.Conditions[i].Type == kind {
			return &deployment.Status.Conditions[i]
		}
	}
	return nil
}
