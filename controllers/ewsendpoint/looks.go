package ewsendpoint

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/probe"
)

const (
	// interval is how often a server is looked at that was well, and soon how often one that was not: both give or take a
	// tenth, so that a thousand servers are not looked at in one second.
	interval = time.Hour
	soon     = 5 * time.Minute
	spread   = 10
	// atOnce bounds the looks under way: a look at a server that is away takes as long as it may.
	atOnce = 32
)

// looks looks at servers apart from the reconciler's workers, which one server that does not answer must not hold up. A
// result wakes the reconciler.
type looks struct {
	prober probe.Prober
	clock  clock.PassiveClock
	woken  chan event.GenericEvent
	slots  chan struct{}

	mu    sync.Mutex
	known map[types.NamespacedName]*known
	// begun ends the looks when the operator stops.
	begun   context.Context //nolint:containedctx // that of Start, which the reconciler's calls come before or after
	running sync.WaitGroup
}

// question is a probe.Question that can be told from others by its digest.
type question struct {
	probe.Question
	digest string
}

// known is what is known of one server.
type known struct {
	question question
	result   *probe.Result
	next     time.Time
	under    bool
}

func newLooks(prober probe.Prober, c clock.PassiveClock) *looks {
	return &looks{
		prober: prober, clock: c, woken: make(chan event.GenericEvent), slots: make(chan struct{}, atOnce),
		known: map[types.NamespacedName]*known{},
	}
}

// Start implements manager.Runnable.
func (l *looks) Start(ctx context.Context) error {
	l.mu.Lock()
	l.begun = ctx
	l.mu.Unlock()
	<-ctx.Done()
	l.running.Wait()
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only who may write looks.
func (l *looks) NeedLeaderElection() bool { return true }

// at returns what the server showed last, nil if nothing yet, and when to ask again. It looks anew if it is time. well says
// that the server was well before the operator started: then there is no hurry.
func (l *looks) at(key types.NamespacedName, q question, well bool) (*probe.Result, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	k := l.known[key]
	if k == nil || k.question.digest != q.digest {
		first := now
		if k == nil && well {
			first = now.Add(rand.N(interval))
		}
		k = &known{question: q, next: first}
		l.known[key] = k
	}
	if !k.under && !now.Before(k.next) {
		l.begin(key, k)
	}
	return k.result, max(k.next.Sub(now), time.Second)
}

// begin looks; l.mu is held.
func (l *looks) begin(key types.NamespacedName, k *known) {
	ctx := l.begun
	if ctx == nil || ctx.Err() != nil {
		return // the next reconcile begins it
	}
	k.under, k.next = true, l.clock.Now().Add(around(soon))
	l.running.Go(func() {
		select {
		case l.slots <- struct{}{}:
			defer func() { <-l.slots }()
		case <-ctx.Done():
			return
		}
		result := l.prober.Look(ctx, k.question.Question)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		k.result, k.under, k.next = &result, false, l.clock.Now().Add(around(soon))
		if result.Err == nil && result.Verification == nil {
			k.next = l.clock.Now().Add(around(interval))
		}
		l.mu.Unlock()
		object := &v1alpha1.EwsEndpoint{}
		object.Namespace, object.Name = key.Namespace, key.Name
		select {
		case l.woken <- event.GenericEvent{Object: client.Object(object)}:
		case <-ctx.Done():
		}
	})
}

// forget drops what is known of a server.
func (l *looks) forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, key)
}

// around is d, give or take a tenth.
func around(d time.Duration) time.Duration { return d - d/spread + rand.N(2*d/spread) }
