// Package tenant is the loaded configuration made usable: keys that seal, endpoints that can be called, providers that
// push. A new Tenant is made whenever the configuration changes; work under way keeps the one it began with.
package tenant

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/breaker"
	"github.com/ens-operator/ens-operator/runtime/push/cns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/sns"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// Tenant is immutable and safe for concurrent use.
type Tenant struct {
	Config  config.Config
	Tokens  config.APITokens
	Keys    config.Keys
	Keyring *credential.Keyring
	// Hash names the configuration this was made from.
	Hash string

	endpoints map[string]*Endpoint
	providers map[string]*Provider
	// discoverer is nil if Autodiscover is off.
	discoverer *autodiscover.Discoverer
}

// Endpoint is an Exchange server of the tenant.
type Endpoint struct {
	config.Endpoint
	Client *ews.Client
}

// Provider is a push provider of the tenant.
type Provider struct {
	config.PushProvider
	*breaker.Breaker

	// notAfter is when its credential expires, zero for never.
	notAfter time.Time
	// identity tells whether it is the same after the configuration has changed, credential included.
	identity [sha256.Size]byte
}

// Options are what a Tenant needs beyond its configuration.
type Options struct {
	Clock  clock.WithTickerAndDelayedExecution
	Logger *slog.Logger
	// DialContext opens connections instead of the egress guard, and LookupSRV finds service records instead of the
	// system's resolver: for tests and the demo, where names lead to simulated servers.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	LookupSRV   func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// New makes a Tenant. Close gives its connections back.
func New(loaded *config.Loaded, o Options) (*Tenant, error) {
	keyring, err := credential.NewKeyring(loaded.Config.Tenant.ID, loaded.Keys)
	if err != nil {
		return nil, fmt.Errorf("the tenant's keys: %w", err)
	}
	t := &Tenant{
		Config: loaded.Config, Tokens: loaded.Tokens, Keys: loaded.Keys, Keyring: keyring, Hash: loaded.Hash,
		endpoints: map[string]*Endpoint{}, providers: map[string]*Provider{},
	}
	if o.DialContext == nil {
		o.DialContext = egress.Guard{AllowLoopback: loaded.Config.AllowLoopback}.DialContext
	}
	for _, endpoint := range loaded.Config.Endpoints {
		client, err := ews.NewClient(ews.Options{
			Endpoint:    endpoint,
			TLS:         verification(endpoint, loaded),
			DialContext: o.DialContext,
			Clock:       o.Clock,
			Logger:      o.Logger,
		})
		if err != nil {
			_ = t.Close()
			return nil, err
		}
		t.endpoints[endpoint.Name] = &Endpoint{Endpoint: endpoint, Client: client}
	}
	for _, provider := range loaded.Config.PushProviders {
		p, err := newProvider(provider, loaded, o)
		if err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("push provider %s: %w", provider.Name, err)
		}
		made := &Provider{PushProvider: provider, Breaker: breaker.New(provider.Name, p, o.Clock, o.Logger), identity: identityOf(provider, loaded)}
		if expiring, ok := p.(interface{ NotAfter() time.Time }); ok {
			made.notAfter = expiring.NotAfter()
		}
		t.providers[provider.Name] = made
	}
	t.discover(loaded, o)
	return t, nil
}

// verification is how an endpoint's certificate is verified.
func verification(endpoint config.Endpoint, loaded *config.Loaded) *tls.Config {
	return egress.TLSConfig(egress.Verification{
		SHA256: endpoint.Pinning.SHA256, PublicKeySHA256: endpoint.Pinning.PublicKeySHA256, Roots: loaded.EndpointCAs[endpoint.Name], MinVersion: endpoint.MinTLSVersion.Number(),
	})
}

// discover sets Autodiscover up, if it is on.
func (t *Tenant) discover(loaded *config.Loaded, o Options) {
	if t.Config.Autodiscover == nil {
		return
	}
	t.discoverer = autodiscover.New(autodiscover.Options{
		Config: *t.Config.Autodiscover,
		Endpoint: func(address string) string {
			if endpoint := t.EndpointAt(address); endpoint != nil {
				return endpoint.Name
			}
			return ""
		},
		Connect: func(hostPort string) *authn.Authenticator {
			return authn.New(authn.Options{
				Name: "Autodiscover", Methods: t.Config.Autodiscover.AuthenticationMethods, TLS: t.verifyHost(hostPort, loaded),
				DialContext: o.DialContext, Clock: o.Clock,
			})
		},
		LookupSRV: o.LookupSRV,
		UserAgent: t.Config.Endpoints[0].UserAgent,
		Clock:     o.Clock,
		Logger:    o.Logger,
	})
}

// verifyHost is how a host is verified that Autodiscover asks: as the endpoint at the same host is, else by the
// authorities given for Autodiscover, else by the system's.
func (t *Tenant) verifyHost(hostPort string, loaded *config.Loaded) *tls.Config {
	for _, endpoint := range t.Config.Endpoints {
		if own, ok := canonical(endpoint.URL); ok && strings.HasPrefix(own, "https://"+strings.ToLower(hostPort)+"/") {
			return verification(endpoint, loaded)
		}
	}
	return egress.TLSConfig(egress.Verification{Roots: loaded.AutodiscoverCAs})
}

// Discoverer finds a user's endpoint by the e-mail address; nil if Autodiscover is off.
func (t *Tenant) Discoverer() *autodiscover.Discoverer { return t.discoverer }

func newProvider(p config.PushProvider, loaded *config.Loaded, o Options) (push.Provider, error) {
	credential := func(file string) secret.Value { return loaded.PushCredentials[config.PushCredential(p.Name, file)] }
	if p.Proxy != nil {
		proxy := egress.Proxy{URL: p.Proxy.URL}
		if p.Proxy.Authenticate {
			proxy.Username, proxy.Password = credential(config.ProxyUsernameFile), credential(config.ProxyPasswordFile)
		}
		through, err := proxy.Through(o.DialContext)
		if err != nil {
			return nil, err
		}
		o.DialContext = through
	}
	settings := push.Settings{
		Name: p.Name, RootCAs: loaded.PushCAs[p.Name], DialContext: o.DialContext, Clock: o.Clock, Logger: o.Logger,
		Timeout: p.Timeout(), MaxConcurrent: int(p.MaxConcurrentPushes),
	}
	switch {
	case p.APNs != nil:
		return apns.New(apns.Options{
			Settings: settings, Config: *p.APNs, Key: credential(config.APNsKeyFile),
			Certificate: pfx.File{Content: credential(config.APNsCertificateFile), Password: credential(config.APNsCertificatePasswordFile)},
		})
	case p.FCM != nil:
		return fcm.New(fcm.Options{Settings: settings, Config: *p.FCM, ServiceAccount: credential(config.FCMServiceAccountFile)})
	case p.SNS != nil:
		return sns.New(sns.Options{
			Settings: settings, Config: *p.SNS, WebIdentityTokenFile: loaded.WebIdentityTokens[p.Name],
			AccessKeyID: credential(config.SNSAccessKeyIDFile), SecretAccessKey: credential(config.SNSSecretAccessKeyFile),
		})
	case p.CNS != nil:
		return cns.New(cns.Options{
			Settings: settings, Config: *p.CNS,
			Signing: pfx.File{Content: credential(config.CNSSigningFile), Password: credential(config.CNSSigningPasswordFile)},
			Client:  pfx.File{Content: credential(config.CNSClientFile), Password: credential(config.CNSClientPasswordFile)},
		})
	default:
		return nil, errors.New("the configuration does not say what kind of push provider it is")
	}
}

// Close gives the connections of all endpoints and providers back. Calls to Exchange that are under way end as usual,
// pushes fail.
func (t *Tenant) Close() error {
	var errs []error
	for _, endpoint := range t.endpoints {
		endpoint.Client.Close()
	}
	if t.discoverer != nil {
		t.discoverer.Close()
	}
	for _, provider := range t.providers {
		errs = append(errs, provider.Close())
	}
	return errors.Join(errs...)
}

// KEKChecks are the check values of the KEKs at hand, by number.
func (t *Tenant) KEKChecks() map[int]string { return checks(t.Keys.KEKs) }

// WebhookChecks are the check values of the webhook keys at hand, by number.
func (t *Tenant) WebhookChecks() map[int]string { return checks(t.Keys.Webhooks) }

func checks(keys map[int]secret.Value) map[int]string {
	checks := map[int]string{}
	for number, key := range keys {
		checks[number] = config.CheckValue(key)
	}
	return checks
}

// Endpoint returns the endpoint of that name, nil if there is none (any more).
func (t *Tenant) Endpoint(name string) *Endpoint { return t.endpoints[name] }

// OnlyEndpoint returns the tenant's endpoint if there is just one, else nil.
func (t *Tenant) OnlyEndpoint() *Endpoint {
	if len(t.endpoints) != 1 {
		return nil
	}
	for _, endpoint := range t.endpoints {
		return endpoint
	}
	return nil
}

// EndpointAt returns the endpoint with that EWS address, nil if the tenant may not reach it. Addresses are compared by
// scheme, lower-cased host, effective port and path without regard to case (protocol.md, code 35).
func (t *Tenant) EndpointAt(address string) *Endpoint {
	wanted, ok := canonical(address)
	if !ok {
		return nil
	}
	for _, endpoint := range t.endpoints {
		if own, ok := canonical(endpoint.URL); ok && own == wanted {
			return endpoint
		}
	}
	return nil
}

func canonical(address string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	host := net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	return strings.ToLower(u.Scheme) + "://" + host + strings.ToLower(strings.TrimSuffix(u.EscapedPath(), "/")), true
}

// Provider returns the push provider of that name, nil if there is none (any more).
func (t *Tenant) Provider(name string) *Provider { return t.providers[name] }
