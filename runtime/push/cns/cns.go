// Package cns delivers notifications through VMware's Cloud Notification Service, which passes them on to Apple or
// Google. It is experimental.
//
// The service is not described in public. Known from the documentation and the logs of the original are the address,
// the signature over the URL's path, mutual TLS, public-key pins, the proxy, success, and the refusal of a certificate
// (C-01 to C-10). The body of a request and everything else that an answer may say are our own choice, and no real
// server has been seen to take them.
//
// A push whose connection ends before the answer is sent again. So a phone may in rare cases get it twice, as with
// Apple and Google.
package cns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	defaultTimeout       = 20 * time.Second
	defaultMaxConcurrent = 256
	// maxAttempts bounds the requests of one push; what is still undelivered is tried again from the journal.
	maxAttempts = 4
)

var (
	errClosed  = errors.New("the push provider is closed")
	errTimeout = errors.New("the push was not done in time")
)

// File is a PKCS#12 file with its password. The end of the line that editors put there is no part of the password.
type File struct{ Content, Password secret.Value }

func (f File) open() (tls.Certificate, error) {
	password := secret.FromString(line(f.Password))
	defer password.Wipe()
	return pfx.Open(f.Content.Reveal(), password)
}

// Options are what a Provider is made from. Config, Name and Signing are required.
type Options struct {
	// Config is effective.
	Config config.CNS
	// Name is the configured name, for errors.
	Name string
	// Signing is the certificate that signs, Client the one for mutual TLS if Config says that it is another. Neither
	// file is kept.
	Signing, Client File
	// ProxyUsername and ProxyPassword are used if Config.Proxy says so.
	ProxyUsername, ProxyPassword secret.Value
	// RootCAs are trusted instead of the system's if not nil.
	RootCAs *x509.CertPool
	// DialContext makes the TCP connections, nil for plain ones. It is where an address may be refused. Through a proxy
	// it sees the proxy's address alone.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock dates expirations and what is known of signatures; nil is the real one.
	Clock clock.PassiveClock
	// Logger gets what the original logged (L-22); nil is slog.Default(). It never gets a token or a text.
	Logger *slog.Logger
	// Timeout bounds a push with its retries; 0 is 20 s.
	Timeout time.Duration
	// MaxConcurrent bounds the pushes at once; others wait. 0 is 256.
	MaxConcurrent int
}

// Provider implements push.Provider.
type Provider struct {
	name    string
	config  config.CNS
	url     string
	client  *http.Client
	base    *http.Transport
	signer  *signer
	slots   *semaphore.Weighted
	timeout time.Duration
	clock   clock.PassiveClock
	log     *slog.Logger

	lifetime context.Context
	end      context.CancelCauseFunc
}

var _ push.Provider = (*Provider)(nil)

// New returns a Provider. It connects with the first push. The error says what to correct in the configuration.
func New(o Options) (*Provider, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = defaultMaxConcurrent
	}
	address, err := url.Parse(o.Config.URL)
	if err != nil || address.Scheme != "https" || address.Hostname() == "" || address.Path == "" || address.User != nil || address.RawQuery != "" {
		return nil, fmt.Errorf("push provider %s: the CNS url must be https://, a host and a path", o.Name)
	}
	signing, err := o.Signing.open()
	if err != nil {
		return nil, fmt.Errorf("push provider %s: the certificate that signs: %w", o.Name, err)
	}
	base, err := newTransport(o, signing)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	made := newSigner(signing, address.EscapedPath(), o.Clock)
	if _, err := made.authorization(); err != nil {
		return nil, fmt.Errorf("push provider %s: the certificate that signs cannot sign: %w", o.Name, err)
	}
	lifetime, end := context.WithCancelCause(context.Background())
	return &Provider{
		name: o.Name, config: o.Config, url: address.String(), base: base, signer: made,
		client: &http.Client{
			Transport:     &outbound.Bounded{Base: base, Patience: min(outbound.AnswerTimeout, o.Timeout/2)},
			CheckRedirect: outbound.KeepRedirect,
		},
		slots: semaphore.NewWeighted(int64(o.MaxConcurrent)), timeout: o.Timeout, clock: o.Clock, log: o.Logger,
		lifetime: lifetime, end: end,
	}, nil
}

// Push implements push.Provider.
func (p *Provider) Push(ctx context.Context, d push.Device, n push.Notification) error {
	if reason, outcome := p.objection(d, n); reason != "" {
		return &push.Error{Provider: p.name, Outcome: outcome, Reason: reason}
	}
	body, err := compose(n, d, p.config, p.clock.Now())
	if err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Rejected, Err: err}
	}
	if p.lifetime.Err() != nil {
		return &push.Error{Provider: p.name, Outcome: push.Retry, Err: errClosed}
	}
	bounded, cancel := context.WithTimeoutCause(ctx, p.timeout, errTimeout)
	defer cancel()
	bounded, stop := context.WithCancelCause(bounded)
	defer stop(nil)
	defer context.AfterFunc(p.lifetime, func() { stop(errClosed) })()
	refusal := p.deliver(bounded, body)
	if refusal != nil && ctx.Err() == nil {
		enslog.CNSFailed.Log(ctx, p.log, p.url, refusal.Error(), refusal.Reason)
	}
	if p.lifetime.Err() != nil {
		// Close could not close the connection that this push was using.
		p.base.CloseIdleConnections()
	}
	if refusal == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return refusal
}

// objection returns why a push is not even tried.
func (p *Provider) objection(d push.Device, n push.Notification) (string, push.Outcome) {
	isApple := p.config.Platform == config.CNSPlatformIOS
	switch {
	case !n.Kind.Known():
		return "UnknownKind", push.Rejected
	case n.Kind == push.Badge && n.Unread == nil:
		return "BadgeWithoutCount", push.Rejected
	case (d.Platform == push.IOS) != isApple:
		return "PlatformNotServed", push.Misconfigured
	case len(p.config.AppIDs) > 0 && d.AppID != "" && !slices.Contains(p.config.AppIDs, d.AppID):
		return "AppNotServed", push.Misconfigured
	case isApple && !apns.IsDeviceToken(d.Token):
		return "MalformedDeviceToken", push.DeadToken
	case d.Token == "" || len(d.Token) > fcm.MaxToken:
		return "MalformedRegistrationToken", push.DeadToken
	default:
		return "", 0
	}
}

// deliver sends the push, again while the service or the way to it is at fault.
func (p *Provider) deliver(ctx context.Context, body []byte) *push.Error {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Retry, Reason: "TooManyAtOnce", Err: context.Cause(ctx)}
	}
	defer p.slots.Release(1)
	for made := 1; ; made++ {
		refusal := p.send(ctx, body)
		if refusal == nil || refusal.Outcome != push.Retry || refusal.Status == http.StatusTooManyRequests || made == maxAttempts || ctx.Err() != nil ||
			!outbound.WaitToRetry(ctx, made, refusal.RetryAfter) {
			return refusal
		}
	}
}

// Close implements push.Provider.
func (p *Provider) Close() error {
	p.end(errClosed)
	p.base.CloseIdleConnections()
	return nil
}
