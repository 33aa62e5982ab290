// Package apns delivers notifications through Apple's push service, with token authentication or a client certificate.
//
// It uses github.com/sideshow/apns2 for the form of a request and puts its own http.RoundTripper under it, for what
// Apple asks of a connection: see pool, tokens and transport.
//
// A push whose connection ends before the answer is sent again. So a phone may in rare cases get it twice, which the
// collapse id makes one on its screen.
package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/sideshow/apns2"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// maxAttempts bounds the requests of one push, so that a sick Apple does not hold the tenant's workers: what is
	// still undelivered is tried again from the journal.
	maxAttempts = 4
	// deviceTokenMin and Max are the lengths in hex digits: Apple's tokens have 32 bytes today and may have up to 100.
	deviceTokenMin = 64
	deviceTokenMax = 200
	// maxID is above the ten characters of Apple's team and key ids.
	maxID = 32
)

// Options are what a Provider is made from. Config, Name and either Key or Certificate are required.
type Options struct {
	push.Settings

	Config config.APNs
	// Key is the .p8 file: a PKCS#8 private key on P-256 in PEM form. It is not kept.
	Key secret.Value
	// Certificate is the client certificate, if Config says that there is one instead of a key. The file is not kept.
	Certificate pfx.File
}

// Provider implements push.Provider.
type Provider struct {
	name   string
	topics []string
	client *apns2.Client
	pool   *pool
	// tokens sign in; nil if certificate does.
	tokens      *tokens
	certificate *tls.Certificate
	bounds      *outbound.Bounds
	clock       clock.PassiveClock

	mu sync.Mutex
	// served holds the topics under which a push was accepted since the start.
	served map[string]bool
}

var _ push.Provider = (*Provider)(nil)

// New returns a Provider. It connects with the first push. The error says what to correct in the configuration.
func New(o Options) (*Provider, error) {
	o.Settings = o.Effective()
	p := &Provider{
		name: o.Name, topics: slices.Clone(o.Config.Topics), clock: o.Clock, bounds: outbound.NewBounds(o.Settings, func() {}),
		served: make(map[string]bool),
	}
	server, err := check(o.Config)
	if err == nil {
		err = p.signIn(o)
	}
	if err != nil {
		return nil, fmt.Errorf("push provider %s: %w", o.Name, err)
	}
	p.pool = newPool(dialer(server.Host, o, p.certificate), o.Logger.With("provider", o.Name))
	p.client = &apns2.Client{
		Host: server.String(),
		HTTPClient: &http.Client{
			Transport:     &transport{pool: p.pool, authenticate: p.authenticate, patience: min(answerTimeout, o.Timeout/2)},
			CheckRedirect: outbound.KeepRedirect,
		},
	}
	return p, nil
}

// signIn sets up what Apple knows the provider by.
func (p *Provider) signIn(o Options) (err error) {
	if o.Config.Certificate {
		p.certificate, err = openCertificate(o.Certificate, o.Config)
		return err
	}
	key, err := parseKey(o.Key)
	p.tokens = &tokens{key: key, keyID: o.Config.KeyID, teamID: o.Config.TeamID, clock: o.Clock}
	return err
}

// authenticate returns the provider token to send, none with a certificate, which the connection has shown.
func (p *Provider) authenticate() (string, error) {
	if p.certificate == nil {
		return p.tokens.bearer()
	}
	if !p.clock.Now().Before(p.certificate.Leaf.NotAfter) {
		return "", errCertificateExpired
	}
	return "", nil
}

// check validates the configuration and returns the server's address, with a port.
func check(c config.APNs) (*url.URL, error) {
	for field, id := range map[string]string{"teamID": c.TeamID, "keyID": c.KeyID} {
		if !c.Certificate && (id == "" || len(id) > maxID || !isWord(id)) {
			return nil, fmt.Errorf("%s must be the id of ten letters and digits from Apple's developer account", field)
		}
	}
	if len(c.Topics) == 0 || slices.Contains(c.Topics, "") {
		return nil, errors.New("topics must name at least one bundle id, and none may be empty")
	}
	address := c.URL
	if address == "" {
		switch c.Environment {
		case config.PushProduction, "":
			address = apns2.HostProduction
		case config.PushSandbox:
			address = apns2.HostDevelopment
		default:
			return nil, fmt.Errorf("environment %q is neither %s nor %s", c.Environment, config.PushProduction, config.PushSandbox)
		}
	}
	server, err := url.Parse(address)
	if err != nil || server.Scheme != "https" || server.Hostname() == "" || strings.Trim(server.Path, "/") != "" ||
		server.RawQuery != "" || server.User != nil {
		return nil, fmt.Errorf("the APNs url must be https:// and a host, with a port if need be, and nothing else")
	}
	if server.Port() == "" {
		server.Host = net.JoinHostPort(server.Hostname(), "443")
	}
	return &url.URL{Scheme: server.Scheme, Host: server.Host}, nil
}

// Push implements push.Provider.
func (p *Provider) Push(ctx context.Context, d push.Device, n push.Notification) error {
	topic, refusal := p.accepts(d, n)
	if refusal != nil {
		return refusal
	}
	return p.bounds.Push(ctx, func(ctx context.Context) *push.Error { return p.deliver(ctx, d.Token, topic, n) })
}

// accepts checks what needs no connection and returns the topic that the device is served under.
func (p *Provider) accepts(d push.Device, n push.Notification) (string, error) {
	topic := d.AppID
	if topic == "" && len(p.topics) == 1 {
		topic = p.topics[0]
	}
	switch {
	case !n.Kind.Known():
		return "", p.refuse(push.Rejected, "UnknownKind")
	case n.Kind == push.Badge && n.Unread == nil:
		return "", p.refuse(push.Rejected, "BadgeWithoutCount")
	case !slices.Contains(p.topics, topic):
		return "", p.refuse(push.Misconfigured, "TopicNotServed")
	case !IsDeviceToken(d.Token):
		return "", p.refuse(push.DeadToken, "MalformedDeviceToken")
	}
	return topic, nil
}

func (p *Provider) refuse(outcome push.Outcome, reason string) error {
	return &push.Error{Provider: p.name, Outcome: outcome, Reason: reason}
}

// IsDeviceToken reports whether token has the form of Apple's, so that it can stand in a request's path.
func IsDeviceToken(token string) bool {
	if len(token) < deviceTokenMin || len(token) > deviceTokenMax || len(token)%2 != 0 {
		return false
	}
	return strings.Trim(token, "0123456789abcdefABCDEF") == ""
}

// deliver sends the push, with the remedies that the answers call for.
func (p *Provider) deliver(ctx context.Context, token, topic string, n push.Notification) *push.Error {
	limit := push.MaxPayload
	renewed := false
	for made := 1; ; made++ {
		request, err := Compose(n, token, topic, p.clock.Now(), limit)
		if err != nil {
			return &push.Error{Provider: p.name, Outcome: push.Rejected, Err: err}
		}
		refusal, how, details := p.send(ctx, request)
		if refusal == nil {
			return nil
		}
		if made == maxAttempts {
			return refusal
		}
		switch how {
		case shrink:
			if limit != push.MaxPayload {
				return refusal
			}
			limit = smallPayload
		case renewToken:
			if renewed || !p.changeToken(details.bearer, (*tokens).renew) {
				return refusal
			}
			renewed = true
		case stepBack:
			if !p.changeToken(details.bearer, (*tokens).stepBack) && !outbound.WaitToRetry(ctx, made, refusal.RetryAfter) {
				return refusal
			}
		case reconnect:
			if !outbound.WaitToRetry(ctx, made, refusal.RetryAfter) {
				return refusal
			}
		default:
			return refusal
		}
	}
}

// changeToken reports whether there is another provider token to try; the error of signing shows with the next push.
func (p *Provider) changeToken(refused string, change func(t *tokens, refused string) (bool, error)) bool {
	if p.tokens == nil {
		return false
	}
	changed, err := change(p.tokens, refused)
	return changed && err == nil
}

// send makes one request. It returns nil if Apple accepted the push.
func (p *Provider) send(ctx context.Context, request *apns2.Notification) (*push.Error, remedy, attempt) {
	var details attempt
	response, err := p.client.PushWithContext(context.WithValue(ctx, attemptKey{}, &details), request)
	if err != nil {
		// The URL in a *url.Error holds the device token.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		refusal, how := &push.Error{Provider: p.name, Outcome: push.Retry, Err: err}, reconnect
		outbound.BlameProxy(refusal, err)
		switch {
		case refusal.Outcome == push.Misconfigured:
			how = giveUp
		case errors.Is(err, outbound.ErrClosed) || ctx.Err() != nil:
			how = giveUp
		case errors.Is(err, errCertificateExpired):
			refusal.Outcome, refusal.Reason, refusal.Lasting, how = push.Misconfigured, reasonCertificateExpired, true, giveUp
		case p.certificate != nil && isRefusal(err):
			refusal.Outcome, refusal.Reason, refusal.Lasting, how = push.Misconfigured, reasonCertificateRefused, true, giveUp
			refusal.Err = errCertificateRefused
		}
		return refusal, how, details
	}
	if response.Sent() {
		if p.tokens != nil {
			p.tokens.accepted(details.bearer)
		}
		p.markServed(request.Topic)
		return nil, giveUp, details
	}
	meaning := ruleFor(response.StatusCode, response.Reason)
	refusal := &push.Error{
		Provider: p.name, Outcome: meaning.outcome, Status: response.StatusCode, Reason: response.Reason,
		RetryAfter: details.retryAfter, Lasting: meaning.outcome == push.Misconfigured && refusesCredential(response.StatusCode),
	}
	switch {
	case response.Reason == reasonBadDeviceToken:
		p.deadOrForeign(refusal, request.Topic)
	case meaning.outcome == push.DeadToken:
		refusal.DeadSince = details.timestamp
	case response.Reason == reasonTooManyRequests:
		refusal.OneDevice = true
		if refusal.RetryAfter == 0 {
			refusal.RetryAfter = tooManyRequestsDefault
		}
	}
	return refusal, meaning.remedy, details
}

// errForeignToken explains a BadDeviceToken before any success.
var errForeignToken = errors.New("no push of this app has been accepted yet, so the device token may belong to the other environment " +
	"(production or sandbox): check the provider's environment before devices are removed")

// deadOrForeign decides what BadDeviceToken means. It is also the answer to every token of the other environment, and
// a wrong setting must not cost all devices: so a token counts as dead only after another push of the same app was
// accepted here.
func (p *Provider) deadOrForeign(refusal *push.Error, topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.served[topic] {
		refusal.Outcome, refusal.Err = push.Misconfigured, errForeignToken
	}
}

func (p *Provider) markServed(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.served[topic] = true
}

// Close implements push.Provider.
func (p *Provider) Close() error {
	p.bounds.Close()
	p.pool.close()
	return nil
}
