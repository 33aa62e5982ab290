package v1alpha1_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
)

var (
	fingerprint = api.Fingerprint(strings.Repeat("0a", 32))
	colons      = api.Fingerprint(strings.TrimSuffix(strings.Repeat("0A:", 32), ":"))
)

func validEndpoint() *api.EwsEndpoint {
	return &api.EwsEndpoint{
		ObjectMeta: metav1.ObjectMeta{Name: "exchange"},
		Spec: api.EwsEndpointSpec{
			URL:     "https://mail.example.com/EWS/Exchange.asmx",
			Pinning: api.EndpointPinning{Pinned: &api.PinnedCertificates{SHA256: []api.Fingerprint{fingerprint}}},
		},
	}
}

func validAPNs() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "apple"},
		Spec: api.PushProviderSpec{APNs: &api.APNsProvider{
			TeamID: "TEAM123456", KeyID: "KEY1234567", Topics: []api.AppID{"com.example.mail"},
			KeySecretRef: &api.SecretKeyReference{Name: "apns-key", Key: "key.p8"},
		}},
	}
}

func validFCM() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "google"},
		Spec: api.PushProviderSpec{FCM: &api.FCMProvider{
			ProjectID:               "example-mail",
			ServiceAccountSecretRef: api.SecretKeyReference{Name: "fcm", Key: "service-account.json"},
		}},
	}
}

func validSNS() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "amazon"},
		Spec: api.PushProviderSpec{SNS: &api.SNSProvider{
			PlatformApplicationARN: "arn:aws:sns:eu-central-1:123456789012:app/APNS/mail",
			Credentials: api.SNSCredentials{AccessKey: &api.SNSAccessKey{
				AccessKeyIDSecretRef:     api.SecretKeyReference{Name: "amazon", Key: "access-key-id"},
				SecretAccessKeySecretRef: api.SecretKeyReference{Name: "amazon", Key: "secret-access-key"},
			}},
		}},
	}
}

func sns(change func(*api.SNSProvider)) *api.PushProvider {
	return with(validSNS(), func(p *api.PushProvider) { change(p.Spec.SNS) })
}

// role has a provider take an IAM role.
func role(arn string) *api.PushProvider {
	return sns(func(s *api.SNSProvider) {
		s.Credentials = api.SNSCredentials{WebIdentity: &api.SNSWebIdentity{RoleARN: arn}}
	})
}

func validCNS() *api.PushProvider {
	return &api.PushProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "vmware"},
		Spec: api.PushProviderSpec{CNS: &api.CNSProvider{
			SigningCertificate: api.PKCS12Certificate{
				PFXSecretRef:      api.SecretKeyReference{Name: "cns", Key: "signing.pfx"},
				PasswordSecretRef: api.SecretKeyReference{Name: "cns", Key: "password"},
			},
		}},
	}
}

func cns(change func(*api.CNSProvider)) *api.PushProvider {
	return with(validCNS(), func(p *api.PushProvider) { change(p.Spec.CNS) })
}

func proxiedBy(url api.ProxyURL) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) { p.Spec.Proxy = &api.ForwardProxy{URL: url} })
}

func validTenant() *api.EnsTenant {
	return &api.EnsTenant{
		ObjectMeta: metav1.ObjectMeta{Name: "acme"},
		Spec: api.EnsTenantSpec{
			Hostname:      "ens.example.com",
			Endpoints:     []api.ResourceName{"exchange"},
			PushProviders: []api.ResourceName{"apple"},
			TLS:           api.TenantTLS{SecretName: "acme-tls"},
		},
	}
}

func tracedTo(url api.CollectorURL) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.Tracing = &api.TenantTracing{Endpoint: url} })
}

// A rule is an object and what the API server's refusal must say; empty is accepted.
type rule struct {
	object client.Object
	says   string
}

func with[T client.Object](object T, change func(T)) T {
	change(object)
	return object
}

func endpointAt(url api.HTTPSURL) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.URL = url })
}

func pinnedTo(pin api.Fingerprint) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.Pinning.Pinned.SHA256[0] = pin })
}

func calledEndpoint(name string) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Name = name })
}

// certified has a provider sign in to Apple with a certificate instead of a key. Change may be nil.
func certified(change func(*api.APNsProvider)) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) {
		p.Spec.APNs.TeamID, p.Spec.APNs.KeyID, p.Spec.APNs.KeySecretRef = "", "", nil
		p.Spec.APNs.Certificate = &api.PKCS12Certificate{
			PFXSecretRef:      api.SecretKeyReference{Name: "apns", Key: "certificate.pfx"},
			PasswordSecretRef: api.SecretKeyReference{Name: "apns", Key: "password"},
		}
		if change != nil {
			change(p.Spec.APNs)
		}
	})
}

func calledProvider(name string) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) { p.Name = name })
}

func endpointWithin(seconds int32) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.Limits = &api.EndpointLimits{TimeoutSeconds: seconds} })
}

func namingItself(userAgent string) *api.EwsEndpoint {
	return with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.UserAgent = userAgent })
}

func providerWithin(seconds int32) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) { p.Spec.Limits = &api.PushLimits{TimeoutSeconds: seconds} })
}

func apnsAt(url api.HTTPSURL) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.URL = url })
}

func fcmAt(url, tokenURL api.HTTPSURL) *api.PushProvider {
	return with(validFCM(), func(p *api.PushProvider) { p.Spec.FCM.URL, p.Spec.FCM.TokenURL = url, tokenURL })
}

func topic(id api.AppID) *api.PushProvider {
	return with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.Topics = []api.AppID{id} })
}

func callbackTo(url api.CallbackURL) *api.EnsTenant {
	return with(validTenant(), func(t *api.EnsTenant) { t.Spec.CallbackURL = url })
}

func TestEndpointRules(t *testing.T) {
	t.Parallel()
	bundle := &api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "ca", Key: "ca.crt"}}
	checkRules(t, map[string]rule{
		"a usual endpoint":             {validEndpoint(), ""},
		"a port":                       {endpointAt("https://mail.example.com:8443/EWS/Exchange.asmx"), ""},
		"an IPv4 address":              {endpointAt("https://192.0.2.1/EWS/Exchange.asmx"), ""},
		"a host in capitals":           {endpointAt("https://MAIL.example.com/EWS/Exchange.asmx"), ""},
		"http":                         {endpointAt("http://mail.example.com/EWS/Exchange.asmx"), "must begin with https://"},
		"another scheme":               {endpointAt("ftp://mail.example.com/x"), "must begin with https://"},
		"a host that is no host name":  {endpointAt("https://mail_server.example.com/EWS"), "must hold a valid host name"},
		"an underscore in front":       {endpointAt("https://-mail.example.com/EWS"), "must hold a valid host name"},
		"an empty label":               {endpointAt("https://mail..example.com/EWS"), "must hold a valid host name"},
		"numbers that are no address":  {endpointAt("https://300.1.1.1/EWS"), "must hold a valid host name"},
		"a short form of an address":   {endpointAt("https://127.1/EWS"), "must hold a valid host name"},
		"a space":                      {endpointAt("https://mail example.com/EWS"), "must hold a valid host name"},
		"no host":                      {endpointAt("https:///EWS/Exchange.asmx"), "must hold a valid host name"},
		"user information":             {endpointAt("https://user:password@mail.example.com/EWS"), "no user information"},
		"a query":                      {endpointAt("https://mail.example.com/EWS?x=1"), "no query"},
		"a fragment":                   {endpointAt("https://mail.example.com/EWS#x"), "no fragment"},
		"no path":                      {endpointAt("https://mail.example.com"), "must hold the path of the service"},
		"a path of a slash":            {endpointAt("https://mail.example.com/"), "must hold the path of the service"},
		"a path with a quote":          {endpointAt("https://mail.example.com/EWS\"x"), "must hold a valid path"},
		"port 0":                       {endpointAt("https://mail.example.com:0/EWS"), "port between 1 and 65535"},
		"port 65536":                   {endpointAt("https://mail.example.com:65536/EWS"), "port between 1 and 65535"},
		"a fingerprint with colons":    {pinnedTo(colons), ""},
		"a short fingerprint":          {pinnedTo("0a0b"), "should be at least 64 chars"},
		"colons in the wrong place":    {pinnedTo(":" + colons[:len(colons)-1]), "must be a SHA-256 fingerprint"},
		"a fingerprint that is no hex": {pinnedTo(api.Fingerprint(strings.Repeat("0g", 32))), "must be a SHA-256 fingerprint"},
		"a name with a dot":            {calledEndpoint("mail.example"), "the name of an EwsEndpoint is at most 63"},
		"a name of 64 letters":         {calledEndpoint(strings.Repeat("a", 64)), "the name of an EwsEndpoint is at most 63"},
		"a name of 63 letters":         {calledEndpoint(strings.Repeat("a", 63)), ""},
		"a name that begins with 1":    {calledEndpoint("1-mail"), ""},
		"a timeout of 101 seconds":     {endpointWithin(101), "should be less than or equal to 100"},
		"a timeout of 100 seconds":     {endpointWithin(100), ""},
		"a host of 254 letters":        {endpointAt(api.HTTPSURL("https://" + strings.Repeat("a.", 126) + "aa/EWS")), "must hold a host name of at most 253"},
		"a host of 253 letters":        {endpointAt(api.HTTPSURL("https://" + strings.Repeat("a.", 126) + "a:443/EWS")), ""},
		"a path with half an escape":   {endpointAt("https://mail.example.com/EWS%4"), "must hold a valid path"},
		"a path with an escape":        {endpointAt("https://mail.example.com/EWS%41"), ""},
		"a user agent":                 {namingItself("ens/1 (mail)"), ""},
		"a user agent of two lines":    {namingItself("ens\r\nX-Other: 1"), "must be printable ASCII"},
		"a user agent in Cyrillic":     {namingItself("почта"), "must be printable ASCII"},
		"a user agent behind a space":  {namingItself(" ens"), "must be printable ASCII"},
		"a user agent of 257 letters":  {namingItself(strings.Repeat("a", 257)), "Too long"},
		"no pinning": {with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.Pinning = api.EndpointPinning{} }),
			"exactly one of pinned, certificateAuthority and trustOnFirstUse"},
		"both kinds of pinning": {with(validEndpoint(), func(e *api.EwsEndpoint) { e.Spec.Pinning.CertificateAuthority = bundle }),
			"exactly one of pinned, certificateAuthority and trustOnFirstUse"},
		"a certificate authority": {with(validEndpoint(), func(e *api.EwsEndpoint) {
			e.Spec.Pinning = api.EndpointPinning{CertificateAuthority: bundle}
		}), ""},
		"a bundle from nowhere": {with(validEndpoint(), func(e *api.EwsEndpoint) {
			e.Spec.Pinning = api.EndpointPinning{CertificateAuthority: &api.CertificateBundle{}}
		}), "exactly one of configMap and secret"},
		"an unknown authentication method": {with(validEndpoint(), func(e *api.EwsEndpoint) {
			e.Spec.AuthenticationMethods = []api.AuthenticationMethod{"Kerberos"}
		}), "Unsupported value"},
	})
}

func TestProviderRules(t *testing.T) {
	t.Parallel()
	checkRules(t, map[string]rule{
		"apns": {validAPNs(), ""},
		"fcm":  {validFCM(), ""},
		"two providers in one": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.FCM = validFCM().Spec.FCM }),
			"exactly one of apns, fcm, sns and cns"},
		"none": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs = nil }),
			"exactly one of apns, fcm, sns and cns"},
		"a team id in small letters": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.TeamID = "team123456" }),
			"10 upper-case letters and digits"},
		"apns with a certificate":               {certified(nil), ""},
		"apns with a certificate and a key":     {certified(func(a *api.APNsProvider) { a.KeySecretRef = validAPNs().Spec.APNs.KeySecretRef }), "either teamID, keyID and keySecretRef, or certificate"},
		"apns with a certificate and a key id":  {certified(func(a *api.APNsProvider) { a.KeyID = "KEY1234567" }), "either teamID, keyID and keySecretRef, or certificate"},
		"apns with a certificate and a team":    {certified(func(a *api.APNsProvider) { a.TeamID = "TEAM123456" }), "either teamID, keyID and keySecretRef, or certificate"},
		"apns with neither certificate nor key": {certified(func(a *api.APNsProvider) { a.Certificate = nil }), "either teamID, keyID and keySecretRef, or certificate"},
		"apns with a key and no team":           {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.TeamID = "" }), "either teamID, keyID and keySecretRef, or certificate"},
		"no topic": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.Topics = []api.AppID{} }),
			"should have at least 1 items"},
		"a topic with a space": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.Topics = []api.AppID{"com. mail"} }),
			"must be the id of an app"},
		"an unknown environment": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.Environment = "production" }),
			"Unsupported value"},
		"a relay over http": {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.URL = "http://relay.example.com" }),
			"must begin with https://"},
		"a relay":                    {with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.URL = "https://relay.example.com:2197" }), ""},
		"a relay with a path":        {apnsAt("https://relay.example.com/apns"), "scheme, host and port only"},
		"a relay with a slash":       {apnsAt("https://relay.example.com/"), ""},
		"an FCM relay with a path":   {fcmAt("https://relay.example.com/fcm", ""), "scheme, host and port only"},
		"an FCM relay":               {fcmAt("https://relay.example.com:8443", "https://relay.example.com:8443/oauth/token"), ""},
		"a topic that begins with _": {topic("_com.example"), "must be the id of an app"},
		"a topic that begins with -": {topic("-com.example"), "must be the id of an app"},
		"a topic with an underscore": {topic("com.example_mail.x-y"), ""},
		"sns":                        {validSNS(), ""},
		"sns with a role":            {role("arn:aws-cn:iam::123456789012:role/teams/ens"), ""},
		"sns with a user as role":    {role("arn:aws:iam::123456789012:user/ens"), "must be the ARN of an IAM role"},
		"sns without credentials":    {sns(func(s *api.SNSProvider) { s.Credentials = api.SNSCredentials{} }), "exactly one of accessKey and webIdentity"},
		"sns with two credentials": {sns(func(s *api.SNSProvider) {
			s.Credentials.WebIdentity = &api.SNSWebIdentity{RoleARN: "arn:aws:iam::123456789012:role/ens"}
		}), "exactly one of accessKey and webIdentity"},
		"sns for the sandbox": {sns(func(s *api.SNSProvider) {
			s.PlatformApplicationARN = "arn:aws:sns:us-west-2:123456789012:app/APNS_SANDBOX/mail.1"
		}), ""},
		"sns for Android":       {sns(func(s *api.SNSProvider) { s.PlatformApplicationARN = "arn:aws:sns:us-west-2:123456789012:app/GCM/mail" }), ""},
		"sns for a Kindle":      {sns(func(s *api.SNSProvider) { s.PlatformApplicationARN = "arn:aws:sns:us-west-2:123456789012:app/ADM/mail" }), "must be the ARN of a platform application"},
		"sns with a topic":      {sns(func(s *api.SNSProvider) { s.PlatformApplicationARN = "arn:aws:sns:us-west-2:123456789012:mail" }), "must be the ARN of a platform application"},
		"sns at a VPC endpoint": {sns(func(s *api.SNSProvider) { s.URL, s.STSURL = "https://vpce.example.com", "https://sts.example.com" }), ""},
		"sns at a path":         {sns(func(s *api.SNSProvider) { s.URL = "https://vpce.example.com/sns" }), "scheme, host and port only"},
		"sns and apns":          {with(validSNS(), func(p *api.PushProvider) { p.Spec.APNs = validAPNs().Spec.APNs }), "exactly one of apns, fcm, sns and cns"},
		"cns":                   {validCNS(), ""},
		"cns with all": {cns(func(c *api.CNSProvider) {
			c.Platform, c.Environment, c.AppIDs = api.CNSPlatformIOS, api.APNsSandbox, []api.AppID{"com.example.mail"}
			c.MutualTLS = &api.CNSMutualTLS{}
			c.PublicKeySHA256 = []api.Fingerprint{fingerprint}
			c.URL = "https://cns.example.com/nws/notify/apns"
		}), ""},
		"cns for Android":           {cns(func(c *api.CNSProvider) { c.Platform = api.CNSPlatformAndroid }), ""},
		"cns for Android's sandbox": {cns(func(c *api.CNSProvider) { c.Platform, c.Environment = api.CNSPlatformAndroid, api.APNsSandbox }), "environment is for iPhones only"},
		"cns without a path":        {cns(func(c *api.CNSProvider) { c.URL = "https://cns.example.com/" }), "must hold the path too"},
		"cns for a watch":           {cns(func(c *api.CNSProvider) { c.Platform = "watchOS" }), "Unsupported value"},
		"cns with a short pin":      {cns(func(c *api.CNSProvider) { c.PublicKeySHA256 = []api.Fingerprint{"0f"} }), "publicKeySHA256"},
		"a proxy":                   {proxiedBy("http://proxy.example.com:3128"), ""},
		"a proxy at an address":     {proxiedBy("http://10.0.0.1:3128/"), ""},
		"a proxy without a port":    {proxiedBy("http://proxy.example.com"), "must be http:// with host and port"},
		"a proxy over TLS":          {proxiedBy("https://proxy.example.com:3128"), "must be http:// with host and port"},
		"a proxy with a password":   {proxiedBy("http://me:secret@proxy.example.com:3128"), "must be http:// with host and port"},
		"a proxy at a high port":    {proxiedBy("http://proxy.example.com:70000"), "must be http:// with host and port"},
		"cns and sns":               {with(validCNS(), func(p *api.PushProvider) { p.Spec.SNS = validSNS().Spec.SNS }), "exactly one of apns, fcm, sns and cns"},
		"a name with a dot":         {calledProvider("apple.prod"), "the name of a PushProvider is at most 63"},
		"a name of 64 letters":      {calledProvider(strings.Repeat("a", 64)), "the name of a PushProvider is at most 63"},
		"a name of 63 letters":      {calledProvider(strings.Repeat("a", 63)), ""},
		"a timeout of 61 seconds":   {providerWithin(61), "should be less than or equal to 60"},
		"a timeout of 60 seconds":   {providerWithin(60), ""},
		"a project in capitals": {with(validFCM(), func(p *api.PushProvider) { p.Spec.FCM.ProjectID = "Example-Mail" }),
			"id of a Firebase project"},
		"a token address with user information": {with(validFCM(), func(p *api.PushProvider) {
			p.Spec.FCM.TokenURL = "https://oauth2.googleapis.com@evil.example.com/token"
		}), "no user information"},
		"a key that is a path": {with(validFCM(), func(p *api.PushProvider) { p.Spec.FCM.ServiceAccountSecretRef.Key = "../x" }),
			"must be a key of a Secret or ConfigMap"},
	})
}

func TestTenantRules(t *testing.T) {
	t.Parallel()
	named := func(name string) *api.EnsTenant {
		return with(validTenant(), func(t *api.EnsTenant) { t.Name = name })
	}
	at := func(hostname api.Hostname) *api.EnsTenant {
		return with(validTenant(), func(t *api.EnsTenant) { t.Spec.Hostname = hostname })
	}
	checkRules(t, map[string]rule{
		"a usual tenant":            {validTenant(), ""},
		"a name with a dot":         {named("a.b"), "the name of an EnsTenant"},
		"a name of 41 letters":      {named(strings.Repeat("a", 41)), "the name of an EnsTenant"},
		"a name of 40 letters":      {named(strings.Repeat("a", 40)), ""},
		"a name that begins with 1": {named("1a"), "the name of an EnsTenant"},
		"a host name in capitals":   {at("ENS.example.com"), "must be a host name (RFC 1123) in lower case"},
		"a host that is no host":    {at("ens_1.example.com"), "must be a host name (RFC 1123) in lower case"},
		"a host with a port":        {at("ens.example.com:443"), "must be a host name (RFC 1123) in lower case"},
		"an address for a host":     {at("192.0.2.1"), "not an IP address"},
		"no endpoint": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.Endpoints = []api.ResourceName{} }),
			"should have at least 1 items"},
		"no provider": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.PushProviders = []api.ResourceName{} }),
			"should have at least 1 items"},
		"an endpoint twice": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.Endpoints = []api.ResourceName{"a", "a"} }),
			"Duplicate value"},
		"a reference that is a path": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.Endpoints = []api.ResourceName{"../a"} }),
			"must be the name of an object"},
		"no tls": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.TLS = api.TenantTLS{} }),
			"tls needs exactly one of"},
		"two kinds of tls": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.TLS.TerminatedElsewhere = &api.TerminatedElsewhere{} }),
			"tls needs exactly one of"},
		"cert-manager": {with(validTenant(), func(t *api.EnsTenant) {
			t.Spec.TLS = api.TenantTLS{CertManager: &api.CertManagerTLS{IssuerRef: api.IssuerReference{Name: "ca"}}}
		}), ""},
		"a callback address":          {callbackTo("https://ens.internal:8443/MailNotificationService/api/ens"), ""},
		"a callback to an address":    {callbackTo("https://192.0.2.1/api/ens"), ""},
		"a callback over plain http":  {callbackTo("http://ens.internal/api/ens"), "only with tls.terminatedElsewhere"},
		"a callback with ftp":         {callbackTo("ftp://ens.internal/api/ens"), "must begin with https://"},
		"a callback without a path":   {callbackTo("https://ens.internal"), "must hold the path of the API"},
		"a callback with a slash":     {callbackTo("https://ens.internal/api/ens/"), "without a slash at its end"},
		"a callback that goes up":     {callbackTo("https://ens.internal/api/../ens"), "without . and .. in it"},
		"a callback that stays":       {callbackTo("https://ens.internal/api/./ens"), "without . and .. in it"},
		"a callback that ends upward": {callbackTo("https://ens.internal/api/.."), "without . and .. in it"},
		"a callback with dots":        {callbackTo("https://ens.internal/.api/..ens/v1.0"), ""},
		"a callback with a query":     {callbackTo("https://ens.internal/api/ens?x"), "no query"},
		"a callback to no host name":  {callbackTo("https://ens_internal/api/ens"), "must hold a valid host name"},
		"a callback of 151 letters":   {callbackTo(api.CallbackURL("https://ens.internal/" + strings.Repeat("a", 130))), "Too long"},
		"a callback of 150 letters":   {callbackTo(api.CallbackURL("https://ens.internal/" + strings.Repeat("a", 129))), ""},
		"plain http behind something": {with(callbackTo("http://192.0.2.1/api/ens"), terminateElsewhere), ""},
		"a ceiling above the highest": {with(validTenant(), func(t *api.EnsTenant) {
			t.Spec.Notifications = &api.TenantNotifications{PolicyCeiling: new(int32(5))}
		}), "should be less than or equal to 4"},
		"less than no pods": {with(validTenant(), func(t *api.EnsTenant) {
			t.Spec.Runtime = &api.TenantRuntime{Replicas: new(int32(-1))}
		}), "should be greater than or equal to 0"},
		"the log of the original, in detail": {with(validTenant(), func(t *api.EnsTenant) {
			t.Spec.Logging = &api.TenantLogging{Format: api.LogENS2, Level: api.LogDebug}
		}), ""},
		"an unknown log format": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.Logging = &api.TenantLogging{Format: "ENS2"} }),
			"Unsupported value"},
		"an unknown log level": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.Logging = &api.TenantLogging{Level: "trace"} }),
			"Unsupported value"},
		"traces to a collector with http": {tracedTo("http://collector.monitoring:4318"), ""},
		"traces to a collector's path":    {tracedTo("https://collector.example.com/otlp/v1/traces"), ""},
		"traces with a query":             {tracedTo("https://collector.example.com/?key=1"), "without user information, query and fragment"},
		"traces with a password":          {tracedTo("https://me:secret@collector.example.com"), "without user information, query and fragment"},
		"traces by gRPC":                  {tracedTo("grpc://collector.example.com:4317"), "must be http:// or https://"},
		"more than all traces": {with(tracedTo("https://collector.example.com"), func(t *api.EnsTenant) {
			t.Spec.Tracing.SamplePerMille = 1001
		}), "should be less than or equal to 1000"},
		"authorities without https": {with(tracedTo("http://collector.example.com"), func(t *api.EnsTenant) {
			t.Spec.Tracing.CABundle = &api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "a", Key: "b"}}
		}), "caBundle has no effect"},
		"an unknown deletion policy": {with(validTenant(), func(t *api.EnsTenant) { t.Spec.DeletionPolicy = "Orphan" }),
			"Unsupported value"},
	})
}

func terminateElsewhere(t *api.EnsTenant) {
	t.Spec.TLS = api.TenantTLS{TerminatedElsewhere: &api.TerminatedElsewhere{}}
}

func checkRules(t *testing.T, rules map[string]rule) {
	t.Helper()
	c, namespace := newClient(t)
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule.object.SetNamespace(namespace)
			checkAnswer(t, c.Create(t.Context(), rule.object, client.DryRunAll), rule.says)
		})
	}
}

func checkAnswer(t *testing.T, err error, says string) {
	t.Helper()
	switch {
	case says == "" && err != nil:
		t.Errorf("refused: %v", err)
	case says != "" && err == nil:
		t.Errorf("accepted, want a refusal that says %q", says)
	case says != "" && !strings.Contains(err.Error(), says):
		t.Errorf("refused with %q, want it to say %q", err, says)
	}
}

func TestWhatCannotChange(t *testing.T) {
	t.Parallel()
	c, namespace := newClient(t)
	for name, change := range map[string]struct {
		from, to client.Object
		says     string
	}{
		"an endpoint's host": {endpointAt("https://a.example.com/EWS"), endpointAt("https://b.example.com/EWS"), "host and port of the url cannot change"},
		"an endpoint's port": {endpointAt("https://a.example.com/EWS"), endpointAt("https://a.example.com:444/EWS"), "host and port of the url cannot change"},
		"an endpoint's path": {endpointAt("https://a.example.com/EWS"), endpointAt("https://a.example.com/EWS/Exchange.asmx"), ""},
		"a provider's kind":  {validAPNs(), with(validFCM(), func(p *api.PushProvider) { p.Name = validAPNs().Name }), "cannot change between apns, fcm, sns and cns"},
		"a provider's maker": {validCNS(), validSNS(), "cannot change between apns, fcm, sns and cns"},
		"a provider's way":   {validFCM(), validSNS(), "cannot change between apns, fcm, sns and cns"},
		"a provider's login": {validAPNs(), certified(nil), ""},
		"a provider's key":   {validAPNs(), with(validAPNs(), func(p *api.PushProvider) { p.Spec.APNs.KeyID = "KEY7654321" }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", "")
			change.from.SetNamespace(namespace)
			change.from.SetName(object)
			if err := c.Create(t.Context(), change.from); err != nil {
				t.Fatal(err)
			}
			change.to.SetNamespace(namespace)
			change.to.SetName(object)
			change.to.SetResourceVersion(change.from.GetResourceVersion())
			checkAnswer(t, c.Update(t.Context(), change.to), change.says)
		})
	}
}
