package enstenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/controllers/credentials"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
)

const (
	// expiryWarning is how long before its end a certificate should have been renewed, and warningShare the share of its
	// life, if that is shorter: cert-manager renews when a third is left, so a fifth means that it did not get through.
	expiryWarning = 14 * 24 * time.Hour
	warningShare  = 5
)

// readCertificate reads the certificate in a Secret. One that cannot be used is a finding.
func (p *pass) readCertificate(ctx context.Context, name string) (credentials.ServerCertificate, map[string][]byte, *condition.Finding, error) {
	var none credentials.ServerCertificate
	data, err := p.Foreign.Secret(ctx, p.tenant.Namespace, name)
	if err == nil {
		err = foreign.Require(name, data, desired.TLSCertificateKey, desired.TLSPrivateKeyKey)
	}
	if missing, ok := errors.AsType[*foreign.MissingError](err); ok {
		return none, nil, new(foreign.Missing(missing)), nil
	}
	if err != nil {
		return none, nil, nil, err
	}
	certificate, err := credentials.ParseServerCertificate(data[desired.TLSCertificateKey], data[desired.TLSPrivateKeyKey])
	if err != nil {
		return none, nil, new(condition.Stuck(v1alpha1.ReasonInvalid, fmt.Sprintf("Secret %s cannot be used: %v", name, err))), nil
	}
	return certificate, data, nil, nil
}

func statusOf(certificate credentials.ServerCertificate) *v1alpha1.CertificateStatus {
	return &v1alpha1.CertificateStatus{
		SHA256:          certificate.SHA256,
		PublicKeySHA256: certificate.PublicKeySHA256,
		NotAfter:        new(metav1.NewTime(certificate.NotAfter)),
	}
}

// judgeCertificate reads the certificate that the pods are to serve. It asks nobody who is to renew it, so that its end is
// noticed if they are dead.
func (p *pass) judgeCertificate(ctx context.Context) (condition.Finding, error) {
	name := desired.TLSSecretName(p.tenant)
	certificate, data, refusal, err := p.readCertificate(ctx, name)
	if err != nil {
		return condition.Finding{}, err
	}
	if refusal != nil {
		return *refusal, nil
	}
	p.findings.certificate = statusOf(certificate)
	p.authority = certificate.Authority(data[desired.AuthorityKey])
	return p.fitness(name, certificate), nil
}

// fitness judges whether a certificate is valid and holds the tenant's names.
func (p *pass) fitness(name string, certificate credentials.ServerCertificate) condition.Finding {
	left := certificate.NotAfter.Sub(p.Clock.Now())
	warning := min(expiryWarning, certificate.NotAfter.Sub(certificate.NotBefore)/warningShare)
	p.lookAgain(left)
	p.lookAgain(left - warning)
	if left <= 0 {
		return condition.Failed(v1alpha1.ReasonExpired, fmt.Sprintf("The certificate in Secret %s has expired: renew it", name))
	}
	if missed := certificate.Misses(desired.Hostnames(p.tenant)); missed != "" {
		return condition.Failed(v1alpha1.ReasonNameMismatch, fmt.Sprintf(
			"The certificate in Secret %s does not hold the name %s: have one issued that does, or correct the spec", name, missed))
	}
	if left <= warning {
		return condition.OK(v1alpha1.ReasonExpiresSoon, fmt.Sprintf(
			"The certificate in Secret %s expires at %s and should have been renewed: renew it", name, certificate.NotAfter.UTC().Format(time.RFC3339)))
	}
	return condition.OK(v1alpha1.ReasonReady, "The certificate is there and holds all names")
}

// ensureAuthority keeps the ConfigMap with the authority that issued the certificate. That another object has its name is
// said beside what was found of the certificate: everything serves without it.
func (p *pass) ensureAuthority(ctx context.Context, finding *condition.Finding) error {
	if !p.findings.hostnames.Good() {
		p.findings.caConfigMap = p.tenant.Status.CAConfigMap
		return nil // nothing of the tenant is changed
	}
	name := desired.CAName(p.tenant)
	if p.authority == nil {
		return p.drop(ctx, &corev1.ConfigMap{}, name)
	}
	refusal, err := p.applyOwn(ctx, desired.CAConfigMap(p.tenant, p.authority), &corev1.ConfigMap{})
	if err != nil {
		return err
	}
	if refusal.Good() {
		p.findings.caConfigMap = name
	} else {
		finding.Message += "; the authority that issued it is not told: " + refusal.Message
	}
	return nil
}

// judgeNextCertificate judges the certificate that is to follow, whose pin the phones are to learn before it does.
func (p *pass) judgeNextCertificate(ctx context.Context) error {
	name := string(p.tenant.Spec.TLS.NextSecretName)
	if name == "" {
		return nil
	}
	certificate, _, refusal, err := p.readCertificate(ctx, name)
	if err != nil {
		return err
	}
	if refusal == nil {
		refusal = new(p.fitness(name, certificate))
	}
	if current := p.findings.certificate; refusal.Good() && current != nil && current.PublicKeySHA256 == certificate.PublicKeySHA256 {
		refusal = new(condition.Stuck(v1alpha1.ReasonKeyUnchanged, fmt.Sprintf(
			"The certificate in Secret %s has the key of the one that is served, so phones need no other pin: make it with a new key, or remove spec.tls.nextSecretName", name)))
	}
	if refusal.Good() {
		p.findings.nextCertificate = statusOf(certificate)
		refusal.Message = fmt.Sprintf("Once all phones have the pin in status.nextCertificate.publicKeySHA256 beside the present one, set spec.tls.secretName to %s", name)
	}
	p.findings.nextTLS = refusal
	return nil
}

// announceExpiry makes a warning of a certificate that should have been renewed.
func (p *pass) announceExpiry(before, after []metav1.Condition) {
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionTLSReady), meta.FindStatusCondition(after, v1alpha1.ConditionTLSReady)
	if is != nil && is.Reason == v1alpha1.ReasonExpiresSoon && (was == nil || was.Reason != is.Reason) {
		condition.Tell(p.Recorder, p.tenant, corev1.EventTypeWarning, is)
	}
}
