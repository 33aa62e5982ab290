package callback

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// One push service that is out of order, or answers nothing, holds up nobody but its own devices.

// slow is how long a work waits for its pushes. Nearly all end within a tenth of a second, and those that fail quickly,
// their own retries included, within this time too: these are worth a further round.
const slow = 3 * time.Second

// patience is how long a work keeps its place at Exchange meanwhile: longer than pushes take even where there is little CPU, or
// more would be taken than can be told, and shorter than slow, or the users of a push service that has just begun to hang would
// have all places soon.
const patience = time.Second

// pushes are those of one notification.
type pushes struct {
	// ended is closed when no push is left.
	ended chan struct{}

	mu   sync.Mutex
	left int
	// results has one for each device, the zero value if it gets none.
	results []pushed
}

// pushed is what came of a notification to one device.
type pushed struct {
	outcome push.Outcome
	// accepted: a provider has taken it; unread is the count in it.
	accepted bool
	unread   *int
	// noted: the delivery knows.
	noted bool
}

func (p *pushes) set(device int, r pushed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.results[device] = r
	if p.left--; p.left == 0 {
		close(p.ended)
	}
}

// note takes note of the devices that have been told and are not noted yet.
func (d *delivery) note(p *pushes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.results {
		r := &p.results[i]
		if !r.accepted || r.noted {
			continue
		}
		r.noted, d.delivered = true, true
		if device := &d.target.Devices[i]; r.unread != nil {
			device.BadgeSent = r.unread
			d.badged = append(d.badged, device.Ref)
		}
	}
}

// await has conclude called once the pushes have ended. Where that takes long, it is called in the background, and the work
// goes on with what else its user is owed, at other push services. The claims stay leased until then.
func (d *delivery) await(pushes *pushes, conclude func(*delivery)) {
	p := d.processor
	ended := p.wait(pushes, patience)
	if !ended {
		d.work.place.leave()
		ended = p.wait(pushes, slow-patience)
	}
	d.note(pushes)
	if ended {
		conclude(d)
		return
	}
	late := &delivery{processor: p, work: d.work, target: d.target, record: d.record, unread: d.unread}
	late.target.Devices = slices.Clone(d.target.Devices)
	p.running.Go(func() {
		<-pushes.ended
		late.note(pushes)
		conclude(late)
		late.ended = append(late.ended, outcomes(late.again, failed)...) // there is no credential any more for a further round
		p.finish(late.work, late.result())
	})
}

// wait returns whether the pushes have ended within a time.
func (p *Processor) wait(pushes *pushes, most time.Duration) bool {
	timer := p.clock.NewTimer(most)
	defer timer.Stop()
	select {
	case <-pushes.ended:
		return true
	case <-timer.C():
		return false
	}
}

// untilDeadline is a context for what may outlast the work of ctx, but not the time that the work and its claims have.
func (p *Processor) untilDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(p.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// tellable returns the claims of which there is somebody to tell now. The others, all of whose devices are at push services
// that are left alone, wait in the journal: Exchange is not asked for what nobody would get.
func (d *delivery) tellable(claims []store.Claim) []store.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(claim store.Claim) bool {
		if !d.waits(claim) {
			return false
		}
		end := returned
		if d.outdated(claim) {
			end = expired
		}
		d.end(outcome{claim, end})
		return true
	})
}

// waits reports whether all devices that are to be told of a claim are at push services that are left alone.
func (d *delivery) waits(claim store.Claim) bool {
	waiting := 0
	for _, device := range d.target.Devices {
		if slices.Contains(claim.Done, device.Ref) {
			continue
		}
		provider := d.work.tenant.Provider(device.Provider)
		if provider == nil || !provider.Open() {
			return false
		}
		waiting++
	}
	return waiting > 0
}

// outdated reports whether a claim is too old to be of use.
func (d *delivery) outdated(c store.Claim) bool { return d.processor.clock.Since(c.CreatedAt) > maxAge }
