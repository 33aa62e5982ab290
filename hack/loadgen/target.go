package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/loadgen/quick"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// installation is a tenant that runs somewhere: all that is known of it is what phones, Exchange and Apple see.
type installation struct {
	scene    *scene
	settings settings
	progress io.Writer
	report   *report
	phones   *phones
	tls      *tls.Config
	greeter  *greeter

	mu sync.Mutex
	// webhooks are the latest by mailbox, webhookHost is where all of them lead to, with the port.
	webhooks    map[exchange.Mailbox]exchange.Target
	webhookHost string
	// entered are the mailboxes whose phones are registered, to be unregistered.
	entered []exchange.Mailbox
	// left says that nobody greets new subscriptions any more.
	left bool
	// nudges are how often a phone was asked to register again, late the notifications that took more than a minute, if they came,
	// givenUp the posts that were not taken until Exchange would have given up.
	nudges, late, givenUp atomic.Int64
}

// target loads a tenant that is installed already.
func target(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	r := &report{Taken: time.Now().UTC().Truncate(time.Second), Users: s.users}
	if err := s.checkTarget(); err != nil {
		return r, err
	}
	i := &installation{settings: s, progress: progress, report: r, webhooks: map[exchange.Mailbox]exchange.Target{}}
	defer i.close()
	if err := i.start(); err != nil {
		return r, err
	}
	err := errors.Join(i.load(ctx), i.leave(ctx)) // also after an interruption
	say(progress, "What the runtime took cannot be seen from here: see process_cpu_seconds_total, process_resident_memory_bytes and "+
		"go_memstats_mallocs_total of its pods for this time (docs/performance.md)")
	return r, err
}

// start starts what stands for Exchange and Apple, and says how the tenant is led to them.
func (i *installation) start() error {
	s := i.settings
	token, err := s.target.token()
	if err != nil {
		return err
	}
	if i.tls, err = s.target.tls(); err != nil {
		return err
	}
	x := &scene{ledger: newLedger(targetMostUsers), users: &population{size: s.users}, clock: quick.New(time.Now(), 1)}
	i.scene = x
	// The tenant remembers the mails of a run that could not take its phones away.
	x.ledger.next.Store(uint64(time.Now().UnixMicro()))
	x.ledger.nudged = func(exchange.Mailbox) { i.nudges.Add(1) }
	i.greeter = newGreeter(4 * targetMostUsers) //nolint:mnd // attempts whose answer was lost are among them
	x.exchange, err = exchange.Start(exchange.Options{
		Listen:    s.target.listen,
		Mailboxes: targetMostUsers, // those of an interrupted run, too
		Delay:     s.exchangeDelay, Observe: x.ledger.fetched, Unread: x.ledger.unread,
		Webhook: i.checkWebhook, Subscribed: i.subscribed,
	})
	if err != nil {
		return err
	}
	apns := next(s.target.listen)
	probe, err := net.Listen("tcp", apns) // apnstest panics if it cannot listen
	if err != nil {
		return fmt.Errorf("listening for the simulated Apple: %w", err)
	}
	_ = probe.Close()
	x.apns = apnstest.Start(apnstest.Options{
		Address: apns, Calm: true, MaxDelay: s.providerDelay, Logf: func(string, ...any) {}, Observe: x.ledger.acceptedByApple,
	})
	for m := range exchange.Mailbox(s.users) {
		x.apns.AddDevice(device{of: m + 1}.token(), topic)
	}
	i.phones = i.newPhones(token)
	go i.greeter.greetBy(i.connect)
	return i.writeManifests(x.apns.NewKey())
}

func (i *installation) newPhones(token string) *phones {
	transport := &http.Transport{TLSClientConfig: i.tls, MaxIdleConnsPerHost: entering, IdleConnTimeout: idlePhone, Proxy: http.ProxyFromEnvironment}
	return &phones{
		scene: i.scene, client: &http.Client{Transport: transport, Timeout: phoneTimeout}, base: i.settings.target.base(), token: token,
		pause: afterFailure,
	}
}

// close ends what stands for Exchange and Apple.
func (i *installation) close() {
	if i.scene == nil {
		return
	}
	if i.scene.apns != nil {
		i.scene.apns.Close()
	}
	if i.scene.exchange != nil {
		i.scene.exchange.Close()
	}
}

// checkWebhook takes note of where the webhooks lead to. All have to lead to the same host, by https.
func (i *installation) checkWebhook(address *url.URL) error {
	if address.Scheme != "https" {
		return errors.New("a webhook that Exchange would not post to by https")
	}
	host := address.Host
	if address.Port() == "" {
		host = net.JoinHostPort(address.Hostname(), "443")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.webhookHost != "" && i.webhookHost != host {
		return fmt.Errorf("webhooks lead to %s and to %s", i.webhookHost, host)
	}
	i.webhookHost = host
	return nil
}

func (i *installation) subscribed(m exchange.Mailbox, t exchange.Target) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.webhooks[m] = t
	if i.left {
		return
	}
	select {
	case i.greeter.due <- greeting{m, t}:
	default: // subscriptions of an interrupted run that are made again without end
	}
}

// connect makes a connection as Exchange does, to where the webhooks lead.
func (i *installation) connect(int) *exchange.Connection {
	i.mu.Lock()
	defer i.mu.Unlock()
	return exchange.NewSecureConnection(i.webhookHost, i.tls)
}

func (i *installation) webhook(m exchange.Mailbox) exchange.Target {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.webhooks[m]
}

// load registers the phones, has events happen at the rate, and reports.
func (i *installation) load(ctx context.Context) error {
	if err := i.await(ctx); err != nil {
		return err
	}
	if err := i.everybody(ctx); err != nil {
		return err
	}
	s := i.settings
	say(i.progress, "%.4g events a second for %s", s.target.rate, s.stage)
	d := i.driver(ctx)
	began := time.Now()
	err := d.keep(ctx, s.target.rate, s.stage, i.day)
	took := time.Since(began)
	i.settle(ctx)
	i.describe(d, took)
	if ctx.Err() != nil {
		return ctx.Err() // what was under way is not lost
	}
	return errors.Join(err, i.judge())
}

// await waits until the first phone can register, whose subscription shows that the tenant was led here.
func (i *installation) await(ctx context.Context) error {
	say(i.progress, "Waiting for %s until a phone can register", i.settings.target.wait)
	ctx, cancel := context.WithTimeout(ctx, i.settings.target.wait)
	defer cancel()
	first, last := i.newPhones(i.phones.token), ""
	first.pause = i.settings.target.poll
	first.complain = func(problem string) {
		if problem != last {
			say(i.progress, "Not yet: %s", problem)
		}
		last = problem
	}
	if err := i.enter(ctx, first, 1); err != nil {
		return fmt.Errorf("the first phone cannot register, most recently so: %s: %w", last, errors.Join(err, i.refusals()))
	}
	if i.webhook(1) == "" {
		return errors.New("a phone has registered, but its subscription was made somewhere else: the tenant is not led here")
	}
	return nil
}

// refusals is an error if the simulated Exchange was asked for something that nobody of this run asks for.
func (i *installation) refusals() error {
	if _, refused := i.scene.exchange.Requests(); refused > 0 {
		return fmt.Errorf("the simulated Exchange has refused %d requests, the last because: %s; has the tenant users of its own?",
			refused, i.scene.exchange.Problem())
	}
	return nil
}

// entering is how many phones register, or unregister, at once.
const entering = 16

// enter registers a phone. It is unregistered in the end whatever became of it: the answer may have been lost.
func (i *installation) enter(ctx context.Context, p *phones, m exchange.Mailbox) error {
	i.mu.Lock()
	i.entered = append(i.entered, m)
	i.mu.Unlock()
	return p.enter(ctx, m, m.Password())
}

// everybody registers the other phones.
func (i *installation) everybody(ctx context.Context) error {
	say(i.progress, "%d phones register", i.settings.users)
	began := time.Now()
	mailboxes := make([]exchange.Mailbox, 0, i.settings.users)
	for m := range exchange.Mailbox(i.settings.users - 1) {
		mailboxes = append(mailboxes, m+2) //nolint:mnd // the first is there
	}
	err := inParallel(mailboxes, func(m exchange.Mailbox) error {
		return errors.Join(i.enter(ctx, i.phones, m), i.refusals())
	})
	if err != nil {
		return fmt.Errorf("registering the phones: %w", errors.Join(err, i.phones.fault()))
	}
	r := i.report
	r.add("registrations", "until all were registered", time.Since(began).Seconds(), "s")
	r.add("registrations", "calls that failed", float64(i.phones.failed.Load()), "")
	r.add("registrations", "calls that were told to come again", float64(i.phones.putOff.Load()), "")
	if i.phones.registrations.Count() > 0 {
		r.add("registrations", "registerdevicev2, p50", milliseconds(i.phones.registrations.Percentile(50)), "ms")
		r.add("registrations", "registerdevicev2, p99", milliseconds(i.phones.registrations.Percentile(99)), "ms")
	}
	return nil
}

// inParallel does something for each mailbox, entering of them at once, until it fails for one.
func inParallel(mailboxes []exchange.Mailbox, do func(exchange.Mailbox) error) error {
	var failed atomic.Pointer[error]
	var at atomic.Int64
	var group sync.WaitGroup
	for range entering {
		group.Go(func() {
			for n := at.Add(1); n <= int64(len(mailboxes)) && failed.Load() == nil; n = at.Add(1) {
				if err := do(mailboxes[n-1]); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

const (
	// fewestWorkers and workersPerRate, for each event a second, are how many events may be under way at once: enough if one takes
	// two seconds, and few enough that their connections are not idle for long.
	fewestWorkers  = 8
	workersPerRate = 2
)

func (i *installation) driver(ctx context.Context) *driver {
	d := newDriver(i.scene)
	d.target, d.connect, d.forgiving, d.quit = i.webhook, i.connect, true, ctx.Done()
	d.atRate = min(max(fewestWorkers, int(workersPerRate*i.settings.target.rate)), maxWaiting)
	return d
}

// day draws events as they come at the peak of a day. Neither a notification that is late nor a post that is not taken ends the
// run: both are counted.
func (i *installation) day(random *rand.Rand) event {
	happen := day(random)
	return func(ctx context.Context, d *driver, c *exchange.Connection, at time.Time) error {
		if err := i.refusals(); err != nil {
			return err
		}
		err := happen(ctx, d, c, at)
		switch {
		case errors.Is(err, errUntold):
			i.late.Add(1)
		case errors.Is(err, errGivenUp):
			i.givenUp.Add(1)
		default:
			return err
		}
		return nil
	}
}

// settle gives what is still owed a last minute. What has not come by then counts as lost.
func (i *installation) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	for i.scene.ledger.account().untold > 0 {
		select {
		case <-time.After(100 * time.Millisecond): //nolint:mnd // often enough for a minute
		case <-ctx.Done():
			return
		}
	}
}

// describe reports how it went.
func (i *installation) describe(d *driver, took time.Duration) {
	const stage = "load"
	r, l, a := i.report, i.scene.ledger, i.scene.ledger.account()
	r.add(stage, "posts that were taken", float64(d.posted.Load()), "")
	r.add(stage, "rate", float64(d.posted.Load())/took.Seconds(), "posts/s")
	for _, samples := range []struct {
		name string
		of   *meter.Samples
	}{{"answer", d.answered}, {"event to acceptance", l.delivery}, {"event to acceptance, without Exchange's part", l.own}} {
		if samples.of.Count() == 0 {
			continue // nothing of the kind happened
		}
		r.add(stage, samples.name+", p50", milliseconds(samples.of.Percentile(50)), "ms")
		r.add(stage, samples.name+", p99", milliseconds(samples.of.Percentile(99)), "ms")
	}
	r.add(stage, "mails told", float64(a.told), "")
	r.add(stage, "posts that Exchange had to make again", float64(d.shed.Load()), "")
	r.add(stage, "posts without an answer, of those", float64(d.unanswered.Load()), "")
	r.add(stage, "posts that Exchange gave up", float64(i.givenUp.Load()), "")
	r.add(stage, "notifications that took more than a minute", float64(i.late.Load()), "")
	r.add(stage, "phones asked to register again", float64(i.nudges.Load()), "")
	r.add(stage, "notifications lost", float64(a.untold), "")
	r.add(stage, "notifications shown twice", float64(a.twice), "")
}

// judge is about what must never be, however slow the installation.
func (i *installation) judge() error {
	var lost error
	if a := i.scene.ledger.account(); a.untold+a.twice+a.unknown > 0 || i.givenUp.Load() > 0 {
		lost = fmt.Errorf("%d notifications lost, %d shown twice, %d about no mail of this run, %d posts not taken",
			a.untold, a.twice, a.unknown, i.givenUp.Load())
	}
	return errors.Join(lost, i.refusals())
}

// leave unregisters the phones.
func (i *installation) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	i.mu.Lock()
	entered := slices.Clone(i.entered)
	i.left = true
	i.mu.Unlock()
	greeted := i.greeter.close()
	say(i.progress, "%d phones unregister", len(entered))
	var failure atomic.Pointer[error]
	var left atomic.Int64
	_ = inParallel(entered, func(m exchange.Mailbox) error {
		if err := i.unregister(ctx, m); err != nil {
			left.Add(1)
			failure.CompareAndSwap(nil, &err)
		}
		return nil // the others are to go all the same
	})
	if left.Load() > 0 {
		return errors.Join(greeted, fmt.Errorf("unregistering the phones, of which %d are left, the first because: %w", left.Load(), *failure.Load()))
	}
	return greeted
}

const (
	// leaveLimit bounds the time for all phones to unregister, leaveTries how often one tries.
	leaveLimit = 5 * time.Minute
	leaveTries = 4
)

// unregister takes a phone away. One that is not there, since its registration failed, is away.
func (i *installation) unregister(ctx context.Context, m exchange.Mailbox) error {
	gone := []protocol.Code{
		protocol.DeviceUnregisteredUserUnsubscribed, protocol.DeviceUnregistered, protocol.DeviceNotRegistered,
		protocol.NoRecordExists, protocol.UserSubscriptionNotFound,
	}
	var problem error
	for range leaveTries {
		answer, err := i.phones.phone(m, m.Password()).Unregister(ctx)
		if err == nil && slices.Contains(gone, protocol.Code(answer.Code)) {
			return nil
		}
		problem = fmt.Errorf("%d/%d %s: %w", answer.Status, answer.Code, answer.Message, err)
		if err == nil {
			problem = fmt.Errorf("%d/%d %s", answer.Status, answer.Code, answer.Message)
		}
		wait, told := retryAfterOf(answer)
		if !told {
			wait = time.Second
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(problem, ctx.Err())
		}
	}
	return problem
}
