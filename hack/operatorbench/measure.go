package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ens-operator/ens-operator/hack/meter"
)

// What is to be reached with 1,000 tenants on two cores.
const (
	provisionGoal     = 150 * time.Second
	statusWritesGoal  = 1.2
	restartGoal       = 10 * time.Second
	failoverGoal      = 5 * time.Second
	memoryGoal        = 120 * megabyte
	foreignMemoryGoal = 10 * megabyte
)

// megabyte is 10^6 bytes.
const megabyte = 1_000_000

const (
	// foreignSize is that of a foreign Secret.
	foreignSize = megabyte // what the API server takes
	// limit bounds each wait.
	limit = 15 * time.Minute
	// statusKind is how the counter names writes of a tenant's status.
	statusKind = "enstenants/status"
)

// run is one run of the benchmark.
type run struct {
	*stage
	settings
	crowd   *crowd
	figures []figure
	say     func(format string, arguments ...any)
}

// bench measures everything; what was measured before an error is returned with it.
func bench(ctx context.Context, s settings, progress io.Writer) (_ []figure, err error) {
	began := time.Now()
	r := &run{settings: s, say: func(format string, arguments ...any) {
		_, _ = fmt.Fprintf(progress, "%6.1f s  "+format+"\n", append([]any{time.Since(began).Seconds()}, arguments...)...)
	}}
	if r.stage, err = setStage(ctx, s.profiles); err != nil {
		r.close()
		return nil, err
	}
	defer r.close()
	if r.crowd, err = newCrowd(s.tenants); err != nil {
		return nil, err
	}
	leader, err := r.startOperator(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { leader.Kill() }()
	for _, measure := range []func(context.Context, **operator) error{
		r.provision, r.keepQuiet, r.meetForeignSecrets, r.restart, r.repair, r.failOver,
	} {
		if err := measure(ctx, &leader); err != nil {
			return r.figures, err
		}
	}
	return r.figures, nil
}

func (r *run) found(what, measured, goal string, met bool) {
	r.figures = append(r.figures, figure{what, measured, goal, met})
	r.say("%s: %s", what, measured)
}

func (r *run) took(what string, d, goal time.Duration) {
	r.found(what, fmt.Sprintf("%.2f s", d.Seconds()), fmt.Sprintf("at most %.0f s", goal.Seconds()), d <= goal)
}

// provision measures from the first tenant that is applied until the last one is provisioned.
func (r *run) provision(ctx context.Context, _ **operator) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.crowd.prepare(ctx, r.client); err != nil {
		return err
	}
	r.say("applying %d tenants", r.tenants)
	before, began := r.counter.written(), time.Now()
	applied := make(chan error, 1)
	go func() { applied <- r.crowd.apply(ctx, r.client) }()
	if err := r.crowd.waitProvisioned(ctx, r.client); err != nil {
		return err
	}
	if err := <-applied; err != nil {
		return err
	}
	r.took("from apply to provisioned", time.Since(began), provisionGoal)
	if err := r.settle(ctx); err != nil {
		return err
	}
	written := r.counter.written().since(before)
	each := float64(written.sum(statusKind)) / float64(r.tenants)
	r.found("status writes for each tenant", fmt.Sprintf("%.2f", each), fmt.Sprintf("at most %.1f", statusWritesGoal), each <= statusWritesGoal)
	r.found("all writes for each tenant", fmt.Sprintf("%.1f", float64(written.sum(""))/float64(r.tenants)), "", true)
	return nil
}

// settle waits until the operator is quiet.
func (r *run) settle(ctx context.Context) error {
	return eventually(ctx, "nothing is written any more", func() (bool, error) { return r.counter.quietFor() > r.settled, nil })
}

// keepQuiet counts what is written while nothing happens.
func (r *run) keepQuiet(ctx context.Context, leader **operator) error {
	r.say("looking for %v whether anything is written", r.quiet)
	before := r.counter.written()
	select {
	case <-time.After(r.quiet):
	case <-ctx.Done():
		return ctx.Err()
	}
	written := r.counter.written().since(before)
	measured := fmt.Sprintf("%d", written.sum(""))
	if written.sum("") > 0 {
		measured += fmt.Sprintf(" %v", written)
	}
	r.found(fmt.Sprintf("writes in %v of quiet, without the Lease", r.quiet), measured, "none", written.sum("") == 0)
	return r.foundMemory("memory of the operator", *leader)
}

// megabytes says bytes in decimal megabytes, as the goals do.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/megabyte) }

// meetForeignSecrets measures what large Secrets of others cost the operator.
func (r *run) meetForeignSecrets(ctx context.Context, leader **operator) error {
	before, err := meter.Memory((*leader).PID())
	if err != nil {
		return err
	}
	r.say("adding %d Secrets of %d bytes", r.foreign, foreignSize)
	if err := foreign(ctx, r.client, r.foreign, foreignSize); err != nil {
		return err
	}
	most := before
	for end := time.Now().Add(r.settled); time.Now().Before(end) && ctx.Err() == nil; {
		held, err := meter.Memory((*leader).PID())
		if err != nil {
			return err
		}
		most = max(most, held)
		time.Sleep(pollInterval)
	}
	r.found(fmt.Sprintf("memory more with %d foreign Secrets of 1 MB", r.foreign), megabytes(most-before),
		"at most "+megabytes(foreignMemoryGoal), most-before <= foreignMemoryGoal)
	return nil
}

// restart measures from the start of a new operator until it has looked at everything, as often as that is asked for.
func (r *run) restart(ctx context.Context, leader **operator) error {
	for range r.restarts {
		if err := r.restartOnce(ctx, leader); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) restartOnce(ctx context.Context, leader **operator) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := (*leader).end(); err != nil {
		return fmt.Errorf("ending the operator: %w", err)
	}
	before, began := r.counter.written(), time.Now()
	next, err := r.startOperator(ctx)
	if err != nil {
		return err
	}
	*leader = next
	if err := r.caughtUp(ctx, next); err != nil {
		return err
	}
	r.took("from start to quiet", time.Since(began), restartGoal)
	if err := next.tellProfiles(); err != nil {
		return err
	}
	select { // whatever it still does, and gives back
	case <-time.After(r.settled):
	case <-ctx.Done():
		return ctx.Err()
	}
	written := r.counter.written().since(before)
	r.found("writes after the start, without the Lease", fmt.Sprintf("%d %v", written.sum(""), written), "none", written.sum("") == 0)
	return r.foundMemory("memory of the operator after the start", next)
}

// foundMemory says how much memory an operator has.
func (r *run) foundMemory(what string, of *operator) error {
	held, err := meter.Memory(of.PID())
	if err != nil {
		return err
	}
	r.found(what+" (RssAnon)", megabytes(held), "at most "+megabytes(memoryGoal), held <= memoryGoal)
	return nil
}

// caughtUp waits until an operator has looked at each tenant and has nothing left to do.
func (r *run) caughtUp(ctx context.Context, o *operator) error {
	return eventually(ctx, "the operator has looked at all tenants", func() (bool, error) {
		done, err := o.activity(ctx)
		return done.reconciled >= float64(r.tenants) && done.pending == 0, err
	})
}

// repair measures how long a hand edit lasts.
func (r *run) repair(ctx context.Context, _ **operator) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	if err := spoil(ctx, r.client, key(r.tenants-1)); err != nil {
		return err
	}
	r.found("until a hand edit was repaired", fmt.Sprintf("%.3f s", time.Since(began).Seconds()), "", true)
	return nil
}

// failOver measures from the end of a leader that is asked to stop until another one works.
func (r *run) failOver(ctx context.Context, leader **operator) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	standby, err := r.startOperator(ctx)
	if err != nil {
		return err
	}
	defer (*leader).Kill()
	defer func() { *leader = standby }()
	err = eventually(ctx, "the second operator knows everything", func() (bool, error) {
		waiting, err := standby.activity(ctx)
		return waiting.pending > 0, err // what a warm one has read waits for its turn
	})
	if err != nil {
		return err
	}
	r.say("ending the leader")
	began := time.Now()
	ended := make(chan error, 1)
	go func(o *operator) { ended <- o.end() }(*leader)
	err = eventually(ctx, "the second operator works", func() (bool, error) {
		working, err := standby.activity(ctx)
		return working.reconciled > 0, err
	})
	if err != nil {
		return err
	}
	r.took("graceful change of the leader, until the next one works", time.Since(began), failoverGoal)
	if err := <-ended; err != nil {
		return fmt.Errorf("ending the leader: %w", err)
	}
	if err := r.caughtUp(ctx, standby); err != nil {
		return err
	}
	r.took("the same, until it has looked at all tenants", time.Since(began), restartGoal)
	return nil
}
