package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a configuration may ask for. Where a number is not someone else's, it is far from what anybody needs
// and only keeps a typing error from doing harm.
const (
	// MaxCallbackURL keeps the whole webhook URL below 500 characters (protocol.md, The webhook URL); Exchange refuses
	// more than 2,082.
	MaxCallbackURL = 150
	// maxURL bounds all other URLs; longer ones do not pass proxies.
	maxURL = 2_048
	// maxHeaderText bounds texts that become a header or a field of every answer.
	maxHeaderText = 256
	// maxBasePaths and maxPinned bound lists that are gone through for every request.
	maxBasePaths = 32
	maxPinned    = 32
	// maxItems bounds the lists of endpoints, providers and apps.
	maxItems = 1_000
	// maxDrainDelay leaves room within the longest termination grace period that is usual, 10 minutes.
	maxDrainDelay = 300
	// maxEndpointTimeout: a plaintext credential lives for less than two minutes (protocol.md, rule 5), and a request
	// holds one.
	maxEndpointTimeout = 100
	// maxPushTimeout: retries end within about a minute (protocol.md, Callback semantics).
	maxPushTimeout    = 60
	maxConcurrency    = 10_000
	maxPolicy         = 4     // N-05
	maxStatusMinutes  = 1_440 // H-01, the schema's limit of StatusFrequency
	maxUsers          = 10_000_000
	maxDevicesPerUser = 100
	maxRate           = 1_000_000
	maxKeyPoolSize    = 100_000
	maxRefillInterval = 86_400
	// maxAutodiscoverCache: after a day at most a mailbox that was moved is looked for again.
	maxAutodiscoverCache = 86_400
	// maxDomains are gone through for every host that is asked.
	maxDomains = 100
	// A lease shorter than minLease would end while its work still waits for Exchange, and the work would be done
	// twice; one longer than maxLease keeps the work of a crashed replica waiting.
	minLease = 5
	maxLease = 600
	maxPort  = 65_535
)

var (
	// tenantID is a name Postgres takes for a schema without quotes, at most 63 bytes.
	tenantID = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	// dnsLabel is what names of endpoints and providers look like; they are folder names too.
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// objectName is the name of a Kubernetes object (RFC 1123 subdomain), without its limit of 253 characters.
	objectName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$`)
	fingerprint = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// appleID is a team or key id of an Apple developer account.
	appleID = regexp.MustCompile(`^[A-Z0-9]{10}$`)
	// appID is a bundle id or an Android package, which has underscores.
	appID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$`)
	// projectID is a Google Cloud project, the older ones with a domain before a colon.
	projectID = regexp.MustCompile(`^([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
)

const (
	maxObjectName = 253
	maxHostName   = 253
)

// authenticationMethods are those the runtime implements.
var authenticationMethods = []AuthenticationMethod{AuthBasic, AuthNTLM, AuthOAuth, AuthClientCertificate}

var tlsVersions = []string{string(TLS10), string(TLS11), string(TLS12), string(TLS13)}

// headerName is a header's name (RFC 9110, section 5.6.2), without the signs that nobody uses.
var headerName = regexp.MustCompile(`^[A-Za-z0-9][-_A-Za-z0-9]{0,63}$`)

// FieldError is one fault of a configuration.
type FieldError struct {
	// Field is the path in the file, e.g. endpoints[exchange].url; list items stand by their name if they have one.
	Field string
	// Problem says what is wanted. It holds no URL, because people put credentials into them.
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Validate finds everything that is wrong with the configuration, as *FieldErrors joined by errors.Join. What is not
// set is taken as its effective default.
func (c Config) Validate() error {
	c = c.Effective()
	var f findings
	f.tenant(c.Tenant)
	f.server(c.Server)
	f.endpoints(c.Endpoints)
	f.autodiscover(c.Autodiscover)
	f.pushProviders(c.PushProviders)
	f.within("notifications.policyCeiling", c.Notifications.PolicyCeiling, 0, maxPolicy)
	f.within("notifications.statusFrequencyMinutes", c.Notifications.StatusFrequencyMinutes, 1, maxStatusMinutes)
	f.oneOf("notifications.unchangedBadges", string(c.Notifications.UnchangedBadges), string(UnchangedSuppress), string(UnchangedSend))
	f.oneOf("mailboxProof", string(c.MailboxProof), string(ProofRequired), string(ProofFirstUse))
	f.within("limits.maxUsers", c.Limits.MaxUsers, 1, maxUsers)
	f.within("limits.maxDevicesPerUser", c.Limits.MaxDevicesPerUser, 1, maxDevicesPerUser)
	f.within("limits.requestsPerSecond", c.Limits.RequestsPerSecond, 1, maxRate)
	f.within("limits.userRequestsPerMinute", c.Limits.UserRequestsPerMinute, 1, maxRate)
	f.within("limits.newUsersPerMinute", c.Limits.NewUsersPerMinute, 1, maxRate)
	f.within("keyPool.size", c.KeyPool.Size, 1, maxKeyPoolSize)
	f.within("keyPool.refillBelow", c.KeyPool.RefillBelow, 1, maxKeyPoolSize)
	if c.KeyPool.RefillBelow > c.KeyPool.Size {
		f.add("keyPool.refillBelow", "must not be above keyPool.size, %d", c.KeyPool.Size)
	}
	f.within("keyPool.refillIntervalSeconds", c.KeyPool.RefillIntervalSeconds, 1, maxRefillInterval)
	f.within("callback.workers", c.Callback.Workers, 1, maxConcurrency)
	f.within("callback.leaseSeconds", c.Callback.LeaseSeconds, minLease, maxLease)
	f.logging(c.Logging)
	f.tracing(c.Tracing)
	return errors.Join(f...)
}

// findings are the faults found so far.
type findings []error

func (f *findings) add(field, format string, arguments ...any) {
	*f = append(*f, &FieldError{Field: field, Problem: fmt.Sprintf(format, arguments...)})
}

func (f *findings) within(field string, value, low, high int32) {
	if value < low || value > high {
		f.add(field, "want a number from %d to %d, have %d", low, high, value)
	}
}

func (f *findings) oneOf(field, value string, known ...string) {
	if !slices.Contains(known, value) {
		f.add(field, "want one of %s, have %.100q", strings.Join(known, ", "), value)
	}
}

func (f *findings) matches(field, value string, pattern *regexp.Regexp, what string) {
	if !pattern.MatchString(value) {
		f.add(field, "want %s, have %.100q", what, value)
	}
}

func (f *findings) headerText(field, value string) {
	isUnfit := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	if len(value) > maxHeaderText || strings.ContainsFunc(value, isUnfit) {
		f.add(field, "want at most %d printable ASCII characters", maxHeaderText)
	}
}

func (f *findings) tenant(t Tenant) {
	f.matches("tenant.id", t.ID, tenantID, "a database schema's name: a lower-case letter, then at most 62 lower-case letters, digits and underscores")
	f.objectName("tenant.namespace", t.Namespace)
	f.objectName("tenant.name", t.Name)
}

// objectName checks what names the tenant in logs; a runtime outside Kubernetes may have none.
func (f *findings) objectName(field, value string) {
	if value != "" && (len(value) > maxObjectName || !objectName.MatchString(value)) {
		f.add(field, "want the name of a Kubernetes object or nothing, have %.100q", value)
	}
}

func (f *findings) server(s Server) {
	addresses := map[string]string{}
	for _, listener := range []struct{ field, address string }{
		{"server.listen", s.Listen}, {"server.metrics", s.Metrics}, {"server.admin", s.Admin},
	} {
		f.listenAddress(listener.field, listener.address)
		if other, taken := addresses[listener.address]; taken && !strings.HasSuffix(listener.address, ":0") {
			f.add(listener.field, "must not be the address of %s", other)
		}
		addresses[listener.address] = listener.field
	}
	if host, _, err := net.SplitHostPort(s.Admin); err == nil && !isLoopback(host) {
		f.add("server.admin", "want a loopback address, e.g. %s, have %.100q: it is not protected otherwise", defaultAdmin, s.Admin)
	}
	f.oneOf("server.minTLSVersion", string(s.MinTLSVersion), tlsVersions...)
	f.callbackURL(s.CallbackURL)
	if len(s.BasePaths) > maxBasePaths {
		f.add("server.basePaths", "want at most %d, have %d", maxBasePaths, len(s.BasePaths))
	}
	for _, basePath := range s.BasePaths {
		if len(basePath) > maxURL || !strings.HasPrefix(basePath, "/") || !isBasePath(basePath) {
			f.add("server.basePaths", "want paths like /api/ens, without a slash at the end, have %.100q", basePath)
		}
	}
	f.headerText("server.environmentType", s.EnvironmentType)
	f.within("server.drainDelaySeconds", *s.DrainDelaySeconds, 0, maxDrainDelay)
}

func (f *findings) listenAddress(field, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		f.add(field, "want host:port or :port, have %.100q", address)
		return
	}
	if number, err := strconv.Atoi(port); err != nil || number < 0 || number > maxPort {
		f.add(field, "want a port from 0 to %d, have %.100q", maxPort, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !isHostName(host) {
		f.add(field, "want an IP address, a host name or nothing before the port, have %.100q", host)
	}
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

func isHostName(host string) bool { return len(host) <= maxHostName && hostName.MatchString(host) }

// isBasePath says whether calls can be put below a path: it is not empty, does not end with a slash, and stands for
// itself, without escapes, dots or anything else a proxy would rewrite.
func isBasePath(text string) bool {
	isUnfit := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/-._~", r)
	}
	return text != "/" && path.Clean(text) == text && !strings.ContainsFunc(text, isUnfit)
}

func (f *findings) callbackURL(text string) {
	const field = "server.callbackURL"
	if len(text) > MaxCallbackURL {
		f.add(field, "want at most %d characters, have %d: Exchange bounds the length of the whole webhook URL", MaxCallbackURL, len(text))
		return
	}
	u := f.url(field, text, "http", "https")
	if u == nil {
		return
	}
	if !isBasePath(u.EscapedPath()) {
		f.add(field, "want the path up to and including the API's, without a slash at the end, e.g. https://ens.example.com%s", originalBasePaths[0])
	}
}

// url checks what is true of all URLs and returns nil if something is not. No message repeats the URL: what should not
// stand in it may be a credential.
func (f *findings) url(field, text string, schemes ...string) *url.URL {
	u, err := url.Parse(text)
	known := len(*f)
	switch {
	case text == "":
		f.add(field, "is required")
	case len(text) > maxURL:
		f.add(field, "want at most %d characters, have %d", maxURL, len(text))
	case err != nil || u.Host == "" || u.Opaque != "":
		f.add(field, "want an absolute URL with %s://", strings.Join(schemes, ":// or "))
	case !slices.Contains(schemes, u.Scheme):
		f.add(field, "want a URL with %s://, have %s://", strings.Join(schemes, ":// or "), u.Scheme)
	case u.User != nil:
		f.add(field, "must not hold a user or a password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		f.add(field, "must not have a query or a fragment")
	case !isURLHost(u):
		f.add(field, "want a host name or an IP address, and a port from 1 to %d if any", maxPort)
	}
	if len(*f) > known {
		return nil
	}
	return u
}

func isURLHost(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	if port := u.Port(); port != "" {
		if number, err := strconv.Atoi(port); err != nil || number < 1 || number > maxPort {
			return false
		}
	}
	_, err := netip.ParseAddr(u.Hostname())
	return err == nil || isHostName(u.Hostname())
}

// serverURL is an https URL of a server as a whole.
func (f *findings) serverURL(field, text string) {
	if u := f.url(field, text, "https"); u != nil && strings.Trim(u.Path, "/") != "" {
		f.add(field, "want scheme and host only, without a path")
	}
}

func (f *findings) endpoints(endpoints []Endpoint) {
	if len(endpoints) == 0 || len(endpoints) > maxItems {
		f.add("endpoints", "want 1 to %d Exchange servers, have %d", maxItems, len(endpoints))
		return
	}
	names, addresses := map[string]bool{}, map[string]string{}
	for i, endpoint := range endpoints {
		field := f.item("endpoints", i, endpoint.Name, names)
		if u := f.url(field+".url", endpoint.URL, "https"); u != nil {
			if strings.Trim(u.Path, "/") == "" {
				f.add(field+".url", "want the full EWS address, e.g. https://%s/EWS/Exchange.asmx", u.Host)
			}
			address := sameAddress(u)
			if other, taken := addresses[address]; taken {
				f.add(field+".url", "is the address of endpoint %q already; a device that names it could mean either", other)
			}
			addresses[address] = endpoint.Name
		}
		f.pinning(field+".pinning", endpoint.Pinning)
		f.authenticationMethods(field, endpoint.AuthenticationMethods)
		f.oneOf(field+".minTLSVersion", string(endpoint.MinTLSVersion), tlsVersions...)
		if endpoint.ServerVersion != "" {
			f.oneOf(field+".serverVersion", string(endpoint.ServerVersion), string(Exchange2010SP1), string(Exchange2010SP2), string(Exchange2013))
		}
		f.gateway(field, endpoint)
		f.within(field+".timeoutSeconds", endpoint.TimeoutSeconds, 1, maxEndpointTimeout)
		f.within(field+".maxConcurrentRequests", endpoint.MaxConcurrentRequests, 1, maxConcurrency)
		f.headerText(field+".userAgent", endpoint.UserAgent)
	}
}

func (f *findings) authenticationMethods(field string, methods []AuthenticationMethod) {
	for _, method := range methods {
		if !slices.Contains(authenticationMethods, method) {
			f.add(field+".authenticationMethods", "%.100q is unknown to this version, which knows %q", method, authenticationMethods)
		}
	}
}

// gateway checks the settings of a SEG, through which NTLM does not pass (G-13).
func (f *findings) gateway(field string, endpoint Endpoint) {
	gateway := endpoint.SecureEmailGateway
	if gateway == nil {
		return
	}
	const what = "the name of a header"
	f.matches(field+".secureEmailGateway.deviceIDHeader", gateway.DeviceIDHeader, headerName, what)
	f.matches(field+".secureEmailGateway.devicesHeader", gateway.DevicesHeader, headerName, what)
	if strings.EqualFold(gateway.DeviceIDHeader, gateway.DevicesHeader) {
		f.add(field+".secureEmailGateway.devicesHeader", "must not be the same as deviceIDHeader")
	}
	if slices.Contains(endpoint.AuthenticationMethods, AuthNTLM) {
		f.add(field+".authenticationMethods", "must not hold %s: it does not pass a secure email gateway", AuthNTLM)
	}
}

func (f *findings) autodiscover(a *Autodiscover) {
	if a == nil {
		return
	}
	if len(a.Domains) == 0 || len(a.Domains) > maxDomains {
		f.add("autodiscover.domains", "want 1 to %d domains, have %d", maxDomains, len(a.Domains))
	}
	for i, domain := range a.Domains {
		if !isHostName(domain) || strings.Trim(domain, "0123456789.") == "" || !strings.Contains(domain, ".") {
			f.add(fmt.Sprintf("autodiscover.domains[%d]", i), "want a domain like example.com, have %.100q", domain)
		}
	}
	f.authenticationMethods("autodiscover", a.AuthenticationMethods)
	f.within("autodiscover.cacheSeconds", a.CacheSeconds, 1, maxAutodiscoverCache)
}

// EndpointAddress is equal for the URLs of endpoints that a configuration may not hold both of, because they mean the
// same server and path; text that is no URL stands for itself.
func EndpointAddress(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return sameAddress(u)
}

// sameAddress is equal for URLs that mean the same endpoint (protocol.md, response code 35).
func sameAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port) + u.EscapedPath())
}

// item checks the name of a list's item and returns the item's field path.
func (f *findings) item(list string, index int, name string, taken map[string]bool) string {
	field := fmt.Sprintf("%s[%d]", list, index)
	if !dnsLabel.MatchString(name) {
		f.add(field+".name", "want at most 63 lower-case letters, digits and hyphens, have %.100q", name)
		return field
	}
	field = fmt.Sprintf("%s[%s]", list, name)
	if taken[name] {
		f.add(field+".name", "is there twice")
	}
	taken[name] = true
	return field
}

func (f *findings) pinning(field string, p Pinning) {
	if (len(p.SHA256)+len(p.PublicKeySHA256) > 0) == p.CertificateAuthority {
		f.add(field, "want either fingerprints, in sha256 or publicKeySHA256, or certificateAuthority")
	}
	for list, pins := range map[string][]string{".sha256": p.SHA256, ".publicKeySHA256": p.PublicKeySHA256} {
		if len(pins) > maxPinned {
			f.add(field+list, "want at most %d fingerprints, have %d", maxPinned, len(pins))
		}
		for i, pin := range pins {
			f.matches(fmt.Sprintf("%s%s[%d]", field, list, i), pin, fingerprint, "64 lower-case hex digits")
		}
	}
}
