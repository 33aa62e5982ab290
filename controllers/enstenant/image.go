package enstenant

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// ownImage is the image that the tenant's spec names, empty if it takes the operator's.
func ownImage(tenant *v1alpha1.EnsTenant) string {
	if tenant.Spec.Runtime == nil {
		return ""
	}
	return tenant.Spec.Runtime.Image
}

// chooseImage decides which image the pods are of: what the spec names, at once; the operator's own where there are no pods
// yet; else the operator's own when it is the tenant's turn, and until then the one before. Applies says whether the
// Deployment is applied in this pass.
func (p *pass) chooseImage(ctx context.Context, applies bool) error {
	key := client.ObjectKeyFromObject(p.tenant)
	deployment, err := p.runningDeployment(ctx)
	if err != nil {
		return err
	}
	if !applies {
		p.rollouts().leave(key)
	}
	switch {
	case ownImage(p.tenant) != "":
		p.rollouts().leave(key)
		p.findings.runtime = new(condition.OK(v1alpha1.ReasonOwnImage, "The pods are of the image that the spec names"))
		return nil
	case deployment == nil:
		p.rollouts().leave(key)
		p.findings.runtime = new(upToDate())
		return nil
	}
	running := desired.RuntimeImage(deployment)
	switch {
	case running == p.Image:
		p.rollouts().leave(key)
		p.judgeReplacement(deployment)
		return nil
	case p.rollouts().has(key): // the cache is late
		p.replacedImage = running
		p.findings.runtime = new(p.rollingOut())
		return nil
	case !applies:
		p.notYet(running)
		return nil
	}
	return p.takeTurn(ctx, running)
}

// notYet says that the pods stay those of an image because nothing can be applied.
func (p *pass) notYet(running string) {
	p.settings.Image = running
	p.findings.runtime = new(waitingForTurn(fmt.Sprintf(
		"Image %s, the operator's, is taken up once everything else is in place, in the tenant's turn", p.Image)))
}

// keepTurn gives the turn to somebody else if the Deployment could not be applied. After an error that may have come when
// it was applied already the turn is kept.
func (p *pass) keepTurn(err error) {
	key := client.ObjectKeyFromObject(p.tenant)
	if !p.rollouts().has(key) || err == nil && p.findings.workload.Good() {
		return
	}
	if status, refused := errors.AsType[*apierrors.StatusError](err); err != nil && (!refused || status.ErrStatus.Code >= http.StatusInternalServerError) {
		return
	}
	p.rollouts().leave(key)
	p.notYet(p.replacedImage)
}

// takeTurn has the pods replaced if it is the tenant's turn.
func (p *pass) takeTurn(ctx context.Context, running string) error {
	admitted, failed, err := p.rollouts().ask(ctx, client.ObjectKeyFromObject(p.tenant))
	if err != nil {
		return err
	}
	if admitted {
		p.replacedImage = running
		p.findings.runtime = new(p.rollingOut())
		return nil
	}
	p.settings.Image = running
	if failed == "" {
		p.findings.runtime = new(waitingForTurn(fmt.Sprintf(
			"The pods stay those of image %s until it is the tenant's turn to get %s: it is for %d tenants at a time", running, p.Image, p.rollouts().limit)))
		return nil
	}
	p.findings.runtime = new(condition.Failed(v1alpha1.ReasonHeldBack, fmt.Sprintf(
		"The pods stay those of image %s, because those of EnsTenant %s do not become ready with %s: put that tenant right, "+
			"name the image in its spec.runtime.image that it is to have, or pause it", running, failed, p.Image)))
	return nil
}

// runningDeployment is the tenant's Deployment, nil if there is none.
func (p *pass) runningDeployment(ctx context.Context) (*appsv1.Deployment, error) {
	deployment := &appsv1.Deployment{}
	name := desired.WorkloadName(p.tenant)
	missing, err := p.find(ctx, name, deployment)
	if missing {
		// That it is not in the cache proves nothing: somebody may have taken its label away.
		err = p.Live.Get(ctx, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}, deployment)
		missing = err != nil
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the Deployment: %w", err)
	}
	if missing || !desired.Owns(p.tenant)(deployment) {
		return nil, nil
	}
	return deployment, nil
}

// judgeReplacement looks how far pods of the operator's image have come that take the place of others.
func (p *pass) judgeReplacement(deployment *appsv1.Deployment) {
	replaced := desired.ReplacedImage(deployment)
	applied := p.Applier.Generation(appsv1.SchemeGroupVersion.WithKind("Deployment"), client.ObjectKeyFromObject(deployment))
	switch {
	case replaced == "", deployment.Generation >= applied && rolloutFinding(deployment).Good():
		p.findings.runtime = new(upToDate())
		return
	case rolloutFailed(deployment):
		p.findings.runtime = new(condition.Failed(v1alpha1.ReasonRolloutFailed, fmt.Sprintf(
			"The pods of image %s do not become ready, and no further tenant gets it meanwhile: look at the events and logs of Deployment %s, "+
				"or name the image before in spec.runtime.image: %s", p.Image, deployment.Name, replaced)))
	default:
		p.findings.runtime = new(p.rollingOut())
	}
	p.replacedImage = replaced
}

func upToDate() condition.Finding {
	return condition.OK(v1alpha1.ReasonUpToDate, "The pods are of the operator's image")
}

func (p *pass) rollingOut() condition.Finding {
	return condition.Finding{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRollingOut,
		Message: fmt.Sprintf("The pods are being replaced by those of image %s, the operator's", p.Image)}
}

func waitingForTurn(message string) condition.Finding {
	return condition.Finding{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonWaitingForTurn, Message: message}
}

// announceImage tells of another reason of RuntimeUpToDate as an Event; a tenant that was up to date from the beginning is
// no news.
func (p *pass) announceImage(before, after []metav1.Condition) {
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionRuntimeUpToDate), meta.FindStatusCondition(after, v1alpha1.ConditionRuntimeUpToDate)
	if is == nil || was == nil && is.Status == metav1.ConditionTrue || was != nil && was.Reason == is.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	condition.Tell(p.Recorder, p.tenant, kind, is)
}
