package enstenant

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// resolveReferences looks up what the spec names. While something cannot be used, nothing of its kind that was rendered
// before is taken away: a reference that is missing, or replaced by one that does not exist yet, never shrinks a tenant
// that runs.
func (p *pass) resolveReferences(ctx context.Context) error {
	last, rendered, err := p.lastRendered(ctx)
	if err != nil {
		return err
	}
	var found []condition.Finding
	for _, name := range p.tenant.Spec.Endpoints {
		finding, err := p.resolveEndpoint(ctx, string(name))
		if err != nil {
			return err
		}
		found = append(found, finding)
	}
	for _, names := range p.references.WithdrawClashes() {
		found = append(found, condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf(
			"EwsEndpoints %s have the same address: correct the url of one, or remove it from spec.endpoints", strings.Join(names, " and "))))
	}
	endpoints := condition.Summarize("", "", found...)
	ofEndpoints := len(found)
	for _, name := range p.tenant.Spec.PushProviders {
		finding, err := p.resolveProvider(ctx, string(name))
		if err != nil {
			return err
		}
		found = append(found, finding)
	}
	providers := condition.Summarize("", "", found[ofEndpoints:]...)
	autodiscover, err := p.resolveAutodiscover(ctx)
	if err != nil {
		return err
	}
	tracing, err := p.resolveTracing(ctx)
	if err != nil {
		return err
	}
	found = append(found, autodiscover, tracing)
	if !endpoints.Good() {
		p.references.CarryEndpoints(last)
	}
	if !providers.Good() {
		p.references.CarryProviders(last)
	}
	if !autodiscover.Good() {
		p.references.CarryAutodiscover(last)
	}
	if !tracing.Good() {
		p.references.CarryTracing(last)
	}
	p.references.Sort()
	p.settings.Autodiscover = desired.AutodiscoverSettings(p.references)
	p.settings.Tracing = desired.TracingSettings(p.references)
	p.findings.references = summarizeReferences(found)
	p.renderable = rendered || p.findings.references.Good()
	return nil
}

// summarizeReferences takes the status and reason of the worst and tells of all.
func summarizeReferences(found []condition.Finding) *condition.Finding {
	worst := condition.Summarize(v1alpha1.ReasonResolved, "Everything that is referred to can be used", found...)
	if worst.Good() {
		return &worst
	}
	var messages []string
	for _, finding := range found {
		if finding.Status == worst.Status {
			messages = append(messages, finding.Message)
		}
	}
	worst.Message = strings.Join(messages, "; ")
	return &worst
}

func (p *pass) resolveEndpoint(ctx context.Context, name string) (condition.Finding, error) {
	endpoint := &v1alpha1.EwsEndpoint{}
	missing, err := p.find(ctx, name, endpoint)
	if missing || err != nil {
		return notFound("EwsEndpoint", name, "spec.endpoints"), err
	}
	finding := usable("EwsEndpoint", endpoint, endpoint.Status.ObservedGeneration, endpoint.Status.Conditions, v1alpha1.ConditionReady)
	if !finding.Good() {
		return finding, nil
	}
	if err := p.references.AddEndpoint(endpoint); err != nil {
		return condition.Failed(v1alpha1.ReasonInvalid, fmt.Sprintf("EwsEndpoint %s cannot be used: %v", name, err)), nil
	}
	return finding, nil
}

func (p *pass) resolveProvider(ctx context.Context, name string) (condition.Finding, error) {
	provider := &v1alpha1.PushProvider{}
	missing, err := p.find(ctx, name, provider)
	if missing || err != nil {
		return notFound("PushProvider", name, "spec.pushProviders"), err
	}
	// That a service refuses the credential makes the provider not Ready, and must not keep a corrected one from the pods.
	finding := usable("PushProvider", provider, provider.Status.ObservedGeneration, provider.Status.Conditions,
		v1alpha1.ConditionAccepted, v1alpha1.ConditionReferencesResolved)
	if !finding.Good() {
		return finding, nil
	}
	if err := p.references.AddProvider(provider); err != nil {
		return condition.Failed(v1alpha1.ReasonInvalid, fmt.Sprintf("PushProvider %s cannot be used: %v", name, err)), nil
	}
	return finding, nil
}

// resolveAutodiscover judges the bundle that Autodiscover's hosts are verified against.
func (p *pass) resolveAutodiscover(ctx context.Context) (condition.Finding, error) {
	autodiscover := p.tenant.Spec.Autodiscover
	if autodiscover == nil {
		return condition.OK(v1alpha1.ReasonResolved, ""), nil
	}
	bundle, err := p.Foreign.JudgeBundle(ctx, p.tenant.Namespace, autodiscover.CABundle, p.Clock.Now())
	if err != nil {
		return condition.Finding{}, err
	}
	p.findings.autodiscoverBundle = bundle.Status
	p.lookAgain(bundle.LookAgain)
	if bundle.Good() {
		p.references.AddAutodiscover(autodiscover)
		return bundle.Finding, nil
	}
	bundle.Message = "spec.autodiscover.caBundle: " + bundle.Message
	return bundle.Finding, nil
}

// resolveTracing judges the bundle that the collector of traces is verified against.
func (p *pass) resolveTracing(ctx context.Context) (condition.Finding, error) {
	tracing := p.tenant.Spec.Tracing
	if tracing == nil {
		return condition.OK(v1alpha1.ReasonResolved, ""), nil
	}
	bundle, err := p.Foreign.JudgeBundle(ctx, p.tenant.Namespace, tracing.CABundle, p.Clock.Now())
	if err != nil {
		return condition.Finding{}, err
	}
	p.findings.tracingBundle = bundle.Status
	p.lookAgain(bundle.LookAgain)
	if bundle.Good() {
		p.references.AddTracing(tracing)
		return bundle.Finding, nil
	}
	bundle.Message = "spec.tracing.caBundle: " + bundle.Message
	return bundle.Finding, nil
}

func (p *pass) find(ctx context.Context, name string, into client.Object) (missing bool, err error) {
	err = p.Client.Get(ctx, client.ObjectKey{Namespace: p.tenant.Namespace, Name: name}, into)
	return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
}

func notFound(kind, name, field string) condition.Finding {
	return condition.Failed(v1alpha1.ReasonNotFound, fmt.Sprintf("%s %s does not exist: create it or remove it from %s", kind, name, field))
}

// usable judges an object that a tenant names by those of that object's own conditions that decide.
func usable(kind string, object client.Object, observed int64, conditions []metav1.Condition, decisive ...string) condition.Finding {
	if !object.GetDeletionTimestamp().IsZero() {
		return condition.Failed(v1alpha1.ReasonNotReady, fmt.Sprintf("%s %s is being deleted: create it anew or remove it from the spec", kind, object.GetName()))
	}
	for _, kindOf := range decisive {
		found := meta.FindStatusCondition(conditions, kindOf)
		switch {
		case found == nil || observed != object.GetGeneration() || found.Status == metav1.ConditionUnknown:
			return condition.Waiting(fmt.Sprintf("%s %s has yet to be looked at", kind, object.GetName()))
		case found.Status == metav1.ConditionFalse:
			return condition.Failed(v1alpha1.ReasonNotReady, fmt.Sprintf("%s %s is not ready: %s", kind, object.GetName(), found.Message))
		}
	}
	return condition.OK(v1alpha1.ReasonResolved, "")
}

// lastRendered reads what is rendered now, and whether anything is.
func (p *pass) lastRendered(ctx context.Context) (desired.References, bool, error) {
	rendered := &corev1.ConfigMap{}
	missing, err := p.find(ctx, desired.RuntimeName(p.tenant), rendered)
	if err != nil || missing || !desired.Owns(p.tenant)(rendered) {
		return desired.References{}, false, err
	}
	last, err := desired.LastRendered(rendered.Data)
	if err != nil {
		// Somebody has spoiled it; it is rendered anew once everything is resolved.
		log.FromContext(ctx).Info("Ignored what was last rendered", "reason", err.Error())
		return desired.References{}, false, nil
	}
	return last, true, nil
}
