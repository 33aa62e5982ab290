package enstenant

import (
	"context"
	"errors"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/desired"
)

// certManagerPoll is how often the operator looks whether cert-manager has been installed: nothing tells it.
const certManagerPoll = time.Minute

// ensureCertificate asks cert-manager for the certificate if the spec wants that, and judges the one that is there.
func (p *pass) ensureCertificate(ctx context.Context) error {
	finding, err := p.tlsFinding(ctx)
	if err != nil {
		return err
	}
	if err := p.ensureAuthority(ctx, &finding); err != nil {
		return err
	}
	p.findings.tls = &finding
	return p.judgeNextCertificate(ctx)
}

func (p *pass) tlsFinding(ctx context.Context) (condition.Finding, error) {
	if p.tenant.Spec.TLS.CertManager == nil && p.findings.hostnames.Good() {
		if err := p.dropCertificate(ctx); err != nil {
			return condition.Finding{}, err
		}
	}
	switch {
	case p.tenant.Spec.TLS.CertManager != nil && !p.findings.hostnames.Good():
		// No certificate is asked for with another tenant's name in it.
		return p.judgeCertificate(ctx)
	case p.tenant.Spec.TLS.TerminatedElsewhere != nil:
		return condition.OK(v1alpha1.ReasonTerminatedElsewhere, "Something in front of the tenant serves https"), nil
	case p.tenant.Spec.TLS.CertManager != nil:
		return p.requestCertificate(ctx)
	default:
		return p.judgeCertificate(ctx)
	}
}

// requestCertificate applies the Certificate.
func (p *pass) requestCertificate(ctx context.Context) (condition.Finding, error) {
	known, err := p.certificates.ensure(p.Client.RESTMapper(), p.Client.Scheme())
	if err != nil {
		return condition.Finding{}, err
	}
	if !known {
		return p.certManagerMissing(ctx)
	}
	request := &certmanager.Certificate{}
	err = p.Applier.Apply(ctx, desired.Certificate(p.tenant), request, desired.Owns(p.tenant))
	if refused, ok := errors.AsType[*apply.NotOwnedError](err); ok {
		return condition.Stuck(v1alpha1.ReasonNotOwned, refused.Error()), nil
	}
	if kindGone(err) {
		return p.certManagerMissing(ctx)
	}
	if err != nil {
		return condition.Finding{}, err
	}
	finding, err := p.judgeCertificate(ctx)
	if err != nil {
		return condition.Finding{}, err
	}
	if finding.Reason == v1alpha1.ReasonExpiresSoon || finding.Reason == v1alpha1.ReasonExpired {
		if words := renewalFailure(request); words != "" {
			finding.Message += "; cert-manager says: " + words
		}
		return finding, nil
	}
	if finding.Good() {
		return finding, nil
	}
	if ready := readyOf(request); ready == nil || ready.Status != cmmeta.ConditionTrue {
		message := "cert-manager has not issued the certificate yet"
		if ready != nil && ready.Message != "" {
			message += ": " + ready.Message
		}
		return condition.Finding{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonCertificateNotReady, Message: message}, nil
	}
	return finding, nil
}

// certManagerMissing says that there is nobody to renew the certificate, unless it has expired already.
func (p *pass) certManagerMissing(ctx context.Context) (condition.Finding, error) {
	p.lookAgain(certManagerPoll)
	finding, err := p.judgeCertificate(ctx)
	if err != nil || finding.Reason == v1alpha1.ReasonExpired {
		return finding, err
	}
	return condition.Failed(v1alpha1.ReasonCertManagerMissing,
		"The cluster does not know Certificates: install cert-manager, or name a Secret in spec.tls.secretName"), nil
}

// renewalFailure is what cert-manager says of a renewal that did not come about, empty if it says that all is well.
func renewalFailure(request *certmanager.Certificate) string {
	for _, kind := range []certmanager.CertificateConditionType{certmanager.CertificateConditionIssuing, certmanager.CertificateConditionReady} {
		for _, found := range request.Status.Conditions {
			if found.Type == kind && found.Status == cmmeta.ConditionFalse && found.Message != "" {
				return found.Message
			}
		}
	}
	return ""
}

// kindGone reports whether an apply failed because the cluster does not know the kind any more, or is about to forget
// it: nothing can be created then, which the API server calls a method that is not allowed.
func kindGone(err error) bool {
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

func readyOf(certificate *certmanager.Certificate) *certmanager.CertificateCondition {
	for i, found := range certificate.Status.Conditions {
		if found.Type == certmanager.CertificateConditionReady {
			return &certificate.Status.Conditions[i]
		}
	}
	return nil
}

// dropCertificate removes the Certificate of a tenant that no longer wants one; cert-manager keeps its Secret.
func (p *pass) dropCertificate(ctx context.Context) error {
	if !p.certificates.watching() {
		return nil // then no tenant has asked for one since the operator began, and none is known
	}
	return p.drop(ctx, &certmanager.Certificate{}, desired.CertificateName(p.tenant))
}
