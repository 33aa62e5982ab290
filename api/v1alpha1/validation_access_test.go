package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

func allowing(methods ...api.AuthenticationMethod) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.AuthenticationMethods = methods })
}

func behindGateway(deviceID, devices api.HeaderName) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) {
		e.Spec.SecureEmailGateway = &api.SecureEmailGateway{DeviceIDHeader: deviceID, DevicesHeader: devices}
	})
}

func gatewayAllowing(methods ...api.AuthenticationMethod) *api.EwsEndpoint {
	return with(behindGateway("", ""), func(e *api.EwsEndpoint) { e.Spec.AuthenticationMethods = methods })
}

func speaking(version api.TLSVersion) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.MinTLSVersion = version })
}

func running(version api.ServerVersion) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.ServerVersion = version })
}

func TestEndpointAccessRules(t *testing.T) {
	t.Parallel()
	checkRules(t, map[string]rule{
		"every authentication method":       {allowing(api.AuthenticationBasic, api.AuthenticationNTLM, api.AuthenticationOAuth, api.AuthenticationClientCertificate), ""},
		"a method in small letters":         {allowing("basic"), "Unsupported value"},
		"a method twice":                    {allowing(api.AuthenticationBasic, api.AuthenticationBasic), "Duplicate value"},
		"a gateway with its usual headers":  {behindGateway("", ""), ""},
		"a gateway with other headers":      {behindGateway("X-Device_1", "X-Devices"), ""},
		"a gateway that lets all else pass": {gatewayAllowing(api.AuthenticationBasic, api.AuthenticationOAuth, api.AuthenticationClientCertificate), ""},
		"a gateway with NTLM": {gatewayAllowing(api.AuthenticationBasic, api.AuthenticationNTLM),
			"must not hold NTLM together with secureEmailGateway, because NTLM"},
		"a header with a space":              {behindGateway("Device Id", ""), "must be the name of a header"},
		"a header with a colon":              {behindGateway("", "Devices:"), "must be the name of a header"},
		"a header that begins with a hyphen": {behindGateway("-Device", ""), "must be the name of a header"},
		"a header with a line break":         {behindGateway("Device\nX", ""), "must be the name of a header"},
		"a header of 64 letters":             {behindGateway(api.HeaderName(strings.Repeat("a", 64)), ""), ""},
		"a header of 65 letters":             {behindGateway(api.HeaderName(strings.Repeat("a", 65)), ""), "Too long"},
		"one header for both":                {behindGateway("X-Devices", "x-devices"), "must not be the same header"},
		"the other header's usual name":      {behindGateway("ensdevices", ""), "must not be the same header"},
		"the first header's usual name":      {behindGateway("", "Request-DeviceID"), "must not be the same header"},
		"the usual names the other way":      {behindGateway("EnsDevices", "Request-DeviceId"), ""},
		"the oldest TLS":                     {speaking(api.TLS10), ""},
		"TLS 1.1":                            {speaking(api.TLS11), ""},
		"TLS 1.2":                            {speaking(api.TLS12), ""},
		"the newest TLS":                     {speaking(api.TLS13), ""},
		"SSL":                                {speaking("VersionSSL30"), "Unsupported value"},
		"TLS in plain numbers":               {speaking("1.2"), "Unsupported value"},
		"Exchange 2010 SP1":                  {running(api.Exchange2010SP1), ""},
		"Exchange 2010 SP2":                  {running(api.Exchange2010SP2), ""},
		"Exchange 2013":                      {running(api.Exchange2013), ""},
		"Exchange 2007":                      {running("Exchange2007_SP1"), "Unsupported value"},
	})
}

func asking(change func(*api.TenantAutodiscover)) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) {
		t.Spec.Autodiscover = &api.TenantAutodiscover{Domains: []api.Domain{"example.com"}}
		change(t.Spec.Autodiscover)
	})
}

func askingAt(domains ...api.Domain) *api.EnsTenant {
	return asking(func(a *api.TenantAutodiscover) { a.Domains = domains })
}

func askingFor(seconds int32) *api.EnsTenant {
	return asking(func(a *api.TenantAutodiscover) { a.CacheSeconds = seconds })
}

func askingVerifiedBy(bundle *api.CertificateBundle) *api.EnsTenant {
	return asking(func(a *api.TenantAutodiscover) { a.CABundle = bundle })
}

func manyDomains(count int) []api.Domain {
	var domains []api.Domain
	for i := range count {
		domains = append(domains, api.Domain(fmt.Sprintf("d%d.example.com", i)))
	}
	return domains
}

func TestAutodiscoverRules(t *testing.T) {
	t.Parallel()
	longest := api.Domain(strings.Repeat("a.", 126) + "a")
	checkRules(t, map[string]rule{
		"a domain":                     {askingAt("example.com"), ""},
		"several domains":              {askingAt("example.com", "mail.example.com", "xn--mller-kva.example"), ""},
		"a hundred domains":            {askingAt(manyDomains(100)...), ""},
		"a hundred and one":            {askingAt(manyDomains(101)...), "must have at most 100 items"},
		"no domain":                    {askingAt([]api.Domain{}...), "spec.autodiscover.domains"},
		"a domain twice":               {askingAt("example.com", "example.com"), "Duplicate value"},
		"a single label":               {askingAt("localhost"), "a domain of at least two labels"},
		"a domain in capitals":         {askingAt("Example.com"), "a domain of at least two labels in lower case"},
		"a domain with a dot at last":  {askingAt("example.com."), "a domain of at least two labels"},
		"a domain with a star":         {askingAt("*.example.com"), "a domain of at least two labels"},
		"an e-mail address":            {askingAt("user@example.com"), "a domain of at least two labels"},
		"an address":                   {askingAt("192.0.2.1"), "must be a domain, not an IP address"},
		"an IPv6 address":              {askingAt("2001:db8::1"), "a domain of at least two labels"},
		"a label of 64 letters":        {askingAt(api.Domain(strings.Repeat("a", 64) + ".com")), "a domain of at least two labels"},
		"a domain of 253 letters":      {askingAt(longest), ""},
		"a domain of 254 letters":      {askingAt(longest + "a"), "Too long"},
		"a method of its own":          {asking(func(a *api.TenantAutodiscover) { a.AuthenticationMethods = []api.AuthenticationMethod{"NTLM"} }), ""},
		"an unknown method":            {asking(func(a *api.TenantAutodiscover) { a.AuthenticationMethods = []api.AuthenticationMethod{"Kerberos"} }), "Unsupported value"},
		"a bundle in a ConfigMap":      {askingVerifiedBy(&api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "ca", Key: "ca.crt"}}), ""},
		"a bundle in a Secret":         {askingVerifiedBy(&api.CertificateBundle{Secret: &api.SecretKeyReference{Name: "ca", Key: "ca.crt"}}), ""},
		"a bundle from nowhere":        {askingVerifiedBy(&api.CertificateBundle{}), "exactly one of configMap and secret"},
		"answers that hold for a day":  {askingFor(86_400), ""},
		"answers that hold for longer": {askingFor(86_401), "should be less than or equal to 86400"},
		"answers that hold for less":   {askingFor(-1), "should be greater than or equal to 1"},
	})
}

func TestTenantTLSVersionRules(t *testing.T) {
	t.Parallel()
	serving := func(tls api.TenantTLS, version api.TLSVersion) client.Object {
		tls.MinTLSVersion = version
		return with(validTenant(), func(t *api.EnsTenant) { t.Spec.TLS = tls })
	}
	secret, elsewhere := api.TenantTLS{SecretName: "acme-tls"}, api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
	issuer := api.TenantTLS{CertManager: &api.CertManagerTLS{IssuerRef: api.IssuerReference{Name: "ca"}}}
	checkRules(t, map[string]rule{
		"with a Secret":           {serving(secret, api.TLS10), ""},
		"with cert-manager":       {serving(issuer, api.TLS13), ""},
		"an unknown version":      {serving(secret, "TLSv1.2"), "Unsupported value"},
		"where plain http serves": {serving(elsewhere, api.TLS12), "has no effect with terminatedElsewhere"},
		"nothing else":            {serving(api.TenantTLS{}, api.TLS12), "tls needs exactly one of"},
	})
}

func carrying(token api.TenantAPIToken) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.APIToken = &token })
}

func TestAPITokenRules(t *testing.T) {
	t.Parallel()
	const tooOften = "rotateEveryDays must be more than overlapDays"
	checkRules(t, map[string]rule{
		"nothing in particular":                    {carrying(api.TenantAPIToken{}), ""},
		"a Secret of one's own":                    {carrying(api.TenantAPIToken{SecretName: "mine"}), ""},
		"a Secret of one's own, by schedule":       {carrying(api.TenantAPIToken{SecretName: "mine", RotateEveryDays: 90}), "with secretName, rotate the token in that Secret"},
		"a Secret of one's own, with an overlap":   {carrying(api.TenantAPIToken{SecretName: "mine", OverlapDays: new(int32(1))}), "with secretName, rotate the token in that Secret"},
		"every 31 days":                            {carrying(api.TenantAPIToken{RotateEveryDays: 31}), ""},
		"every 30 days":                            {carrying(api.TenantAPIToken{RotateEveryDays: 30}), tooOften},
		"every day, the one before ending at once": {carrying(api.TenantAPIToken{RotateEveryDays: 1, OverlapDays: new(int32(0))}), ""},
		"every week with a week's overlap":         {carrying(api.TenantAPIToken{RotateEveryDays: 7, OverlapDays: new(int32(7))}), tooOften},
		"an overlap of two years":                  {carrying(api.TenantAPIToken{OverlapDays: new(int32(730))}), "less than or equal to 365"},
	})
}

func TestPinningRules(t *testing.T) {
	t.Parallel()
	pinnedBy := func(pinning api.EndpointPinning) *api.EwsEndpoint {
		return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.Pinning = pinning })
	}
	pin := api.Fingerprint(strings.Repeat("ab", 32))
	const exactlyOne = "exactly one of pinned, certificateAuthority and trustOnFirstUse"
	checkRules(t, map[string]rule{
		"trust on first use":           {pinnedBy(api.EndpointPinning{TrustOnFirstUse: &api.TrustOnFirstUse{}}), ""},
		"a certificate":                {pinnedBy(api.EndpointPinning{Pinned: &api.PinnedCertificates{SHA256: []api.Fingerprint{pin}}}), ""},
		"a public key":                 {pinnedBy(api.EndpointPinning{Pinned: &api.PinnedCertificates{PublicKeySHA256: []api.Fingerprint{pin}}}), ""},
		"a public key that is none":    {pinnedBy(api.EndpointPinning{Pinned: &api.PinnedCertificates{PublicKeySHA256: []api.Fingerprint{"x"}}}), "should be at least 64"},
		"no fingerprint":               {pinnedBy(api.EndpointPinning{Pinned: &api.PinnedCertificates{}}), "pinned needs fingerprints"},
		"nothing":                      {pinnedBy(api.EndpointPinning{}), exactlyOne},
		"a pin and trust on first use": {pinnedBy(api.EndpointPinning{Pinned: &api.PinnedCertificates{SHA256: []api.Fingerprint{pin}}, TrustOnFirstUse: &api.TrustOnFirstUse{}}), exactlyOne},
	})
}
