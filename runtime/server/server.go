// Package server puts the runtime together: what listens, what runs beside it, and in which order it all starts and
// stops.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/callback"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/step"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/subscription"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

const (
	// A slow sender must not hold a connection for long; the largest post takes seconds on a poor line.
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	// A registration with its retries at Exchange is the longest answer.
	writeTimeout   = 90 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 16 << 10
	// callsTimeout and workTimeout bound what is under way when the server stops. Together with the drain delay they stay
	// below the pod's grace period. A call that is cut off comes again; work that is not done stays in the journal.
	callsTimeout = 8 * time.Second
	workTimeout  = 8 * time.Second
	// leaveTimeout bounds the last word to the database.
	leaveTimeout = 2 * time.Second
	// A replaced configuration's connections are kept for the work that began with it.
	retireDelay = 2 * time.Minute
)

// ServingMessage is logged with the addresses once they are served.
const ServingMessage = "The runtime is serving"

// Options say where a Server finds its configuration and what it logs to.
type Options struct {
	// ConfigPath is the configuration file; everything else is beside it.
	ConfigPath string
	// Version is the build's, as in 1.2.3: what answers and the table instances show.
	Version string
	// Listen, Metrics and Admin replace the configuration's addresses, if set: for a runtime outside of a pod.
	Listen, Metrics, Admin string
	Logger                 *slog.Logger
	// Logging is told how to log by each configuration that comes into force; nil for a Logger that nobody can tell.
	Logging func(config.Logging)
	// Clock is the real one unless a test brings its own.
	Clock clock.WithTickerAndDelayedExecution
	// Steps is told of each step on a notification's way; nil tells nobody. Tests end the process there.
	Steps step.Hook
	// DialContext and LookupSRV are as of tenant.Options.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	LookupSRV   func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

func (o Options) tenant() tenant.Options {
	return tenant.Options{Clock: o.Clock, Logger: o.Logger, DialContext: o.DialContext, LookupSRV: o.LookupSRV}
}

// Server is one replica of one tenant's runtime.
type Server struct {
	options  Options
	clock    clock.WithTickerAndDelayedExecution
	log      *slog.Logger
	source   *config.Source
	store    *store.Store
	registry *prometheus.Registry
	instance store.Instance

	tenant    atomic.Pointer[tenant.Tenant]
	tracer    atomic.Pointer[tracer]
	pool      *keypool.Pool
	processor *callback.Processor
	listener  *callback.Listener
	protocol  *protocol.Handler
	health    *health

	watcher        *subscription.Watcher
	keyMetrics     *keyMetrics
	journalMetrics *journalMetrics
	agreed         agreement
	// saidUnfit is when a replica that does not fit the schema last said so. Maintenance alone looks at it.
	saidUnfit time.Time
	// reloaded wakes maintenance when there is another configuration.
	reloaded chan struct{}

	listeners listeners
	retired   sync.WaitGroup
}

// listeners are the three ports (architecture.md, rule 7).
type listeners struct{ public, metrics, admin net.Listener }

// New loads the configuration and binds the ports. Nothing is served before Run. Errors are about the configuration or
// the ports; the database may still be away.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logging == nil {
		o.Logging = func(config.Logging) {}
	}
	s := &Server{options: o, clock: o.Clock, log: o.Logger, registry: prometheus.NewRegistry(), health: newHealth(),
		reloaded: make(chan struct{}, 1)}
	s.keyMetrics, s.journalMetrics = newKeyMetrics(s.registry), newJournalMetrics(s.registry)
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	s.source, err = config.NewSource(o.ConfigPath, config.Options{Clock: o.Clock, Accept: s.reload, OnError: s.refused})
	if err != nil {
		return nil, err
	}
	loaded := s.source.Current()
	o.Logging(loaded.Config.Logging)
	first, err := tenant.New(loaded, o.tenant())
	if err != nil {
		return nil, err
	}
	s.tenant.Store(first)
	s.instance = store.Instance{ID: uuid.New(), Version: o.Version, StartedAt: o.Clock.Now()}
	traces, err := newTracer(loaded, o, uuid.UUID(s.instance.ID).String())
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	s.tracer.Store(traces)
	if s.store, err = store.Open(ctx, loaded.DatabaseURL, loaded.DatabaseCAs); err != nil {
		traces.close()
		return nil, errors.Join(err, first.Close())
	}
	s.assemble(first)
	if err := s.listen(loaded.Config.Server); err != nil {
		s.store.Close()
		traces.close()
		return nil, errors.Join(err, first.Close())
	}
	return s, nil
}

// assemble makes the parts that live as long as the server.
func (s *Server) assemble(first *tenant.Tenant) {
	s.pool = keypool.New(keypool.Options{
		Store:    s.store,
		Keyring:  func() *credential.Keyring { return s.tenant.Load().Keyring },
		Config:   func() config.KeyPool { return s.tenant.Load().Config.KeyPool },
		Clock:    s.clock,
		Logger:   s.log,
		Registry: s.registry,
	})
	callbacks := callback.Options{
		Tenant: s.tenant.Load, Store: s.store, Clock: s.clock, Logger: s.log,
		Metrics: callback.NewMetrics(s.registry), Owner: store.Owner(s.instance.ID), Steps: s.options.Steps,
		Fit: s.health.sound,
	}
	s.processor = callback.NewProcessor(callbacks, int(first.Config.Callback.Workers))
	s.listener = callback.NewListener(callbacks, s.processor)
	s.watcher = subscription.NewWatcher(subscription.Options{
		Tenant: s.tenant.Load, Store: s.store, Nudger: s.processor, Clock: s.clock, Logger: s.log, Registry: s.registry,
	})
	s.protocol = protocol.NewHandler(protocol.Options{
		Version:      s.options.Version,
		Tenant:       s.tenant.Load,
		Store:        s.store,
		Pool:         s.pool,
		Registration: &registration.Service{Store: s.store, Clock: s.clock, Logger: s.log, Drainer: s.processor, Steps: s.options.Steps},
		Nudger:       s.processor,
		Clock:        s.clock,
		Logger:       s.log,
		Registry:     s.registry,
	})
	tenant.NewMetrics(s.registry, s.tenant.Load)
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ens_config_valid", Help: "1 if the mounted configuration is the one in force, 0 if it was refused.",
	}, func() float64 {
		if s.source.Valid() {
			return 1
		}
		return 0
	}))
}

func (s *Server) listen(c config.Server) error {
	for _, port := range []struct {
		name, address string
		into          *net.Listener
	}{
		{"public", cmp.Or(s.options.Listen, c.Listen), &s.listeners.public},
		{"metrics", cmp.Or(s.options.Metrics, c.Metrics), &s.listeners.metrics},
		{"admin", cmp.Or(s.options.Admin, c.Admin), &s.listeners.admin},
	} {
		listener, err := net.Listen("tcp", port.address)
		if err != nil {
			s.listeners.close()
			return fmt.Errorf("opening the %s port: %w", port.name, err)
		}
		*port.into = listener
	}
	return nil
}

func (l *listeners) close() {
	for _, listener := range []net.Listener{l.public, l.metrics, l.admin} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// Addresses are the host:port pairs that the server listens on: for Boxer and Exchange, for metrics and probes, for
// administration.
func (s *Server) Addresses() (public, metrics, admin string) {
	return s.listeners.public.Addr().String(), s.listeners.metrics.Addr().String(), s.listeners.admin.Addr().String()
}

// reload puts a changed configuration in force. Ports and worker counts need a restart; everything else does not.
func (s *Server) reload(loaded *config.Loaded) error {
	if err := sameKeys(s.tenant.Load().Keys, loaded.Keys); err != nil {
		return err
	}
	next, err := tenant.New(loaded, s.options.tenant())
	if err != nil {
		return err
	}
	// What it has sealed with so far can be read by all replicas; whether a newer key can is found out next. Without it this
	// replica could not open what it has sealed, and so it goes on with the keys that it has.
	if kek, webhook := s.tenant.Load().Keyring.Sealing(); kek != 0 {
		if err := next.Keyring.SealWith(kek, webhook); err != nil {
			return errors.Join(fmt.Errorf("a key that is in use has been taken away; restore the Secret that holds the tenant's keys: %w", err), next.Close())
		}
	}
	traces, err := newTracer(loaded, s.options, uuid.UUID(s.instance.ID).String())
	if err != nil {
		return errors.Join(err, next.Close())
	}
	if err := s.store.UseURL(loaded.DatabaseURL, loaded.DatabaseCAs); err != nil {
		traces.close()
		return errors.Join(err, next.Close())
	}
	next.Inherit(s.tenant.Load())
	old, oldTraces := s.tenant.Swap(next), s.tracer.Swap(traces)
	select {
	case s.reloaded <- struct{}{}:
	default:
	}
	s.options.Logging(loaded.Config.Logging)
	s.log.Info("The configuration was reloaded", "config", loaded)
	s.retired.Go(func() {
		select {
		case <-s.clock.After(retireDelay):
		case <-s.health.stopped:
		}
		oldTraces.close()
		if err := old.Close(); err != nil {
			s.log.Warn("The old configuration's connections could not be closed", "error", err)
		}
	})
	return nil
}

// refused is told why a changed configuration is not taken.
func (s *Server) refused(err error) {
	if errors.Is(err, config.ErrAPITokens) {
		enslog.TokensNotLoaded.Log(context.Background(), s.log, err.Error())
	}
	s.log.Error("A changed configuration is not taken", "error", err)
}

// sameKeys refuses another key under a number that is known already: what the old one sealed would not open any more,
// on all replicas at once. A key is changed by adding a number.
func sameKeys(old, changed config.Keys) error {
	for kind, keys := range map[string][2]map[int]secret.Value{
		config.KEKPrefix: {old.KEKs, changed.KEKs}, config.WebhookPrefix: {old.Webhooks, changed.Webhooks},
	} {
		for number, key := range keys[0] {
			if other, found := keys[1][number]; found && !other.Equal(key) {
				return fmt.Errorf("%s%d holds another key than before: restore it, or add the new key under a new number", kind, number)
			}
		}
	}
	return nil
}

// Run serves until ctx ends, then stops in the order of architecture.md: readiness fails, serving goes on for the drain
// delay, then no more connections, then the work under way is finished and flushed.
func (s *Server) Run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	tasks.Go(func() {
		select { // keys that are sealed with the wrong KEK would be handed out by other replicas
		case <-s.health.fit:
			s.pool.Run(background)
		case <-background.Done():
		}
	})
	tasks.Go(func() {
		select {
		case <-s.health.fit:
			s.watcher.Run(background)
		case <-background.Done():
		}
	})
	tasks.Go(func() { s.maintain(background) })
	tasks.Go(func() {
		if err := s.source.Run(background); err != nil && background.Err() == nil {
			s.log.Error("The configuration is not watched any more", "error", err)
		}
	})

	failed := make(chan error, 3)
	public, metrics, admin := s.httpServer(s.publicHandler()), s.httpServer(s.metricsHandler()), s.httpServer(s.adminHandler())
	go func() { failed <- s.servePublic(public) }()
	go func() { failed <- metrics.Serve(s.listeners.metrics) }()
	go func() { failed <- admin.Serve(s.listeners.admin) }()
	s.log.Info(ServingMessage, "address", s.listeners.public.Addr().String(),
		"metrics", s.listeners.metrics.Addr().String(), "admin", s.listeners.admin.Addr().String(),
		"tenant", s.tenant.Load().Config.Tenant.Name)

	var err error
	select {
	case <-ctx.Done():
		s.drain()
	case err = <-failed:
		err = fmt.Errorf("serving: %w", err)
	}
	s.finish(public)
	stopBackground()
	tasks.Wait()
	s.leave()
	s.tracer.Load().close()
	s.store.Close()
	err = errors.Join(err, metrics.Close(), admin.Close())
	close(s.health.stopped)
	s.retired.Wait()
	return errors.Join(err, s.tenant.Load().Close())
}

// finish ends the calls and the work under way, each within its time.
func (s *Server) finish(public *http.Server) {
	calls, cancel := context.WithTimeout(context.Background(), callsTimeout)
	defer cancel()
	if err := public.Shutdown(calls); err != nil {
		s.log.Warn("Calls were cut off; their devices come again", "error", err)
		_ = public.Close() // the listeners are closed already
	}
	work, cancel := context.WithTimeout(context.Background(), workTimeout)
	defer cancel()
	s.processor.Close(work)
	s.listener.Close()
}

// leave takes the replica off the record, so that a rotation of keys does not wait for it.
func (s *Server) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := s.store.Forget(ctx, s.instance.ID); err != nil {
		s.log.Warn("The replica stays on record for some minutes", "error", err)
	}
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// drain goes on serving while the replica is taken out of rotation. Answers ask clients to connect anew, elsewhere.
// Connections that are idle stay: whoever is in front may be sending a post on one of them, and posts are not repeated by
// proxies. So http.Server's SetKeepAlivesEnabled, which closes them, is not for this.
func (s *Server) drain() {
	s.health.draining.Store(true)
	delay := s.tenant.Load().Config.Server.DrainDelay()
	s.log.Info("The runtime is draining", "delay", delay)
	<-s.clock.After(delay)
}

// publicHandler serves Boxer's calls and Exchange's posts under every base path, each under an id of its own.
func (s *Server) publicHandler() http.Handler {
	served := s.logRequests(http.HandlerFunc(s.servePath))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(requestid.New(r.Context()))
		w.Header().Set(requestid.Header, requestid.From(r.Context()))
		if s.health.draining.Load() {
			w.Header().Set("Connection", "close") // with HTTP/2, too, where Go makes a GOAWAY of it
		}
		served.ServeHTTP(w, r)
	})
}

func (s *Server) servePath(w http.ResponseWriter, r *http.Request) {
	name, found := callName(r.URL.Path, s.tenant.Load().Config.Server.BasePaths)
	switch {
	case found && name == credential.ListenerPath:
		r, end := s.trace(r, name)
		defer end()
		s.listener.ServeHTTP(w, r)
	case found && s.protocol.Serves(name):
		r, end := s.trace(r, name)
		defer end()
		s.protocol.ServeCall(w, r, name)
		if s.options.Steps != nil && strings.HasPrefix(name, "registerdevice") {
			_ = http.NewResponseController(w).Flush()
			s.options.Steps.Reached(step.RegistrationAnswered)
		}
	case found: // alive, or a call that there is not
		s.protocol.ServeCall(w, r, name)
	default:
		http.NotFound(w, r)
	}
}
