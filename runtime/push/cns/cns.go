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
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

// maxAttempts bounds the requests of one push; what is still undelivered is tried again from the journal.
const maxAttempts = 4

// Options are what a Provider is made from. Config, Name and Signing are required.
type Options struct {
	push.Settings

	// Config is effective.
	Config config.CNS
	// Signing is the certificate that signs, Client the one for mutual TLS if Config says that it is another. Neither
	// file is kept.
	Signing, Client pfx.File
}

// Provider implements push.Provider.
type Provider struct {
	name   string
	config config.CNS
	url    string
	client *http.Client
	signer *signer
	bounds *outbound.Bounds
	clock  clock.PassiveClock
	log    *slog.Logger
	// notAfter is when the first of the certificates expires.
	notAfter time.Time
}

var _ push.Provider = (*Provider)(nil)

// New returns a Provider. It connects with the first push. The error says what to correct in the configuration.
func New(o Options) (*Provider, error) {
	o.Settings = o.Effective()
	address, err := url.Parse(o.Config.URL)
	if err != nil || address.Scheme != "https" || address.Hostname() == "" || address.Path == "" || address.User != nil || address.RawQuery != "" {
		return nil, fmt.Errorf("push provider %s: the CNS url must be https://, a host and a path", o.Name)
	}
	signing, err := o.Signing.Open()
	if err != nil {
		return nil, fmt.Errorf("push provider %s: the certificate that signs: %w", o.Name, err)
	}
	shown, err := o.clientCertificate(signing)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	base := newTransport(o, shown)
	notAfter := signing.Leaf.NotAfter
	for _, certificate := range shown {
		if certificate.Leaf.NotAfter.Before(notAfter) {
			notAfter = certificate.Leaf.NotAfter
		}
	}
	made := newSigner(signing, address.EscapedPath(), o.Clock)
	if _, err := made.authorization(); err != nil {
		return nil, fmt.Errorf("push provider %s: the certificate that signs cannot sign: %w", o.Name, err)
	}
	return &Provider{
		name: o.Name, config: o.Config, url: address.String(), signer: made, clock: o.Clock, log: o.Logger, notAfter: notAfter,
		client: &http.Client{
			Transport:     &outbound.Bounded{Base: base, Patience: min(outbound.AnswerTimeout, o.Timeout/2)},
			CheckRedirect: outbound.KeepRedirect,
		},
		bounds: outbound.NewBounds(o.Settings, base.CloseIdleConnections),
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
	return p.bounds.Push(ctx, func(bounded context.Context) *push.Error {
		refusal := p.deliver(bounded, body)
		if refusal != nil && ctx.Err() == nil {
			enslog.CNSFailed.Log(ctx, p.log, p.url, refusal.Error(), refusal.Reason)
		}
		return refusal
	})
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
	for made := 1; ; made++ {
		refusal := p.send(ctx, body)
		if refusal == nil || refusal.Outcome != push.Retry || refusal.Status == http.StatusTooManyRequests || made == maxAttempts || ctx.Err() != nil ||
			!outbound.WaitToRetry(ctx, made, refusal.RetryAfter) {
			return refusal
		}
	}
}

// NotAfter is when the first of the provider's certificates expires.
func (p *Provider) NotAfter() time.Time { return p.notAfter }

// Close implements push.Provider.
func (p *Provider) Close() error {
	p.bounds.Close()
	return nil
}
