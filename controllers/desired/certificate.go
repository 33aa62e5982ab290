package desired

import (
	"cmp"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	applycertmanager "github.com/cert-manager/cert-manager/pkg/client/applyconfigurations/certmanager/v1"
	applycmmeta "github.com/cert-manager/cert-manager/pkg/client/applyconfigurations/meta/v1"

	applycore "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// certificateKeyBits: RSA with 2,048 bits is what every Exchange server that is still in use can verify.
const certificateKeyBits = 2048

// Certificate asks cert-manager for the tenant's certificate; nil if the tenant does not.
func Certificate(tenant *v1alpha1.EnsTenant) *applycertmanager.CertificateApplyConfiguration {
	request := tenant.Spec.TLS.CertManager
	if request == nil {
		return nil
	}
	// The key is kept for ever: phones may pin it (K-17).
	key := applycertmanager.CertificatePrivateKey().
		WithRotationPolicy(certmanager.RotationPolicyNever).
		WithAlgorithm(certmanager.RSAKeyAlgorithm).
		WithSize(certificateKeyBits)
	issuer := applycmmeta.IssuerReference().
		WithName(string(request.IssuerRef.Name)).
		WithKind(cmp.Or(request.IssuerRef.Kind, certmanager.IssuerKind)).
		WithGroup(cmp.Or(request.IssuerRef.Group, certmanager.SchemeGroupVersion.Group))
	return applycertmanager.Certificate(CertificateName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithOwnerReferences(ownerOf(tenant)).
		WithSpec(applycertmanager.CertificateSpec().
			WithSecretName(CertificateName(tenant)).
			WithDNSNames(Hostnames(tenant)...).
			WithUsages(certmanager.UsageDigitalSignature, certmanager.UsageKeyEncipherment, certmanager.UsageServerAuth).
			WithPrivateKey(key).
			WithIssuerRef(issuer))
}

// AuthorityKey is the key under which the ConfigMap, like a Secret of cert-manager's, holds the authority.
const AuthorityKey = "ca.crt"

// CAConfigMap holds the authority that issued the tenant's certificate, in PEM, for import into Exchange (W-20).
func CAConfigMap(tenant *v1alpha1.EnsTenant, authority []byte) *applycore.ConfigMapApplyConfiguration {
	return applycore.ConfigMap(CAName(tenant), tenant.Namespace).
		WithLabels(Labels(tenant)).
		WithOwnerReferences(ownerOf(tenant)).
		WithData(map[string]string{AuthorityKey: string(authority)})
}
