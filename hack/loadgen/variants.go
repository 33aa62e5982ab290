package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
)

// span are some users that stand one after the other.
type span struct {
	first exchange.Mailbox
	count int
}

// variants measures a new mail by each way, in one runtime and one database, with as many users each.
func variants(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	ways := allWays()
	each := max(1, s.users/len(ways))
	s.users, s.arrangement.ways = each*len(ways), ways
	r, err := newReport(s)
	if err != nil {
		return r, err
	}
	x, err := setScene(ctx, s, progress)
	defer x.close()
	if err != nil {
		return r, err
	}
	x.ledger.devices = func(m exchange.Mailbox) int { return x.layout.of(m).devices }
	b := &run{scene: x, settings: s, report: r, progress: progress}
	if err := errors.Join(b.reference(), b.start(ctx)); err != nil {
		return r, err
	}
	for i, w := range ways {
		if i > 0 && s.only != "" && !s.asks(w.name) {
			continue
		}
		say(progress, "Way %s", w.name)
		x.busy = span{first: exchange.Mailbox(i*each + 1), count: each}
		if err := errors.Join(b.reference(), b.way(ctx, w)); err != nil {
			return r, fmt.Errorf("%s: %w", w.name, b.explain(err))
		}
		r.compare(w.name, ways[0].name)
	}
	if err := x.stations.faultless(); err != nil {
		return r, b.explain(err)
	}
	return r, b.judge()
}

// way measures one of them.
func (b *run) way(ctx context.Context, w way) error {
	if w.twice {
		_, _, err := b.measured(ctx, w.name+", first of each device", goals{}, func(d *driver) error { return d.once(ctx, b.settings.inFlight, newMail) })
		if err != nil {
			return err
		}
	}
	before, _, _ := b.scene.requests()
	posts := b.scene.ledger.next.Load()
	if err := b.flood(ctx, w.name, always(newMail), goals{cpu: w.goal}); err != nil {
		return err
	}
	after, _, _ := b.scene.requests()
	b.report.add(w.name, "requests to Exchange a post", float64(after-before)/float64(b.scene.ledger.next.Load()-posts), "")
	if w.devices > 1 {
		b.report.add(w.name, "runtime's CPU a device", b.perEvent[w.name].reference/float64(w.devices), "R")
	}
	return nil
}

// once makes an event happen to everybody, and to few twice.
func (d *driver) once(ctx context.Context, inFlight int, e event) error {
	return d.workers(inFlight, func(c *exchange.Connection, _ *rand.Rand) error {
		for int(d.turn.Load()) < len(d.turns) && ctx.Err() == nil {
			if err := e(ctx, d, c, time.Now()); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}
