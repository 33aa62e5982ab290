package enstenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
)

// certManagerPoll is how often the operator looks whether cert-manager has been installed: nothing tells it.
const certManagerPoll = time.Minute

// ensureCertificate asks cert-manager for the certificate if the spec wants that, and judges the one that is there.
func (p *pass) ensureCertificate(ctx context.Context) error {
	finding, err := p.tlsFinding(ctx)
	p.findings.tls = &finding
	if err != nil {
		p.findings.tls = nil
	}
	return err
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
		p.lookAgain(certManagerPoll)
		return certManagerMissing(), nil
	}
	request := &certmanager.Certificate{}
	err = p.Applier.Apply(ctx, desired.Certificate(p.tenant), request, desired.Owns(p.tenant))
	if refused, ok := errors.AsType[*apply.NotOwnedError](err); ok {
		return condition.Stuck(v1alpha1.ReasonNotOwned, refused.Error()), nil
	}
	if kindGone(err) {
		p.lookAgain(certManagerPoll)
		return certManagerMissing(), nil
	}
	if err != nil {
		return condition.Finding{}, err
	}
	finding, err := p.judgeCertificate(ctx)
	if err != nil || finding.Good() {
		return finding, err
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

func certManagerMissing() condition.Finding {
	return condition.Failed(v1alpha1.ReasonCertManagerMissing,
		"The cluster does not know Certificates: install cert-manager, or name a Secret in spec.tls.secretName")
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

// judgeCertificate reads the certificate that the pods are to serve.
func (p *pass) judgeCertificate(ctx context.Context) (condition.Finding, error) {
	name := desired.TLSSecretName(p.tenant)
	data, err := p.Foreign.Secret(ctx, p.tenant.Namespace, name)
	if err == nil {
		err = foreign.Require(name, data, desired.TLSCertificateKey, desired.TLSPrivateKeyKey)
	}
	if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
		return foreign.Missing(missing), nil
	}
	if err != nil {
		return condition.Finding{}, err
	}
	certificate, err := credentials.ParseServerCertificate(data[desired.TLSCertificateKey], data[desired.TLSPrivateKeyKey])
	if err != nil {
		return condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s cannot be used: %v", name, err)), nil
	}
	p.findings.certificate = &v1alpha1.CertificateStatus{
		SHA256:          certificate.SHA256,
		PublicKeySHA256: certificate.PublicKeySHA256,
		NotAfter:        new(metav1.NewTime(certificate.NotAfter)),
	}
	left := certificate.NotAfter.Sub(p.Clock.Now())
	p.lookAgain(left)
	if left <= 0 {
		return condition.Failed(v1alpha1.ReasonExpired, fmt.Sprintf("The certificate in Secret %s has expired: renew it", name)), nil
	}
	if missed := certificate.Misses(desired.Hostnames(p.tenant)); missed != "" {
		return condition.Failed(v1alpha1.ReasonNameMismatch, fmt.Sprintf(
			"The certificate in Secret %s does not hold the name %s: have one issued that does, or correct the spec", name, missed)), nil
	}
	return condition.OK(v1alpha1.ReasonReady, "The certificate is there and holds all names"), nil
}
