package v1alpha1_test

import (
	"testing"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

func TestNextCertificateRules(t *testing.T) {
	t.Parallel()
	tls := func(tls api.TenantTLS) *api.EnsTenant {
		return with(validTenant(), func(t *api.EnsTenant) { t.Spec.TLS = tls })
	}
	checkRules(t, map[string]rule{
		"after one in a Secret":           {tls(api.TenantTLS{SecretName: "now", NextSecretName: "next"}), ""},
		"after one of cert-manager":       {tls(api.TenantTLS{CertManager: &api.CertManagerTLS{IssuerRef: api.IssuerReference{Name: "x"}}, NextSecretName: "next"}), ""},
		"in the same Secret":              {tls(api.TenantTLS{SecretName: "now", NextSecretName: "now"}), "nextSecretName must be another Secret than secretName"},
		"of what stands in front":         {tls(api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}, NextSecretName: "next"}), "nextSecretName has no effect with terminatedElsewhere"},
		"alone, with nothing that serves": {tls(api.TenantTLS{NextSecretName: "next"}), "tls needs exactly one of"},
	})
}
