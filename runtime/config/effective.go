package config

import "slices"

// The effective defaults, right for 100,000 users.
const (
	defaultListen  = ":8443"
	defaultMetrics = ":9090"
	// The admin port binds to loopback in the pod (architecture.md, rule 7).
	defaultAdmin = "127.0.0.1:8081"
	// Time for endpoints controllers and load balancers to take a pod out of rotation.
	defaultDrainDelaySeconds = 10
	defaultEnvironmentType   = "OnPrem"
	// H-01.
	defaultStatusFrequencyMinutes = 15
	defaultMaxUsers               = 100_000
	defaultMaxDevicesPerUser      = 20
	// A registration costs about 4 ms of CPU (RSA, two EWS calls), so this is near what two cores can do.
	defaultRequestsPerSecond = 500
	// A phone that re-registers after each of several failures stays below this; a guesser does not get far.
	defaultUserRequestsPerMinute = 60
	// A storm of new phones beyond the key pool is bound by key generation (about 22 pairs a second and core).
	defaultNewUsersPerMinute = 6_000
	// K-02, K-04; the interval is shorter than the original's 120 minutes (K-03) because looking costs one count.
	defaultKeyPoolSize           = 500
	defaultKeyPoolRefillBelow    = 250
	defaultKeyPoolRefillInterval = 60
	// In flight at the peak of 100,000 users: 104 (push.md, section 4).
	defaultCallbackWorkers = 256
	defaultLeaseSeconds    = 90
	defaultEndpointTimeout = 30
	// EWSMaxConcurrency bounds per user, this bounds what one replica asks of a server as a whole.
	defaultEndpointConcurrency = 256
	// Retries inside stay below a minute, while the credential may be held (protocol.md, Callback semantics).
	defaultPushTimeout     = 20
	defaultPushConcurrency = 256
	// An hour after a mailbox server has been replaced, everybody has found the new one.
	defaultAutodiscoverCache = 3_600
	// G-04.
	defaultDeviceIDHeader = "Request-DeviceId"
	defaultDevicesHeader  = "EnsDevices"
	// E-01.
	defaultUserAgent = "MailNotificationService/v2 (ExchangeServicesClient/15.00.0913.015)"
)

// The base paths of the original: on-premises (P-01) and cloud (P-02).
var originalBasePaths = []string{"/MailNotificationService/api/ens", "/api/ens"}

// Effective returns a copy of c in which every optional field has its value.
func (c Config) Effective() Config {
	setDefault(&c.Server.Listen, defaultListen)
	setDefault(&c.Server.Metrics, defaultMetrics)
	setDefault(&c.Server.Admin, defaultAdmin)
	setDefault(&c.Server.EnvironmentType, defaultEnvironmentType)
	if c.Server.DrainDelaySeconds == nil {
		c.Server.DrainDelaySeconds = new(int32(defaultDrainDelaySeconds))
	}
	c.Server.BasePaths = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(c.Server.BasePaths), originalBasePaths...))))

	setDefault(&c.Server.MinTLSVersion, TLS12)
	setDefault(&c.MailboxProof, ProofRequired)
	setDefault(&c.Notifications.StatusFrequencyMinutes, defaultStatusFrequencyMinutes)
	setDefault(&c.Notifications.UnchangedBadges, UnchangedSuppress)
	setDefault(&c.Limits.MaxUsers, defaultMaxUsers)
	setDefault(&c.Limits.MaxDevicesPerUser, defaultMaxDevicesPerUser)
	setDefault(&c.Limits.RequestsPerSecond, defaultRequestsPerSecond)
	setDefault(&c.Limits.UserRequestsPerMinute, defaultUserRequestsPerMinute)
	setDefault(&c.Limits.NewUsersPerMinute, defaultNewUsersPerMinute)
	setDefault(&c.KeyPool.Size, defaultKeyPoolSize)
	setDefault(&c.KeyPool.RefillBelow, defaultKeyPoolRefillBelow)
	setDefault(&c.KeyPool.RefillIntervalSeconds, defaultKeyPoolRefillInterval)
	setDefault(&c.Callback.Workers, defaultCallbackWorkers)
	setDefault(&c.Callback.LeaseSeconds, defaultLeaseSeconds)
	c.Logging = c.Logging.Effective()
	if c.Tracing != nil {
		tracing := *c.Tracing
		setDefault(&tracing.SamplePerMille, defaultSamplePerMille)
		c.Tracing = &tracing
	}

	c.Endpoints = slices.Clone(c.Endpoints)
	for i := range c.Endpoints {
		endpoint := &c.Endpoints[i]
		setDefault(&endpoint.TimeoutSeconds, defaultEndpointTimeout)
		setDefault(&endpoint.MaxConcurrentRequests, defaultEndpointConcurrency)
		setDefault(&endpoint.UserAgent, defaultUserAgent)
		setDefault(&endpoint.MinTLSVersion, TLS12)
		if endpoint.SecureEmailGateway != nil {
			gateway := *endpoint.SecureEmailGateway
			setDefault(&gateway.DeviceIDHeader, defaultDeviceIDHeader)
			setDefault(&gateway.DevicesHeader, defaultDevicesHeader)
			endpoint.SecureEmailGateway = &gateway
		}
		if len(endpoint.AuthenticationMethods) == 0 {
			endpoint.AuthenticationMethods = []AuthenticationMethod{AuthBasic}
		}
	}
	if c.Autodiscover != nil {
		autodiscover := *c.Autodiscover
		setDefault(&autodiscover.CacheSeconds, defaultAutodiscoverCache)
		if len(autodiscover.AuthenticationMethods) == 0 {
			autodiscover.AuthenticationMethods = allowedByAll(c.Endpoints)
		}
		c.Autodiscover = &autodiscover
	}
	c.PushProviders = slices.Clone(c.PushProviders)
	for i := range c.PushProviders {
		provider := &c.PushProviders[i]
		setDefault(&provider.TimeoutSeconds, defaultPushTimeout)
		setDefault(&provider.MaxConcurrentPushes, defaultPushConcurrency)
		if provider.CNS != nil {
			provider.CNS = new(provider.CNS.effective())
		}
	}
	return c
}

// allowedByAll are the authentication methods that every endpoint allows.
func allowedByAll(endpoints []Endpoint) []AuthenticationMethod {
	var methods []AuthenticationMethod
	for _, method := range authenticationMethods {
		if !slices.ContainsFunc(endpoints, func(e Endpoint) bool { return !slices.Contains(e.AuthenticationMethods, method) }) {
			methods = append(methods, method)
		}
	}
	return methods
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
