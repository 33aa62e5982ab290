package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/hack/meter"
	"github.com/ens-operator/ens-operator/runtime/protocol"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// phones register as Boxer does: they ask for the key, encrypt the credential under it and hand it over. Whoever is told to
// come again later does so, when it was told to and no earlier.
type phones struct {
	scene  *scene
	client *http.Client
	// base is the ENSLinkAddress, token the tenant's API token.
	base, token string
	// pause is when a phone tries again that was told nothing about it. complain, if there is one, is told why; one at a time.
	pause    time.Duration
	complain func(problem string)
	// keys and registrations are the times from a call to its answer, refusals included; entered those from the first call to
	// the registration.
	keys, registrations, entered meter.Samples
	// putOff counts answers that told to come again, retried the calls that had no answer, longestWait is in seconds.
	putOff, longestWait atomic.Int64
	failed              atomic.Int64
	failure             atomic.Pointer[string]
}

const (
	// phoneTimeout bounds a call: longer than the runtime's own.
	phoneTimeout = 90 * time.Second
	// idlePhone is how long a phone keeps its connection.
	idlePhone = 5 * time.Second
	// afterFailure is when a phone tries again that was told nothing about it.
	afterFailure = 5 * time.Second
)

func newPhones(x *scene) *phones {
	transport := &http.Transport{MaxIdleConnsPerHost: x.users.size, IdleConnTimeout: idlePhone}
	return &phones{
		scene: x, client: &http.Client{Transport: transport, Timeout: phoneTimeout}, base: "http://" + x.address + basePath, token: apiToken,
		pause: afterFailure,
	}
}

// phone is the mailbox's.
func (p *phones) phone(mailbox exchange.Mailbox, password string) *boxertest.Phone {
	return &boxertest.Phone{
		BaseURL: p.base, Client: p.client, APIToken: p.token,
		Address: mailbox.Address(), Username: mailbox.Address(), Password: password,
		DeviceID: device{of: mailbox}.id(), DeviceToken: device{of: mailbox}.token(), Platform: string(push.IOS), AppID: topic,
	}
}

// enter registers a mailbox's phone, however often it is put off.
func (p *phones) enter(ctx context.Context, mailbox exchange.Mailbox, password string) error {
	began, phone := time.Now(), p.phone(mailbox, password)
	if err := p.insist(ctx, phone.PublicKey, &p.keys, protocol.UpdateSuccess); err != nil {
		return err
	}
	if err := p.insist(ctx, phone.Register, &p.registrations, protocol.UserSubscribed); err != nil {
		return err
	}
	p.entered.Add(time.Since(began))
	return nil
}

// insist makes a call until it is answered with the code that is wanted.
func (p *phones) insist(ctx context.Context, call func(context.Context) (boxertest.Answer, error), took *meter.Samples, want protocol.Code) error {
	for ctx.Err() == nil {
		began := time.Now()
		answer, err := call(ctx)
		took.Add(time.Since(began))
		if err == nil && answer.Status == http.StatusOK && answer.Code == int(want) {
			return nil
		}
		wait, told := retryAfterOf(answer)
		if err == nil && told {
			p.putOff.Add(1)
			p.waited(wait)
		} else if ctx.Err() == nil {
			p.fail(answer, err)
			wait = p.pause
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// retryAfterOf is when to come again, if the answer says so and is one that may.
func retryAfterOf(answer boxertest.Answer) (time.Duration, bool) {
	seconds, err := strconv.Atoi(answer.RetryAfter)
	told := err == nil && (answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusServiceUnavailable)
	return time.Duration(seconds) * time.Second, told
}

func (p *phones) waited(d time.Duration) {
	for seconds := int64(d / time.Second); ; {
		longest := p.longestWait.Load()
		if seconds <= longest || p.longestWait.CompareAndSwap(longest, seconds) {
			return
		}
	}
}

func (p *phones) fail(answer boxertest.Answer, err error) {
	p.failed.Add(1)
	problem := fmt.Sprintf("%d/%d %s", answer.Status, answer.Code, answer.Message)
	if err != nil {
		problem = err.Error()
	}
	p.failure.CompareAndSwap(nil, &problem) // the first is what led to the others
	if p.complain != nil {
		p.complain(problem)
	}
}

// fault is an error if a phone was answered with one.
func (p *phones) fault() error {
	if p.failed.Load() == 0 {
		return nil
	}
	return fmt.Errorf("%d calls of phones failed, the first so: %s", p.failed.Load(), *p.failure.Load())
}

// greeter posts what Exchange posts first: a subscription that has just been made is told at once that it lives.
type greeter struct {
	due chan greeting
	// greeted are the posts that were answered OK, refused the others.
	greeted, refused atomic.Int64
	ended            chan struct{}
}

type greeting struct {
	mailbox exchange.Mailbox
	target  exchange.Target
}

const greeters = 8

func newGreeter(most int) *greeter {
	return &greeter{due: make(chan greeting, most), ended: make(chan struct{})}
}

// greet posts until the channel is closed.
func (g *greeter) greet(address string) {
	g.greetBy(func(int) *exchange.Connection { return exchange.NewConnection(address) })
}

// greetBy is greet by connections that are made when they are needed first.
func (g *greeter) greetBy(connect func(int) *exchange.Connection) {
	defer close(g.ended)
	done := make(chan struct{})
	for i := range greeters {
		go func() {
			defer func() { done <- struct{}{} }()
			var c *exchange.Connection
			for due := range g.due {
				if c == nil {
					c = connect(i)
				}
				g.post(c, due)
			}
			if c != nil {
				c.Close()
			}
		}()
	}
	for range greeters {
		<-done
	}
}

func (g *greeter) post(c *exchange.Connection, due greeting) {
	const tries = 4
	for range tries {
		reply, err := c.Post(due.target, exchange.Post{Mailbox: due.mailbox, Kind: exchange.Heartbeat, At: time.Now()})
		if err == nil && reply.OK {
			g.greeted.Add(1)
			return
		}
		if err == nil && reply.Unsubscribe {
			break
		}
		time.Sleep(retryAfter)
	}
	g.refused.Add(1)
}

// close waits until all is posted.
func (g *greeter) close() error {
	close(g.due)
	<-g.ended
	if g.refused.Load() > 0 {
		return errors.New("the first post of " + strconv.FormatInt(g.refused.Load(), 10) + " subscriptions was not taken")
	}
	return nil
}
