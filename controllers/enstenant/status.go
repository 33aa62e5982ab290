package enstenant

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// findings are what the phases found; nil is what a pass did not get to.
type findings struct {
	// before is the tenant as it was read, to which the status is compared.
	before *v1alpha1.EnsTenant

	hostnames, references, secrets, database, tls, workload, available, rollout, rotation, keysRotated, runtime, nextTLS *condition.Finding

	// password is about a change of the database password.
	password *condition.Finding

	// exposed is nil, too, for a tenant that is not exposed, and where everything was left as it was. addresses are where
	// the tenant is reached.
	exposed   *condition.Finding
	addresses []string

	certificate        *v1alpha1.CertificateStatus
	nextCertificate    *v1alpha1.CertificateStatus
	caConfigMap        string
	autodiscoverBundle *v1alpha1.BundleStatus
	apiToken           *v1alpha1.APITokenStatus
	keys               *v1alpha1.KeysStatus
	tracingBundle      *v1alpha1.BundleStatus
	replicas           int32
}

// writeStatus says what was found. Only a pass that got through all phases may speak of the whole and of the
// generation.
func (p *pass) writeStatus(ctx context.Context, complete bool) error {
	now := metav1.NewTime(p.Clock.Now())
	conditions := p.tenant.Status.Conditions
	if complete {
		p.setFields()
		provisioned := p.provisionedFinding()
		conditions = condition.Set(conditions, p.tenant.Generation, now,
			condition.Typed{Type: v1alpha1.ConditionReady, Finding: p.readyFinding(provisioned)},
			condition.Typed{Type: v1alpha1.ConditionProvisioned, Finding: provisioned})
	}
	for _, found := range []struct {
		kind    string
		finding *condition.Finding
	}{
		{v1alpha1.ConditionHostnamesAccepted, p.findings.hostnames},
		{v1alpha1.ConditionReferencesResolved, p.findings.references},
		{v1alpha1.ConditionSecretsReady, p.findings.secrets},
		{v1alpha1.ConditionDatabaseReady, p.findings.database},
		{v1alpha1.ConditionTLSReady, p.findings.tls},
		{v1alpha1.ConditionExposed, p.findings.exposed},
		{v1alpha1.ConditionAvailable, p.findings.available},
		{v1alpha1.ConditionAPITokenRotated, p.findings.rotation},
		{v1alpha1.ConditionDatabasePasswordReplaced, p.findings.password},
		{v1alpha1.ConditionKeysRotated, p.findings.keysRotated},
		{v1alpha1.ConditionRuntimeUpToDate, p.findings.runtime},
		{v1alpha1.ConditionNextCertificateReady, p.findings.nextTLS},
	} {
		if found.finding != nil {
			conditions = condition.Set(conditions, p.tenant.Generation, now, condition.Typed{Type: found.kind, Finding: *found.finding})
		}
	}
	meta.RemoveStatusCondition(&conditions, v1alpha1.ConditionPaused)
	if p.tenant.Spec.TLS.NextSecretName == "" {
		meta.RemoveStatusCondition(&conditions, v1alpha1.ConditionNextCertificateReady)
	}
	if p.exposure() == v1alpha1.ExposureNone {
		meta.RemoveStatusCondition(&conditions, v1alpha1.ConditionExposed)
	}
	if p.findings.password == nil && p.login.role != "" {
		meta.RemoveStatusCondition(&conditions, v1alpha1.ConditionDatabasePasswordReplaced)
	}
	p.tenant.Status.Conditions = conditions
	before := p.findings.before
	ctx, cancel := statusContext(ctx)
	defer cancel()
	if err := p.statuses.Patch(ctx, p.Client, before, p.tenant); err != nil {
		return client.IgnoreNotFound(err)
	}
	measure(p.tenant)
	condition.Announce(p.Recorder, p.tenant, before.Status.Conditions, conditions)
	p.announceExpiry(before.Status.Conditions, conditions)
	p.announceImage(before.Status.Conditions, conditions)
	if p.findings.runtime != nil {
		count(client.ObjectKeyFromObject(p.tenant), p.findings.runtime.Reason)
	}
	return nil
}

// statusTimeout bounds the writing of a status.
const statusTimeout = 10 * time.Second

// statusContext has time left for writing a status when ctx has none.
func statusContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
}

// setFields writes everything of the status but the conditions.
func (p *pass) setFields() {
	status := &p.tenant.Status
	status.ObservedGeneration = p.tenant.Generation
	// A name that the spec has given up may stand in what could not be changed yet.
	if p.findings.hostnames.Good() && p.findings.workload.Good() && (p.findings.exposed == nil || p.findings.exposed.Status != metav1.ConditionFalse) {
		status.AcceptedHostnames = nil
		for _, hostname := range desired.Hostnames(p.tenant) {
			status.AcceptedHostnames = append(status.AcceptedHostnames, v1alpha1.Hostname(hostname))
		}
	}
	status.URL = desired.URL(p.tenant)
	if p.findings.exposed != nil || p.exposure() == v1alpha1.ExposureNone {
		status.Addresses = p.findings.addresses
	}
	status.Replicas = p.findings.replicas
	status.Selector = labels.SelectorFromSet(desired.SelectorLabels(p.tenant)).String()
	status.Effective = &p.settings
	status.Secrets = &v1alpha1.TenantSecrets{
		Boxer:    desired.BoxerName(p.tenant),
		APIToken: desired.APITokenName(p.tenant),
		Keys:     desired.KeysName(p.tenant),
	}
	if own := p.tenant.Spec.APIToken; own != nil && own.SecretName != "" {
		status.Secrets.APIToken = string(own.SecretName)
	}
	status.APIToken = p.findings.apiToken
	if p.findings.keys != nil {
		status.Keys = p.findings.keys
	}
	if p.login.version > 0 {
		status.Database = p.databaseStatus()
	}
	status.Certificate = p.findings.certificate
	status.PushProviders = p.pushProviders()
	status.NextCertificate = p.findings.nextCertificate
	status.CAConfigMap = p.findings.caConfigMap
	status.AutodiscoverCABundle = p.findings.autodiscoverBundle
	status.TracingCABundle = p.findings.tracingBundle
}

// provisionedFinding sums up everything but the running pods.
func (p *pass) provisionedFinding() condition.Finding {
	return condition.Summarize(v1alpha1.ReasonReady, "Everything but the running pods is in place",
		*p.findings.hostnames, *p.findings.references, *p.findings.secrets, *p.findings.database, *p.findings.tls, *p.findings.workload)
}

// readyFinding sums up everything.
func (p *pass) readyFinding(provisioned condition.Finding) condition.Finding {
	ready := condition.Summarize(v1alpha1.ReasonReady, "The tenant serves", provisioned, p.exposureNeeded(), *p.findings.available, *p.findings.rollout)
	if ready.Status == metav1.ConditionUnknown {
		// What exactly is waited for is in the message and in the other conditions.
		ready.Reason = v1alpha1.ReasonProgressing
	}
	return ready
}
