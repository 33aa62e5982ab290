package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// Half of the users are at another Exchange, and half of each at another provider, where it is measured how little one of them
// feels of the other.
const (
	otherSuffix = "-2"
	// isolationRate is how many events there are in a second: a good part of what can be done, so that waiting would show.
	isolationRate = 400
	// hangs is how long each request takes at the endpoint that is slow.
	hangs = 5 * time.Second
	// noisyFactor is how much more a user has than all others have on average, and noisyLeast the least, in mails a second.
	noisyFactor = 100
	noisyLeast  = 20
	noisy       = exchange.Mailbox(1)
	// mendingLimit bounds the time until everything is told after a fault: a provider is left alone for some time.
	mendingLimit = 4 * time.Minute
)

func (l layout) otherEndpoint(m exchange.Mailbox) bool { return l.two && m%2 == 1 }
func (l layout) otherProvider(m exchange.Mailbox) bool { return l.two && m/2%2 == 1 }

func named(name string, other bool) string {
	if other {
		return name + otherSuffix
	}
	return name
}

// others are the second Exchange and the second provider.
type others struct {
	exchange *exchange.Server
	apns     *apnstest.Server
}

// apart says that there are two of each.
func (s settings) apart() bool { return s.asks("isolation") }

func startOthers(s settings, l *ledger) (*others, error) {
	if !s.apart() {
		return nil, nil //nolint:nilnil // there is only one of each
	}
	server, err := exchange.Start(exchange.Options{Mailboxes: s.users, Delay: s.exchangeDelay, Observe: l.fetched, Unread: l.unread})
	if err != nil {
		return nil, err
	}
	return &others{exchange: server, apns: apnstest.Start(apnstest.Options{
		Calm: true, MaxDelay: s.providerDelay, Logf: func(string, ...any) {}, Observe: l.acceptedByApple,
	})}, nil
}

// configure adds them to a configuration, and the provider's files to those of the folder.
func (o *others) configure(c *config.Config, files map[string][]byte) {
	if o == nil {
		return
	}
	endpoint := c.Endpoints[0]
	endpoint.Name, endpoint.URL = named(endpointName, true), o.exchange.URL()
	endpoint.Pinning = config.Pinning{SHA256: []string{o.exchange.Fingerprint()}}
	c.Endpoints = append(c.Endpoints, endpoint)
	key, name := o.apns.NewKey(), named(providerName, true)
	c.PushProviders = append(c.PushProviders, config.PushProvider{Name: name, CABundle: true, APNs: &config.APNs{
		TeamID: key.TeamID, KeyID: key.KeyID, Topics: []string{topic}, Environment: config.PushProduction, URL: o.apns.URL(),
	}})
	files[config.PushFolder+"/"+name+"/"+config.APNsKeyFile] = key.P8
	files[config.PushFolder+"/"+name+"/"+config.CABundleFile] = o.apns.CertificatePEM()
}

func (o *others) close() {
	if o != nil {
		o.apns.Close()
		o.exchange.Close()
	}
}

// trouble is something that goes wrong for some users.
type trouble struct {
	name       string
	begin, end func()
	// spared are the users that should feel nothing of it.
	spared func(exchange.Mailbox) bool
	// more is what the noisy user has, in mails a second.
	more float64
}

func (b *run) troubles() []trouble {
	where, other := b.scene.layout, b.scene.others
	fail := func(f apnstest.Fault) func() {
		return func() { other.apns.OnRequest(func(apnstest.Request) *apnstest.Fault { return &f }) }
	}
	mend := func() { other.apns.OnRequest(nil) }
	elsewhere := func(m exchange.Mailbox) bool { return !where.otherProvider(m) }
	nothing := func() {}
	return []trouble{
		{name: "one endpoint of two hangs for 5 s", begin: func() { other.exchange.SetDelay(hangs) },
			end: func() { other.exchange.SetDelay(b.settings.exchangeDelay) }, spared: func(m exchange.Mailbox) bool { return !where.otherEndpoint(m) }},
		{name: "one user is noisy", begin: nothing, end: nothing, spared: func(m exchange.Mailbox) bool { return m != noisy },
			more: max(noisyLeast, noisyFactor*isolationRate/float64(b.settings.users))},
		{name: "one provider of two answers 500", begin: fail(apnstest.Fault{Status: http.StatusInternalServerError, Reason: "InternalServerError"}),
			end: mend, spared: elsewhere},
		{name: "one provider of two hangs", begin: fail(apnstest.Fault{Hang: true}), end: mend, spared: elsewhere},
	}
}

// felt is what the spared users felt.
type felt struct{ answer, own *meter.Samples }

// isolation measures what others feel of trouble that is not theirs.
func (b *run) isolation(ctx context.Context) error {
	o := newOffering(b.scene, b.settings.hurry)
	defer o.close()
	everybody := trouble{begin: func() {}, end: func() {}, spared: func(exchange.Mailbox) bool { return true }}
	if _, err := b.feel(ctx, o, everybody); err != nil { // until connections are there and plans are made
		return err
	}
	before, err := b.feel(ctx, o, everybody)
	if err != nil {
		return err
	}
	for _, t := range b.troubles() {
		during, err := b.feel(ctx, o, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		for _, percentile := range []float64{50, 99} {
			for what, samples := range map[string][2]*meter.Samples{"answer": {before.answer, during.answer}, "own part": {before.own, during.own}} {
				was, is := samples[0].Percentile(percentile), samples[1].Percentile(percentile)
				b.report.add("isolation", fmt.Sprintf("%s: others' %s, p%.0f", t.name, what, percentile), milliseconds(is), "ms")
				b.report.add("isolation", fmt.Sprintf("%s: others' %s, p%.0f, to before", t.name, what, percentile), float64(is)/float64(was), "")
			}
		}
	}
	return nil
}

// feel has events happen, with trouble, and returns what those felt who should be spared.
func (b *run) feel(ctx context.Context, o *offering, t trouble) (felt, error) {
	b.scene.ledger.turn()
	own := b.scene.ledger.watch(t.spared)
	phase := o.watch(t.spared)
	t.begin()
	stop := o.noise(ctx, t.more)
	err := o.keep(ctx, isolationRate, b.settings.stage, dayKind)
	stop()
	t.end()
	if err != nil {
		return felt{}, err
	}
	return felt{answer: phase.watched, own: own}, b.mend(ctx, o)
}

// mend waits until everything is told, by heartbeats that bring what is owed.
func (b *run) mend(ctx context.Context, o *offering) error {
	ctx, cancel := context.WithTimeout(ctx, mendingLimit)
	defer cancel()
	const perSecond, grace = 2000, 2 * time.Second
	for {
		if err := o.done(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(grace):
		case <-ctx.Done():
			return fmt.Errorf("%d notifications were not told: %w", b.scene.ledger.account().untold, ctx.Err())
		}
		if b.scene.ledger.account().untold == 0 {
			return nil
		}
		if err := o.beatAll(ctx, perSecond); err != nil {
			return err
		}
	}
}

// noise has a single user get mails at a rate until stop is called.
func (o *offering) noise(ctx context.Context, perSecond float64) (stop func()) {
	if perSecond == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				o.happen(noisy, exchange.NewMail, time.Now())
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
