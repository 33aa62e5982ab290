// Package fcm delivers notifications through Firebase Cloud Messaging, HTTP v1, as data messages that the app draws.
//
// It uses firebase.google.com/go/v4 for the form and the retries of a request and puts its own http.RoundTripper under
// it: for authentication with a service account that is read by allow-list, for bounds, and for what Google answers.
//
// A message whose connection ends before the answer is sent again. So an app may in rare cases get it twice; it tells
// the two by the message id in `ens`.
package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	googleURL  = "https://fcm.googleapis.com"
	apiVersion = "/v1"
	// MaxToken is the longest registration token that registerdevicev2 accepts, in bytes.
	MaxToken = 4096
	// logins is how often a push may present an access token: once more after one that Google no longer accepts.
	logins = 2
)

// projectID is the form of a Google Cloud project id, with the domain of old ones.
var projectID = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)

// Options are what a Provider is made from. Config, Name and ServiceAccount are required.
type Options struct {
	push.Settings

	Config config.FCM
	// ServiceAccount is the JSON key file from the Firebase console. It is not kept.
	ServiceAccount secret.Value
}

// Provider implements push.Provider.
type Provider struct {
	name   string
	appIDs []string
	client *messaging.Client
	tokens *tokens
	bounds *outbound.Bounds
}

var _ push.Provider = (*Provider)(nil)

// New returns a Provider. It connects with the first push. The error says what to correct in the configuration.
func New(o Options) (*Provider, error) {
	who, err := parseAccount(o.ServiceAccount)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	if err := check(o.Config); err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	o = o.withDefaults()
	if who.projectID != o.Config.ProjectID {
		o.Logger.Warn("the FCM service account belongs to another project than the one that is configured; pushes need a role there",
			"provider", o.Name)
	}
	base := outbound.NewTransport(o.Settings, &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12})
	client, err := newMessaging(o, base)
	if err != nil {
		return nil, fmt.Errorf("push provider %s: set up the Firebase client: %w", o.Name, err)
	}
	bounds := outbound.NewBounds(o.Settings, base.CloseIdleConnections)
	return &Provider{
		name: o.Name, appIDs: slices.Clone(o.Config.AppIDs), client: client, bounds: bounds,
		tokens: &tokens{
			account: who, url: o.Config.TokenURL, clock: o.Clock, lifetime: bounds.Lifetime(),
			client: &http.Client{Transport: base, CheckRedirect: outbound.KeepRedirect},
		},
	}, nil
}

// withDefaults returns o with its defaults.
func (o Options) withDefaults() Options {
	if o.Config.URL == "" {
		o.Config.URL = googleURL
	}
	if o.Config.TokenURL == "" {
		o.Config.TokenURL = googleTokenURL
	}
	o.Settings = o.Effective()
	return o
}

// newMessaging makes the Firebase client. With a client and an endpoint of our own, the library reads neither
// credentials nor addresses from the environment.
func newMessaging(o Options, base http.RoundTripper) (*messaging.Client, error) {
	ctx := context.Background()
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: o.Config.ProjectID},
		option.WithHTTPClient(&http.Client{
			Transport:     &transport{base: &outbound.Bounded{Base: base, Patience: min(outbound.AnswerTimeout, o.Timeout/2)}},
			CheckRedirect: outbound.KeepRedirect,
		}),
		option.WithEndpoint(strings.TrimSuffix(o.Config.URL, "/")+apiVersion))
	if err != nil {
		return nil, err
	}
	return app.Messaging(ctx)
}

// check validates the configuration.
func check(c config.FCM) error {
	if !projectID.MatchString(c.ProjectID) {
		return errors.New("projectID must be the id of the Firebase project, e.g. my-app-1a2b3")
	}
	for field, text := range map[string]string{"url": c.URL, "tokenURL": c.TokenURL} {
		if text == "" {
			continue
		}
		server, err := url.Parse(text)
		if err != nil || server.Scheme != "https" || server.Hostname() == "" || server.RawQuery != "" || server.User != nil {
			return fmt.Errorf("the FCM %s must be an https:// address without user or query", field)
		}
		if field == "url" && strings.Trim(server.Path, "/") != "" {
			return errors.New("the FCM url must be https:// and a host, without a path")
		}
	}
	return nil
}

// Push implements push.Provider.
func (p *Provider) Push(ctx context.Context, d push.Device, n push.Notification) error {
	if reason, outcome := p.objection(d, n); reason != "" {
		return &push.Error{Provider: p.name, Outcome: outcome, Reason: reason}
	}
	message, err := Compose(n, d.Token)
	if err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Rejected, Err: err}
	}
	return p.bounds.Push(ctx, func(ctx context.Context) *push.Error { return p.deliver(ctx, message) })
}

// objection returns why a push is not even tried.
func (p *Provider) objection(d push.Device, n push.Notification) (string, push.Outcome) {
	switch {
	case !n.Kind.Known():
		return "UnknownKind", push.Rejected
	case n.Kind == push.Badge && n.Unread == nil:
		return "BadgeWithoutCount", push.Rejected
	case len(p.appIDs) > 0 && d.AppID != "" && !slices.Contains(p.appIDs, d.AppID):
		return "AppNotServed", push.Misconfigured
	case d.Token == "" || len(d.Token) > MaxToken:
		return "MalformedRegistrationToken", push.DeadToken
	default:
		return "", 0
	}
}

// deliver sends the message, once more with a new access token if Google does not accept the old one any more.
func (p *Provider) deliver(ctx context.Context, message *messaging.Message) *push.Error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for made := 1; ; made++ {
		bearer, failure := p.tokens.bearer(ctx)
		if failure != nil {
			return failure.refusal(p.name)
		}
		c := &call{bearer: bearer, stop: stop}
		_, err := p.client.Send(context.WithValue(ctx, callKey{}, c), message)
		switch {
		case err == nil && c.failure == nil:
			return nil
		case c.last == nil || c.failure != nil && !errors.Is(c.failure, errRedirect):
			return p.unanswered(ctx, c, err)
		case c.last.status == http.StatusUnauthorized && c.last.code == "" && made < logins:
			p.tokens.drop(bearer)
		default:
			refusal := c.last.refusal(p.name)
			refusal.Err = c.failure
			return refusal
		}
	}
}

// unanswered is the error of a push whose last request got no answer. What Google said to an earlier one is kept.
func (p *Provider) unanswered(ctx context.Context, c *call, err error) *push.Error {
	refusal := &push.Error{Provider: p.name, Outcome: push.Retry, Err: c.failure}
	if c.last != nil {
		refusal.Status, refusal.RetryAfter = c.last.status, c.last.retryAfter
	}
	outbound.BlameProxy(refusal, c.failure)
	if refusal.Err == nil {
		// The library has refused the message itself, or time ran out before the first request.
		refusal.Err = context.Cause(ctx)
	}
	if refusal.Err == nil && err != nil {
		refusal.Outcome, refusal.Reason = push.Rejected, "InvalidMessage"
	}
	return refusal
}

// refusal turns the lack of an access token into the provider's error.
func (e *tokenError) refusal(provider string) *push.Error {
	refusal := &push.Error{Provider: provider, Outcome: e.outcome, Status: e.status, Reason: e.code, RetryAfter: e.retryAfter, Err: e.err}
	refusal.Lasting = e.outcome == push.Misconfigured // no push goes without an access token
	outbound.BlameProxy(refusal, e.err)
	return refusal
}

// Close implements push.Provider.
func (p *Provider) Close() error {
	p.bounds.Close()
	return nil
}
