// Package autodiscover finds a user's Exchange server by the e-mail address (E-03, P-25), and only chooses: what is found
// counts if it is one of the tenant's endpoints (protocol.md, "To EWS").
//
// It speaks the three forms that Exchange has: JSON (v2), SOAP (.svc) and plain XML (POX, .xml). The order is that of
// Microsoft's own clients (ews.md, section 4) and stands in one table, steps.
//
// Every host is checked against the allowed domains before anything is sent to it: the first one, and each that a
// redirect, a service record or a server's answer leads to. A credential goes out over verified TLS alone, after the host
// has answered 401 to the same request without one, and to no further host once two have refused it. Redirects are
// followed here and never by net/http.
package autodiscover

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// findTimeout bounds one Find with the wait for its turn: the phone waits for the answer.
	findTimeout = 20 * time.Second
	// requestTimeout bounds one request, connection and whole answer included. It leaves time for other hosts when one
	// of them hangs; an Autodiscover service answers within a second.
	requestTimeout = 5 * time.Second
	// failureLifetime is how long a host that could not be reached is left alone.
	failureLifetime = time.Minute
	// maxFinds ask at once, so that a storm of phones is no storm of requests.
	maxFinds = 16
	// maxHops is how many redirects, service records and other e-mail addresses one Find follows, as Microsoft's clients
	// do (ews.md, section 4).
	maxHops = 10
	// maxRefusals is how many hosts may refuse a credential before it is sent nowhere else: each refusal brings the
	// account nearer to being locked out.
	maxRefusals = 2
	// maxAnswerBytes is far above real answers, which have up to 20 kB.
	maxAnswerBytes = 256 << 10
	// maxHosts are kept connected. A domain has two.
	maxHosts = 64
)

// Options say what may be asked, and how.
type Options struct {
	// Config is effective (see config.Config.Effective). Its Domains bound the address and every host.
	Config config.Autodiscover
	// Endpoint returns the name of the tenant's endpoint at an EWS address, "" if there is none.
	Endpoint func(ewsURL string) string
	// Connect makes what reaches one host (host:port). Its TLS configuration has to verify the host: by the pins of an
	// endpoint at the same host, else by Config's authorities. Port 80 is asked without TLS and never gets a credential.
	Connect func(hostPort string) *authn.Authenticator
	// LookupSRV is net.Resolver's. Nil is that of net.DefaultResolver.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	// UserAgent is sent with every request (E-01).
	UserAgent string
	// Clock times out requests and ages the caches. Nil is the real one.
	Clock clock.WithTickerAndDelayedExecution
	// Logger gets one debug line a request, without a user. Nil is slog.Default.
	Logger *slog.Logger
}

// Discoverer finds endpoints. It is safe for concurrent use and keeps no credential.
type Discoverer struct {
	options Options
	bounds  bounds
	slots   *semaphore.Weighted
	lookups singleflight.Group
	// found holds the endpoint of a domain, unreachable why a host (host:port) or a domain's service records could not
	// be asked.
	found       *memory[string]
	unreachable *memory[error]

	mu    sync.Mutex // guards hosts
	hosts map[string]*authn.Authenticator
}

// New returns a Discoverer. It does not connect. Close it when the configuration changes.
func New(options Options) *Discoverer {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	if options.LookupSRV == nil {
		options.LookupSRV = net.DefaultResolver.LookupSRV
	}
	return &Discoverer{
		options:     options,
		bounds:      newBounds(options.Config.Domains),
		slots:       semaphore.NewWeighted(maxFinds),
		found:       newMemory[string](options.Clock),
		unreachable: newMemory[error](options.Clock),
		hosts:       make(map[string]*authn.Authenticator),
	}
}

// Close closes idle connections. Finds that are under way end as usual.
func (d *Discoverer) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, host := range d.hosts {
		host.Close()
	}
	clear(d.hosts)
}

// Find returns the name of the endpoint at which the mailbox with that e-mail address is. The credential is used until
// Find returns and never kept. activityID is sent as client-request-id (E-18).
//
// What is found holds for the whole domain that was asked about, for Config.CacheTime: that of the address, or of the one
// that a server redirected to. fresh asks all the same, because Exchange said that the user is at the wrong server. It
// does not ask a host again that could not be reached within the last minute. A fresh answer replaces what others of the
// domain get only if it was given without a credential: then any of them may be told the same, and the old one has just
// been wrong. What a server told one user after a login is about the mailbox of that user.
//
// Errors: ErrNotAllowed, ErrNotLocated, ErrNoEndpoint, ErrUnauthorized, and those of ctx. Together with ErrNotLocated,
// authn.ErrNotAvailable and authn.ErrTokenExpired say that a host wants a credential and this one could not be presented.
// Their text is fit for an administrator and free of anything secret.
func (d *Discoverer) Find(
	ctx context.Context, address secret.Value, user credential.Credential, activityID string, fresh bool,
) (string, error) {
	asked, err := d.bounds.address(address.RevealString())
	if err != nil {
		return "", err
	}
	if endpoint, ok := d.found.get(asked.domain); ok && !fresh {
		return endpoint, nil
	}
	bounded, cancel := d.withTimeout(ctx, timeoutError{findTimeout})
	defer cancel()
	if err := d.slots.Acquire(bounded, 1); err != nil {
		if ctx.Err() != nil {
			return "", stopped(ctx)
		}
		return "", fmt.Errorf("%w Too many others were being looked for; try again in a minute", ErrNotLocated)
	}
	defer d.slots.Release(1)
	w := d.newWalk(user, activityID, fresh)
	endpoint, found := w.find(bounded, asked)
	switch {
	case found:
		return endpoint, nil
	case ctx.Err() != nil:
		return "", stopped(ctx)
	default:
		return "", w.failed(bounded)
	}
}

func stopped(ctx context.Context) error {
	return fmt.Errorf("asking Autodiscover: %w", context.Cause(ctx))
}

// host returns what reaches hostPort.
func (d *Discoverer) host(hostPort string) *authn.Authenticator {
	d.mu.Lock()
	defer d.mu.Unlock()
	if host, ok := d.hosts[hostPort]; ok {
		return host
	}
	if len(d.hosts) >= maxHosts {
		for name, host := range d.hosts {
			host.Close() // what is under way there ends as usual
			delete(d.hosts, name)
			break
		}
	}
	host := d.options.Connect(hostPort)
	d.hosts[hostPort] = host
	return host
}

// timeoutError is the end of a time-out.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return "did not answer within " + e.after.String() }

// withTimeout returns a context that ends with limit as its cause, on the Discoverer's clock.
func (d *Discoverer) withTimeout(parent context.Context, limit timeoutError) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	timer := d.options.Clock.NewTimer(limit.after)
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			cancel(limit)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
