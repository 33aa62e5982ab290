package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// faults returns the fields that a validation error names, sorted.
func faults(t *testing.T, err error) []string {
	t.Helper()
	var fields []string
	if err == nil {
		return fields
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v, want joined errors", err)
	}
	for _, single := range joined.Unwrap() {
		fault, ok := errors.AsType[*config.FieldError](single)
		if !ok {
			t.Fatalf("got %v, want a *FieldError", single)
		}
		if fault.Problem == "" || !strings.Contains(err.Error(), fault.Field+": "+fault.Problem) {
			t.Errorf("the error does not say what is wrong with %s: %v", fault.Field, err)
		}
		fields = append(fields, fault.Field)
	}
	slices.Sort(fields)
	return fields
}

// change is what a test does to the sample.
type change func(c *config.Config)

// apple changes the provider that is Apple's.
func apple(apply func(a *config.APNs)) change {
	return func(c *config.Config) {
		apns := *c.PushProviders[0].APNs
		apply(&apns)
		c.PushProviders[0].APNs = &apns
	}
}

// amazon changes a provider that is Amazon's.
func amazon(apply func(a *config.SNS)) change {
	return func(c *config.Config) {
		sns := config.SNS{
			ApplicationARN: "arn:aws-us-gov:sns:us-gov-west-1:123456789012:app/APNS_SANDBOX/mail.1", AppIDs: []string{"com.example.mail"},
			RoleARN: "arn:aws-us-gov:iam::123456789012:role/teams/mail", URL: "https://vpce-1.sns.us-gov-west-1.vpce.amazonaws.com",
		}
		apply(&sns)
		c.PushProviders[1].FCM, c.PushProviders[1].SNS = nil, &sns
	}
}

// proxy has Apple reached by way of a proxy.
func proxy(url string) change {
	return func(c *config.Config) { c.PushProviders[0].Proxy = &config.ForwardProxy{URL: url} }
}

// vmware changes a provider that is VMware's.
func vmware(apply func(v *config.CNS)) change {
	return func(c *config.Config) {
		cns := config.CNS{
			AppIDs: []string{"com.example.mail"}, PublicKeySHA256: []string{pin}, ClientCertificate: config.CNSClientOwn,
		}
		apply(&cns)
		c.PushProviders[1].Proxy = &config.ForwardProxy{URL: "http://10.0.0.1:3128", Authenticate: true}
		c.PushProviders[1].FCM, c.PushProviders[1].CNS = nil, &cns
	}
}

func TestValidateAcceptsWhatOperatorsRender(t *testing.T) {
	t.Parallel()
	tests := map[string]change{
		"the sample with all defaults":             func(*config.Config) {},
		"a callback over http behind an entry":     func(c *config.Config) { c.Server.CallbackURL = "http://10.0.0.1:8080/api/ens" },
		"a callback of exactly the longest length": func(c *config.Config) { c.Server.CallbackURL = callbackOfLength(config.MaxCallbackURL) },
		"listeners on ports the system chooses":    func(c *config.Config) { c.Server.Listen, c.Server.Metrics, c.Server.Admin = ":0", ":0", "127.0.0.1:0" },
		"listeners on IPv6":                        func(c *config.Config) { c.Server.Listen, c.Server.Admin = "[::]:8443", "[::1]:8081" },
		"an admin listener on localhost":           func(c *config.Config) { c.Server.Admin = "localhost:8081" },
		"no drain delay":                           func(c *config.Config) { c.Server.DrainDelaySeconds = new(int32(0)) },
		"a further base path":                      func(c *config.Config) { c.Server.BasePaths = []string{"/ens/v2.0/api_ens"} },
		"a tenant that is not on Kubernetes":       func(c *config.Config) { c.Tenant.Namespace, c.Tenant.Name = "", "" },
		"an endpoint on an address and port":       func(c *config.Config) { c.Endpoints[0].URL = "https://[fd00::1]:8443/EWS/Exchange.asmx" },
		"a pin of a public key alone": func(c *config.Config) {
			c.Endpoints[0].Pinning = config.Pinning{PublicKeySHA256: []string{pin}}
		},
		"two pins during a renewal": func(c *config.Config) { c.Endpoints[0].Pinning.SHA256 = []string{pin, strings.Repeat("0", 64)} },
		"an endpoint with its methods spelled out": func(c *config.Config) {
			c.Endpoints[0].AuthenticationMethods = []config.AuthenticationMethod{config.AuthBasic}
		},
		"the same path on two ports of a host":   func(c *config.Config) { c.Endpoints[1].URL = "https://mail.example.com:8443/EWS/Exchange.asmx" },
		"the sandbox of Apple":                   func(c *config.Config) { c.PushProviders[0].APNs.Environment = config.PushSandbox },
		"fakes in the place of Apple and Google": withFakeProviders,
		"a certificate for Apple":                apple(func(a *config.APNs) { a.TeamID, a.KeyID, a.Certificate = "", "", true }),
		"Amazon in the place of Google":          amazon(func(*config.SNS) {}),
		"VMware in the place of Google":          vmware(func(*config.CNS) {}),
		"Apple by way of a proxy":                proxy("http://proxy.example.com:3128/"),
		"VMware for Android":                     vmware(func(v *config.CNS) { v.Platform, v.ClientCertificate = config.CNSPlatformAndroid, "" }),
		"a project of Google with a domain":      func(c *config.Config) { c.PushProviders[1].FCM.ProjectID = "example.com:my-project" },
		"an Android package with an underscore":  func(c *config.Config) { c.PushProviders[1].FCM.AppIDs = []string{"com.example.boxer_beta"} },
		"the strictest policy and longest heartbeat": func(c *config.Config) {
			c.Notifications = config.Notifications{PolicyCeiling: 4, StatusFrequencyMinutes: 1440, UnchangedBadges: config.UnchangedSend}
		},
		"proof by first use": func(c *config.Config) { c.MailboxProof = config.ProofFirstUse },
		"the log of the original": func(c *config.Config) {
			c.Logging = config.Logging{Format: config.LogENS2, Level: config.LogDebug}
		},
		"traces":             func(c *config.Config) { c.Tracing = &config.Tracing{Endpoint: "http://collector:4318"} },
		"the shortest lease": func(c *config.Config) { c.Callback.LeaseSeconds = 5 },
	}
	for name, apply := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			apply(&c)
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func withFakeProviders(c *config.Config) {
	c.AllowLoopback = true
	c.PushProviders[0].APNs.URL = "https://127.0.0.1:2197"
	c.PushProviders[1].FCM.URL = "https://localhost:2198/"
	c.PushProviders[1].FCM.TokenURL = "https://localhost:2198/token"
}

func callbackOfLength(length int) string {
	const base = "https://ens.example.com/"
	return base + strings.Repeat("a", length-len(base))
}

func TestValidateNamesTheFaultyField(t *testing.T) {
	t.Parallel()
	callback := func(url string) change { return func(c *config.Config) { c.Server.CallbackURL = url } }
	address := func(url string) change { return func(c *config.Config) { c.Endpoints[0].URL = url } }
	pins := func(pins ...string) change { return func(c *config.Config) { c.Endpoints[0].Pinning.SHA256 = pins } }
	gateway := func(g config.SecureEmailGateway, methods ...config.AuthenticationMethod) change {
		return func(c *config.Config) {
			c.Endpoints[0].SecureEmailGateway = &g
			c.Endpoints[0].AuthenticationMethods = methods
		}
	}
	autodiscover := func(a config.Autodiscover) change { return func(c *config.Config) { c.Autodiscover = &a } }
	google := func(apply func(*config.FCM)) change { return func(c *config.Config) { apply(c.PushProviders[1].FCM) } }
	tests := map[string]struct {
		apply change
		field string
	}{
		"no tenant id":                          {func(c *config.Config) { c.Tenant.ID = "" }, "tenant.id"},
		"a tenant id that needs quotes":         {func(c *config.Config) { c.Tenant.ID = `ens"; drop schema` }, "tenant.id"},
		"a tenant id in capitals":               {func(c *config.Config) { c.Tenant.ID = "ENS_acme" }, "tenant.id"},
		"a tenant id with a line end":           {func(c *config.Config) { c.Tenant.ID = "ens_acme\n" }, "tenant.id"},
		"a tenant id Postgres would cut":        {func(c *config.Config) { c.Tenant.ID = strings.Repeat("e", 64) }, "tenant.id"},
		"a namespace that is none":              {func(c *config.Config) { c.Tenant.Namespace = "a b" }, "tenant.namespace"},
		"a name that is none":                   {func(c *config.Config) { c.Tenant.Name = "-" }, "tenant.name"},
		"no callback URL":                       {callback(""), "server.callbackURL"},
		"a callback URL without scheme":         {callback("ens.example.com/api/ens"), "server.callbackURL"},
		"a callback URL of another scheme":      {callback("ftp://ens.example.com/api/ens"), "server.callbackURL"},
		"an opaque callback URL":                {callback("https:ens.example.com/api/ens"), "server.callbackURL"},
		"a callback URL without host":           {callback("https:///api/ens"), "server.callbackURL"},
		"a callback URL that is too long":       {callback(callbackOfLength(config.MaxCallbackURL + 1)), "server.callbackURL"},
		"a callback URL with a query":           {callback("https://ens.example.com/api/ens?a=b"), "server.callbackURL"},
		"a callback URL with a bare ?":          {callback("https://ens.example.com/api/ens?"), "server.callbackURL"},
		"a callback URL with a fragment":        {callback("https://ens.example.com/api/ens#a"), "server.callbackURL"},
		"a callback URL with a bare #":          {callback("https://ens.example.com/api/ens#"), "server.callbackURL"},
		"a callback URL with a user":            {callback("https://me:swordfish@ens.example.com/api/ens"), "server.callbackURL"},
		"a callback URL with a final slash":     {callback("https://ens.example.com/api/ens/"), "server.callbackURL"},
		"a callback URL without path":           {callback("https://ens.example.com"), "server.callbackURL"},
		"a callback URL with escapes":           {callback("https://ens.example.com/%61pi"), "server.callbackURL"},
		"a callback URL with dots":              {callback("https://ens.example.com/api/../ens"), "server.callbackURL"},
		"a callback URL beyond ASCII":           {callback("https://ens.example.com/é"), "server.callbackURL"},
		"a callback URL with a bad port":        {callback("https://ens.example.com:99999/api"), "server.callbackURL"},
		"a callback URL with a bad host":        {callback("https://ens_example/api"), "server.callbackURL"},
		"an address without port":               {func(c *config.Config) { c.Server.Listen = "0.0.0.0" }, "server.listen"},
		"a port by name":                        {func(c *config.Config) { c.Server.Listen = ":https" }, "server.listen"},
		"a port out of range":                   {func(c *config.Config) { c.Server.Metrics = ":65536" }, "server.metrics"},
		"a host that is none":                   {func(c *config.Config) { c.Server.Metrics = "a b:1" }, "server.metrics"},
		"two listeners on one address":          {func(c *config.Config) { c.Server.Metrics = ":8443" }, "server.metrics"},
		"an admin listener for everybody":       {func(c *config.Config) { c.Server.Admin = ":8081" }, "server.admin"},
		"an admin listener on the network":      {func(c *config.Config) { c.Server.Admin = "10.0.0.1:8081" }, "server.admin"},
		"a base path that is relative":          {func(c *config.Config) { c.Server.BasePaths = []string{"api"} }, "server.basePaths"},
		"a base path that is the root":          {func(c *config.Config) { c.Server.BasePaths = []string{"/"} }, "server.basePaths"},
		"a base path with a final slash":        {func(c *config.Config) { c.Server.BasePaths = []string{"/api/"} }, "server.basePaths"},
		"a base path with a pattern":            {func(c *config.Config) { c.Server.BasePaths = []string{"/{api}"} }, "server.basePaths"},
		"an environment type with controls":     {func(c *config.Config) { c.Server.EnvironmentType = "On\nPrem" }, "server.environmentType"},
		"a drain delay in the past":             {func(c *config.Config) { c.Server.DrainDelaySeconds = new(int32(-1)) }, "server.drainDelaySeconds"},
		"no endpoint":                           {func(c *config.Config) { c.Endpoints = nil }, "endpoints"},
		"an endpoint without name":              {func(c *config.Config) { c.Endpoints[0].Name = "" }, "endpoints[0].name"},
		"an endpoint that leaves its folder":    {func(c *config.Config) { c.Endpoints[0].Name = "../keys" }, "endpoints[0].name"},
		"two endpoints of one name":             {func(c *config.Config) { c.Endpoints[1].Name = "exchange" }, "endpoints[exchange].name"},
		"two endpoints of one address":          {func(c *config.Config) { c.Endpoints[1].URL = "https://MAIL.example.com:443/ews/exchange.asmx" }, "endpoints[branch].url"},
		"an endpoint over http":                 {address("http://mail.example.com/EWS/Exchange.asmx"), "endpoints[exchange].url"},
		"an endpoint without path":              {address("https://mail.example.com/"), "endpoints[exchange].url"},
		"an endpoint with a password":           {address("https://me:swordfish@mail.example.com/EWS"), "endpoints[exchange].url"},
		"an endpoint with a port and no number": {address("https://mail.example.com:/EWS"), "endpoints[exchange].url"},
		"an endpoint that cannot be parsed":     {address("https://mail.example.com/EWS\x7f"), "endpoints[exchange].url"},
		"an endpoint without pinning":           {pins(), "endpoints[exchange].pinning"},
		"an endpoint with both pinnings":        {func(c *config.Config) { c.Endpoints[0].Pinning.CertificateAuthority = true }, "endpoints[exchange].pinning"},
		"a pin in capitals":                     {pins(pin, strings.ToUpper(pin)), "endpoints[exchange].pinning.sha256[1]"},
		"a pin with colons":                     {pins("9f:86"), "endpoints[exchange].pinning.sha256[0]"},
		"more pins than anybody needs":          {pins(slices.Repeat([]string{pin}, 33)...), "endpoints[exchange].pinning.sha256"},
		"a TLS version of another spelling":     {func(c *config.Config) { c.Endpoints[0].MinTLSVersion = "1.2" }, "endpoints[exchange].minTLSVersion"},
		"a TLS version to listen with":          {func(c *config.Config) { c.Server.MinTLSVersion = "VersionSSL30" }, "server.minTLSVersion"},
		"an Exchange that is too old":           {func(c *config.Config) { c.Endpoints[0].ServerVersion = "Exchange2007" }, "endpoints[exchange].serverVersion"},
		"a header that is none":                 {gateway(config.SecureEmailGateway{DevicesHeader: "Ens Devices"}), "endpoints[exchange].secureEmailGateway.devicesHeader"},
		"one header for two things":             {gateway(config.SecureEmailGateway{DeviceIDHeader: "ensdevices"}), "endpoints[exchange].secureEmailGateway.devicesHeader"},
		"NTLM through a gateway":                {gateway(config.SecureEmailGateway{}, config.AuthNTLM), "endpoints[exchange].authenticationMethods"},
		"autodiscover without domains":          {autodiscover(config.Autodiscover{}), "autodiscover.domains"},
		"autodiscover of a whole country":       {autodiscover(config.Autodiscover{Domains: []string{"com"}}), "autodiscover.domains[0]"},
		"autodiscover of an address":            {autodiscover(config.Autodiscover{Domains: []string{"10.0.0.1"}}), "autodiscover.domains[0]"},
		"autodiscover of a URL":                 {autodiscover(config.Autodiscover{Domains: []string{"example.com", "https://example.net"}}), "autodiscover.domains[1]"},
		"autodiscover by an unknown method":     {autodiscover(config.Autodiscover{Domains: []string{"example.com"}, AuthenticationMethods: []config.AuthenticationMethod{"Digest"}}), "autodiscover.authenticationMethods"},
		"autodiscover that is never renewed":    {autodiscover(config.Autodiscover{Domains: []string{"example.com"}, CacheSeconds: 1 << 20}), "autodiscover.cacheSeconds"},
		"a method of a newer operator": {func(c *config.Config) {
			c.Endpoints[0].AuthenticationMethods = []config.AuthenticationMethod{"Basic", "Kerberos"}
		}, "endpoints[exchange].authenticationMethods"},
		"a request longer than a credential may live": {func(c *config.Config) { c.Endpoints[0].TimeoutSeconds = 120 }, "endpoints[exchange].timeoutSeconds"},
		"a negative concurrency":                      {func(c *config.Config) { c.Endpoints[0].MaxConcurrentRequests = -1 }, "endpoints[exchange].maxConcurrentRequests"},
		"a user agent that adds a header":             {func(c *config.Config) { c.Endpoints[0].UserAgent = "a\r\nB: c" }, "endpoints[exchange].userAgent"},
		"no push provider":                            {func(c *config.Config) { c.PushProviders = nil }, "pushProviders"},
		"two providers of one name":                   {func(c *config.Config) { c.PushProviders[1].Name = "apple" }, "pushProviders[apple].name"},
		"a provider of no kind":                       {func(c *config.Config) { c.PushProviders[1].FCM = nil }, "pushProviders[google]"},
		"a provider of both kinds":                    {func(c *config.Config) { c.PushProviders[0].FCM = c.PushProviders[1].FCM }, "pushProviders[apple]"},
		"a push that takes minutes":                   {func(c *config.Config) { c.PushProviders[0].TimeoutSeconds = 61 }, "pushProviders[apple].timeoutSeconds"},
		"a negative number of pushes":                 {func(c *config.Config) { c.PushProviders[0].MaxConcurrentPushes = -1 }, "pushProviders[apple].maxConcurrentPushes"},
		"a team id that is too short":                 {apple(func(a *config.APNs) { a.TeamID = "TEAM" }), "pushProviders[apple].apns.teamID"},
		"a key id in lower case":                      {apple(func(a *config.APNs) { a.KeyID = "key1234567" }), "pushProviders[apple].apns.keyID"},
		"a certificate beside a key":                  {apple(func(a *config.APNs) { a.Certificate = true }), "pushProviders[apple].apns.certificate"},
		"no topic":                                    {apple(func(a *config.APNs) { a.Topics = nil }), "pushProviders[apple].apns.topics"},
		"a topic that is a header":                    {apple(func(a *config.APNs) { a.Topics = []string{"a: b"} }), "pushProviders[apple].apns.topics[0]"},
		"a topic that is there twice":                 {apple(func(a *config.APNs) { a.Topics = []string{"a.b", "a.b"} }), "pushProviders[apple].apns.topics[1]"},
		"an environment of another word":              {apple(func(a *config.APNs) { a.Environment = "development" }), "pushProviders[apple].apns.environment"},
		"a replacement of Apple over http":            {apple(func(a *config.APNs) { a.URL = "http://localhost:1" }), "pushProviders[apple].apns.url"},
		"a replacement of Apple with a path":          {apple(func(a *config.APNs) { a.URL = "https://localhost:1/3/device" }), "pushProviders[apple].apns.url"},
		"no project":                                  {google(func(g *config.FCM) { g.ProjectID = "" }), "pushProviders[google].fcm.projectID"},
		"a project that leaves its path":              {google(func(g *config.FCM) { g.ProjectID = "../../other" }), "pushProviders[google].fcm.projectID"},
		"an empty Android package":                    {google(func(g *config.FCM) { g.AppIDs = []string{""} }), "pushProviders[google].fcm.appIDs[0]"},
		"a replacement of Google over http":           {google(func(g *config.FCM) { g.URL = "http://localhost:1" }), "pushProviders[google].fcm.url"},
		"a token URL over http":                       {google(func(g *config.FCM) { g.TokenURL = "http://localhost:1/token" }), "pushProviders[google].fcm.tokenURL"},
		"no platform application":                     {amazon(func(a *config.SNS) { a.ApplicationARN = "" }), "pushProviders[google].sns.applicationARN"},
		"a topic of Amazon's":                         {amazon(func(a *config.SNS) { a.ApplicationARN = "arn:aws:sns:eu-central-1:123456789012:mail" }), "pushProviders[google].sns.applicationARN"},
		"an application for another platform":         {amazon(func(a *config.SNS) { a.ApplicationARN = "arn:aws:sns:eu-central-1:123456789012:app/ADM/mail" }), "pushProviders[google].sns.applicationARN"},
		"a role that is a user":                       {amazon(func(a *config.SNS) { a.RoleARN = "arn:aws:iam::123456789012:user/mail" }), "pushProviders[google].sns.roleARN"},
		"an app of Amazon's that is a header":         {amazon(func(a *config.SNS) { a.AppIDs = []string{"a: b"} }), "pushProviders[google].sns.appIDs[0]"},
		"a replacement of Amazon over http":           {amazon(func(a *config.SNS) { a.URL = "http://localhost:1" }), "pushProviders[google].sns.url"},
		"a replacement of STS with a path":            {amazon(func(a *config.SNS) { a.STSURL = "https://localhost:1/sts" }), "pushProviders[google].sns.stsURL"},
		"another platform of VMware's":                {vmware(func(v *config.CNS) { v.Platform = "Windows" }), "pushProviders[google].cns.platform"},
		"an environment for Android":                  {vmware(func(v *config.CNS) { v.Platform, v.Environment = config.CNSPlatformAndroid, config.PushSandbox }), "pushProviders[google].cns.environment"},
		"another environment of VMware's":             {vmware(func(v *config.CNS) { v.Environment = "development" }), "pushProviders[google].cns.environment"},
		"VMware over http":                            {vmware(func(v *config.CNS) { v.URL = "http://cns.example.com/nws" }), "pushProviders[google].cns.url"},
		"VMware without a path":                       {vmware(func(v *config.CNS) { v.URL = "https://cns.example.com/" }), "pushProviders[google].cns.url"},
		"a public key that is short":                  {vmware(func(v *config.CNS) { v.PublicKeySHA256 = []string{"0f"} }), "pushProviders[google].cns.publicKeySHA256[0]"},
		"very many public keys":                       {vmware(func(v *config.CNS) { v.PublicKeySHA256 = slices.Repeat([]string{pin}, 33) }), "pushProviders[google].cns.publicKeySHA256"},
		"another client certificate":                  {vmware(func(v *config.CNS) { v.ClientCertificate = "other" }), "pushProviders[google].cns.clientCertificate"},
		"a proxy over TLS":                            {proxy("https://proxy.example.com:3128"), "pushProviders[apple].proxy.url"},
		"a proxy without a port":                      {proxy("http://proxy.example.com"), "pushProviders[apple].proxy.url"},
		"a proxy with a password":                     {proxy("http://me:swordfish@proxy.example.com:3128"), "pushProviders[apple].proxy.url"},
		"a policy beyond badge only":                  {func(c *config.Config) { c.Notifications.PolicyCeiling = 5 }, "notifications.policyCeiling"},
		"a heartbeat above a day":                     {func(c *config.Config) { c.Notifications.StatusFrequencyMinutes = 1441 }, "notifications.statusFrequencyMinutes"},
		"an unchanged badge of another word":          {func(c *config.Config) { c.Notifications.UnchangedBadges = "Never" }, "notifications.unchangedBadges"},
		"a proof of another word":                     {func(c *config.Config) { c.MailboxProof = "None" }, "mailboxProof"},
		"negative users":                              {func(c *config.Config) { c.Limits.MaxUsers = -1 }, "limits.maxUsers"},
		"negative devices":                            {func(c *config.Config) { c.Limits.MaxDevicesPerUser = -1 }, "limits.maxDevicesPerUser"},
		"a negative rate":                             {func(c *config.Config) { c.Limits.RequestsPerSecond = -1 }, "limits.requestsPerSecond"},
		"a negative rate of users":                    {func(c *config.Config) { c.Limits.UserRequestsPerMinute = -1 }, "limits.userRequestsPerMinute"},
		"a negative rate of new users":                {func(c *config.Config) { c.Limits.NewUsersPerMinute = -1 }, "limits.newUsersPerMinute"},
		"a negative key pool":                         {func(c *config.Config) { c.KeyPool = config.KeyPool{Size: 10, RefillBelow: -1} }, "keyPool.refillBelow"},
		"a key pool that is always refilled":          {func(c *config.Config) { c.KeyPool = config.KeyPool{Size: 10, RefillBelow: 11} }, "keyPool.refillBelow"},
		"a key pool larger than the table":            {func(c *config.Config) { c.KeyPool.Size = 100_001 }, "keyPool.size"},
		"a negative refill interval":                  {func(c *config.Config) { c.KeyPool.RefillIntervalSeconds = -1 }, "keyPool.refillIntervalSeconds"},
		"negative workers":                            {func(c *config.Config) { c.Callback.Workers = -1 }, "callback.workers"},
		"a lease too short for the work":              {func(c *config.Config) { c.Callback.LeaseSeconds = 4 }, "callback.leaseSeconds"},
		"a lease that outlives a crash":               {func(c *config.Config) { c.Callback.LeaseSeconds = 601 }, "callback.leaseSeconds"},
		"a log format that is not known":              {func(c *config.Config) { c.Logging.Format = "ENS2" }, "logging.format"},
		"a log level that is not known":               {func(c *config.Config) { c.Logging.Level = "trace" }, "logging.level"},
		"traces to nowhere":                           {func(c *config.Config) { c.Tracing = &config.Tracing{} }, "tracing.endpoint"},
		"traces with a query":                         {func(c *config.Config) { c.Tracing = &config.Tracing{Endpoint: "https://collector/?key=secret"} }, "tracing.endpoint"},
		"more than all traces": {func(c *config.Config) {
			c.Tracing = &config.Tracing{Endpoint: "https://collector", SamplePerMille: 1001}
		}, "tracing.samplePerMille"},
		"authorities for traces without https": {func(c *config.Config) { c.Tracing = &config.Tracing{Endpoint: "http://collector", CABundle: true} }, "tracing.caBundle"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			test.apply(&c)
			err := c.Validate()
			if got := faults(t, err); !slices.Equal(got, []string{test.field}) {
				t.Errorf("got faults in %q, want in %q: %v", got, test.field, err)
			}
			if err != nil && strings.Contains(err.Error(), "swordfish") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func TestValidateFindsEverythingAtOnceAndInTheSameOrder(t *testing.T) {
	t.Parallel()
	empty := config.Config{Endpoints: []config.Endpoint{{}}, PushProviders: []config.PushProvider{{}}}
	want := []string{
		"endpoints[0].name", "endpoints[0].pinning", "endpoints[0].url", "pushProviders[0]", "pushProviders[0].name",
		"server.callbackURL", "tenant.id",
	}
	first := empty.Validate()
	if got := faults(t, first); !slices.Equal(got, want) {
		t.Errorf("got faults in %q, want in %q", got, want)
	}
	// The text ends in a condition of Kubernetes: if it changed, so would the object, for ever.
	for range 10 {
		if again := empty.Validate(); again.Error() != first.Error() {
			t.Fatalf("first %q, then %q", first, again)
		}
	}
}

func TestValidateSaysWhichMethodIsUnknown(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Endpoints[0].AuthenticationMethods = []config.AuthenticationMethod{"Kerberos"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `"Kerberos"`) || !strings.Contains(err.Error(), `"Basic"`) {
		t.Errorf("got %v, want an error that names the unknown method and the known ones", err)
	}
}

func TestEndlessListsAreCutShort(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		apply change
		field string
	}{
		"endpoints":  {func(c *config.Config) { c.Endpoints = make([]config.Endpoint, 1001) }, "endpoints"},
		"providers":  {func(c *config.Config) { c.PushProviders = make([]config.PushProvider, 1001) }, "pushProviders"},
		"topics":     {func(c *config.Config) { c.PushProviders[0].APNs.Topics = make([]string, 1001) }, "pushProviders[apple].apns.topics"},
		"base paths": {func(c *config.Config) { c.Server.BasePaths = distinctPaths(40) }, "server.basePaths"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			test.apply(&c)
			if got := faults(t, c.Validate()); !slices.Equal(got, []string{test.field}) {
				t.Errorf("got faults in %q, want one in %q", got, test.field)
			}
		})
	}
}

func distinctPaths(count int) []string {
	paths := make([]string, count)
	for i := range paths {
		paths[i] = "/" + strings.Repeat("a", i+1)
	}
	return paths
}
