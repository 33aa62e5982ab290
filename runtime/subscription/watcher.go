// Package subscription watches over the users' subscriptions: it asks the phones to register again when Exchange has
// stopped posting (H-03, H-04), and finds out early when Exchange cannot reach us at all.
//
// Only a phone can make a new subscription, since nobody else has the credential (H-07).
package subscription

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

const (
	// interval is how often is looked.
	interval = 10 * time.Second
	// nudgesAtOnce bounds the users that one replica asks at a time: a hundred thousand that were lost at once are asked
	// within some twenty minutes by one replica, and come back as slowly.
	nudgesAtOnce = 800
	// timeout bounds one look.
	timeout = 30 * time.Second
)

// unheardAdvice is what an administrator reads where Exchange does not post.
const unheardAdvice = "Exchange accepted the subscription, but its first post has not come within a minute. Check from the Exchange " +
	"server that it can open the tenant's callbackURL (name, route, proxy, firewall, port 443) and trusts the certificate's issuer"

// Nudger asks a user's devices to register again.
type Nudger interface {
	Nudge(ctx context.Context, t *tenant.Tenant, userID, generation int64, userHash [sha256.Size]byte)
}

// Options are a Watcher's parts. Tenant is asked each time, because it may be reloaded.
type Options struct {
	Tenant   func() *tenant.Tenant
	Store    *store.Store
	Nudger   Nudger
	Clock    clock.WithTickerAndDelayedExecution
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Watcher watches.
type Watcher struct {
	options Options
	// troubled is when this replica began to watch, or last could not: what has been heard until then is not known.
	troubled time.Time
	unheard  atomic.Int64
	looked   prometheus.Gauge
	nudged   prometheus.Counter
}

// NewWatcher makes a Watcher. Run runs it.
func NewWatcher(o Options) *Watcher {
	w := &Watcher{options: o, looked: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ens_subscriptions_watched_timestamp_seconds", Help: "When the subscriptions were last looked at with success, 0 if never. It moves every 10 seconds.",
	}), nudged: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ens_users_nudged_total", Help: "Users whose phones were asked to register again, because their subscription is lost.",
	})}
	o.Registry.MustRegister(w.looked, w.nudged, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ens_subscriptions_unheard", Help: "Subscriptions of the last 15 minutes that Exchange has not posted to. Not 0: it cannot reach the tenant.",
	}, func() float64 { return float64(w.unheard.Load()) }))
	return w
}

// Unheard returns what to do if Exchange does not post to new subscriptions, empty if it does.
func (w *Watcher) Unheard() string {
	if w.unheard.Load() == 0 {
		return ""
	}
	return unheardAdvice
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	w.troubled = w.options.Clock.Now()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-w.options.Clock.After(interval):
		}
	}
}

func (w *Watcher) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := w.options.Clock.Now()
	for _, step := range []func(context.Context) error{w.listen, w.nudge} {
		if err := step(ctx); err != nil {
			w.fail(ctx, err)
			return
		}
	}
	w.looked.Set(float64(began.Unix()))
}

// nudge asks the phones whose subscription is lost to register again.
func (w *Watcher) nudge(ctx context.Context) error {
	t := w.options.Tenant()
	lost := 2 * t.Config.Notifications.StatusFrequency()
	// While we were away ourselves, nothing could be heard: subscriptions that live get the time to say so.
	if w.options.Clock.Since(w.troubled) < lost {
		return nil
	}
	silent, err := w.options.Store.TakeSilent(ctx, w.options.Clock.Now(), lost, nudgesAtOnce)
	if err != nil {
		return err
	}
	for _, user := range silent {
		w.options.Nudger.Nudge(ctx, t, user.UserID, user.Generation, user.UserHash)
		w.nudged.Inc()
	}
	if len(silent) > 0 {
		w.options.Logger.InfoContext(ctx, "Phones whose subscription is lost are asked to register again", "users", len(silent))
	}
	return nil
}

func (w *Watcher) fail(ctx context.Context, err error) {
	if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded { //nolint:errorlint // the sentinel itself
		w.troubled = w.options.Clock.Now()
		w.options.Logger.WarnContext(ctx, "The subscriptions could not be watched", "error", err)
	}
}

// listen finds out whether Exchange reaches us.
func (w *Watcher) listen(ctx context.Context) error {
	count, fresh, err := w.options.Store.Unheard(ctx, w.options.Clock.Now())
	if err != nil {
		return err
	}
	w.unheard.Store(int64(count))
	if len(fresh) > 0 {
		w.options.Logger.WarnContext(ctx, "Exchange does not post to new subscriptions: "+unheardAdvice, "subscriptions", count)
	}
	for _, userID := range fresh {
		if err := w.options.Store.Note(ctx, userID, store.ActivityUnheard, unheardAdvice, w.options.Clock.Now()); err != nil {
			return err
		}
	}
	return nil
}
