// Package sns delivers notifications through Amazon's Simple Notification Service, which passes them on to Apple or
// Google: with one platform application, whose ARN says which (push.md, "AWS SNS mobile push").
//
// It uses github.com/aws/aws-sdk-go-v2 for requests, signatures, retries and roles. What the phone gets is composed as
// for Apple and Google themselves. Success means that Amazon accepted the notification; what Apple or Google think of
// it shows only in Amazon's delivery logs, and, where a token is dead, in an endpoint that Amazon disables.
//
// A push whose connection ends before the answer is sent again. So a phone may in rare cases get it twice, as with
// Apple and Google.
package sns

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns"
	"github.com/ens-operator/ens-operator/runtime/push/fcm"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// Options are what a Provider is made from. Config and Name are required, and either the access key or, with
// Config.RoleARN, the token file.
type Options struct {
	// Clock dates what is known of endpoints. Signatures are dated by the SDK.
	push.Settings

	Config config.SNS
	// AccessKeyID and SecretAccessKey are an IAM user's access key.
	AccessKeyID, SecretAccessKey secret.Value
	// WebIdentityTokenFile holds the token that Config.RoleARN is taken with. It is read anew for every sign-in, which
	// is about once an hour.
	WebIdentityTokenFile string
}

// Provider implements push.Provider.
type Provider struct {
	name        string
	application config.PlatformApplication
	appIDs      []string
	client      *sns.Client
	endpoints   *endpoints
	bounds      *outbound.Bounds
	clock       clock.PassiveClock
}

var _ push.Provider = (*Provider)(nil)

// New returns a Provider. It connects with the first push. The error says what to correct in the configuration.
func New(o Options) (*Provider, error) {
	application, err := config.ParsePlatformApplication(o.Config.ApplicationARN)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: applicationARN: %w", o.Name, err)
	}
	o.Settings = o.Effective()
	base := outbound.NewTransport(o.Settings, &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12})
	connection := &http.Client{
		Transport:     &outbound.Bounded{Base: base, Patience: min(outbound.AnswerTimeout, o.Timeout/2)},
		CheckRedirect: outbound.KeepRedirect,
	}
	credentials, err := newCredentials(o, application.Region, connection)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	client := sns.New(sns.Options{
		Region: application.Region, BaseEndpoint: orNil(o.Config.URL), Credentials: credentials, HTTPClient: connection,
		Retryer: newRetryer(o.Timeout),
	})
	return &Provider{
		name: o.Name, application: application, appIDs: slices.Clone(o.Config.AppIDs),
		client: client, endpoints: newEndpoints(client, o.Config.ApplicationARN, application, o.Clock),
		bounds: outbound.NewBounds(o.Settings, base.CloseIdleConnections), clock: o.Clock,
	}, nil
}

// orNil is nil for an address that is not given, which lets the SDK choose by region.
func orNil(address string) *string {
	if address == "" {
		return nil
	}
	return &address
}

// Push implements push.Provider.
func (p *Provider) Push(ctx context.Context, d push.Device, n push.Notification) error {
	if reason, outcome := p.objection(d, n); reason != "" {
		return &push.Error{Provider: p.name, Outcome: outcome, Reason: reason}
	}
	input, err := compose(n, d, p.application, p.clock.Now())
	if err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Rejected, Err: err}
	}
	return p.bounds.Push(ctx, func(ctx context.Context) *push.Error { return p.deliver(ctx, d, input) })
}

// objection returns why a push is not even tried.
func (p *Provider) objection(d push.Device, n push.Notification) (string, push.Outcome) {
	switch {
	case !n.Kind.Known():
		return "UnknownKind", push.Rejected
	case n.Kind == push.Badge && n.Unread == nil:
		return "BadgeWithoutCount", push.Rejected
	case (d.Platform == push.IOS) != p.application.IsApple():
		return "PlatformNotServed", push.Misconfigured
	case len(p.appIDs) > 0 && d.AppID != "" && !slices.Contains(p.appIDs, d.AppID):
		return "AppNotServed", push.Misconfigured
	case p.application.IsApple() && !apns.IsDeviceToken(d.Token):
		return "MalformedDeviceToken", push.DeadToken
	case d.Token == "" || len(d.Token) > fcm.MaxToken:
		return "MalformedRegistrationToken", push.DeadToken
	default:
		return "", 0
	}
}

// maxPublishes is how often a push is published at most: once more after its endpoint was enabled, and once more after
// one that was gone was made anew. The SDK's own retries of each request come on top.
const maxPublishes = 3

// deliver publishes to the device's endpoint, with the remedies that the answers call for.
func (p *Provider) deliver(ctx context.Context, d push.Device, input *sns.PublishInput) *push.Error {
	for made := 1; ; made++ {
		target, err := p.endpoints.find(ctx, d.Token)
		if err != nil {
			return p.refusal(ctx, err, creating)
		}
		input.TargetArn = &target.arn
		_, err = p.client.Publish(ctx, input)
		if err == nil {
			p.endpoints.accepted(d.Token, target)
			return nil
		}
		refusal := p.refusal(ctx, err, publishing)
		switch {
		case isDisabled(err) && target.diedSince(d.Registered):
			refusal.Outcome, refusal.DeadSince = push.DeadToken, target.lastAccepted
			return refusal
		case made == maxPublishes:
			return refusal
		case isDisabled(err):
			if err := p.endpoints.enable(ctx, d.Token, target); err != nil {
				return p.refusal(ctx, err, creating)
			}
		case isGone(err):
			p.endpoints.forget(d.Token)
		default:
			return refusal
		}
	}
}

// Close implements push.Provider.
func (p *Provider) Close() error {
	p.bounds.Close()
	return nil
}
