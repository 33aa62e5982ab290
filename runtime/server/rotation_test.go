package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// pair is a tenant with two replicas, each with a configuration folder of its own, that requests go to in turn.
type pair struct {
	*runtimetest.Tenant
	clock    *clocktesting.FakeClock
	folders  [2]*runtimetest.Tenant
	replicas [2]*runtimetest.Replica
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{clock: clocktesting.NewFakeClock(time.Now())}
	stopped := make(chan struct{})
	t.Cleanup(func() { close(stopped) })
	p.Tenant = runtimetest.New(t, runtimetest.Options{Clock: p.clock})
	p.folders = [2]*runtimetest.Tenant{p.Tenant, p.WithOwnFolder(t)}
	for i, folder := range p.folders {
		p.replicas[i] = folder.Launch(t)
	}
	t.Cleanup(func() { go runClock(p.clock, stopped) }) // a replica that stops waits for its clock
	for _, replica := range p.replicas {
		runtimetest.WaitReady(t, replica.Metrics)
	}
	var requests atomic.Int64
	p.Front.Route(func(*http.Request) string { return p.replicas[requests.Add(1)%2].Address })
	return p
}

// runClock lets a clock run until stopped.
func runClock(clock *clocktesting.FakeClock, stopped <-chan struct{}) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			clock.Step(time.Second)
		case <-stopped:
			return
		}
	}
}

const (
	// clockStep is how far the clock goes between two looks.
	clockStep = 10 * time.Second
	// maxUnheard bounds how far it goes while a replica has not reported: after ten minutes it would count as gone.
	maxUnheard = 5 * time.Minute
)

// pass lets time pass on the clock until there is nothing left to complain about.
func (p *pair) pass(t *testing.T, complaint func() string) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		text := complaint()
		oldest := storetest.Value[time.Time](t, p.Schema, `SELECT coalesce(min(seen_at), now()) FROM instances`)
		if text != "" && p.clock.Since(oldest) < maxUnheard {
			p.clock.Step(clockStep)
		}
		return text
	})
}

// mounted waits until as many replicas as said report these numbers for both kinds of keys.
func (p *pair) mounted(t *testing.T, replicas int, keks, webhooks string) {
	t.Helper()
	p.pass(t, func() string {
		const count = `SELECT count(*) FROM instances WHERE kek_ids = $1::integer[] AND webhook_ids = $2::integer[]`
		if n := storetest.Value[int](t, p.Schema, count, keks, webhooks); n != replicas {
			return fmt.Sprintf("%d replicas have the keys %s and %s, want %d", n, keks, webhooks, replicas)
		}
		return ""
	})
}

// sealing waits until both replicas seal and sign with keys of this number.
func (p *pair) sealing(t *testing.T, number string) {
	t.Helper()
	p.pass(t, func() string {
		for _, replica := range p.replicas {
			kek, webhook := exposed(t, replica, `ens_sealing_key{kind="kek"}`), exposed(t, replica, `ens_sealing_key{kind="webhook"}`)
			if kek != number || webhook != number {
				return "a replica seals with KEK " + kek + " and webhook key " + webhook
			}
		}
		return ""
	})
}

// subscribe registers a phone and returns the living subscription of its user, once its first post has been answered.
func (p *pair) subscribe(t *testing.T, phone *boxertest.Phone) ewstest.Subscription {
	t.Helper()
	answer := runtimetest.MustRegister(t, phone, 7)
	_, err := p.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool {
		return c.SubscriptionID == answer.Fields["subscriptionId"] && c.Reply == "OK"
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Exchange.Subscriptions() {
		if s.ID == answer.Fields["subscriptionId"] {
			return s
		}
	}
	t.Fatal("Exchange does not have the subscription")
	return ewstest.Subscription{}
}

// answerOK wants posts of these subscriptions answered OK by both replicas.
func (p *pair) answerOK(t *testing.T, when string, subscriptions ...ewstest.Subscription) {
	t.Helper()
	for i, s := range subscriptions {
		for j, replica := range p.replicas {
			webhook := strings.Replace(s.URL, p.Front.URL, "http://"+replica.Address, 1)
			if c := p.Exchange.Post(runtimetest.Context(t), webhook, heartbeat(t, p.Tenant, s)); c.Reply != "OK" {
				t.Errorf("%s: replica %d answers the post of subscription %d with %d %q: %v", when, j+1, i+1, c.Status, c.Reply, c.Err)
			}
		}
	}
}

// wantSigned wants a webhook URL that was signed with the webhook key of this number.
func wantSigned(t *testing.T, s ewstest.Subscription, number string) {
	t.Helper()
	if !strings.Contains(s.URL, "m="+number+".") {
		t.Errorf("the webhook URL is not signed with webhook key %s", number)
	}
}

// sealedUnder counts the rows of all tables that are sealed under a KEK.
func (p *pair) sealedUnder(t *testing.T, kek int) int {
	t.Helper()
	return storetest.Value[int](t, p.Schema, `SELECT
(SELECT count(*) FROM users WHERE substr(private_key, 1, 4) = int4send($1)) +
(SELECT count(*) FROM key_pool WHERE substr(private_key, 1, 4) = int4send($1)) +
(SELECT count(*) FROM subscriptions WHERE substr(key_sealed, 1, 4) = int4send($1))`, kek)
}

// retired is when a KEK was retired on record, zero if it was not.
func (p *pair) retired(t *testing.T, kek string) time.Time {
	t.Helper()
	text := storetest.Value[string](t, p.Schema, `SELECT coalesce((SELECT value FROM meta WHERE key = $1), '')`, "kek-retired/"+kek)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func keyFile(name string) string { return filepath.Join(config.KeysFolder, name) }

func TestKeysAreRotatedWithoutACallbackFailing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	phones := []*boxertest.Phone{p.Phone(alice, push.IOS), p.Phone("bob@example.com", push.IOS), p.Phone("carol@example.com", push.IOS)}
	first := p.subscribe(t, phones[0])
	wantSigned(t, first, "1")

	// The new keys reach one replica.
	fresh := config.NewKeyFiles()
	mount := func(folder *runtimetest.Tenant) {
		folder.Write(t, keyFile("kek-2"), fresh["kek-1"])
		folder.Write(t, keyFile("webhook-2"), fresh["webhook-1"])
	}
	mount(p.folders[0])
	p.mounted(t, 1, "{1,2}", "{1,2}")
	p.sealing(t, "1")
	second := p.subscribe(t, phones[1])
	wantSigned(t, second, "1")
	if n := p.sealedUnder(t, 2); n != 0 {
		t.Errorf("while a replica cannot read it, %d rows are sealed under KEK 2", n)
	}
	p.answerOK(t, "with the new keys on one replica", first, second)

	// They reach the other.
	began := p.clock.Now()
	mount(p.folders[1])
	p.mounted(t, 2, "{1,2}", "{1,2}")
	p.sealing(t, "2")
	third := p.subscribe(t, phones[2])
	wantSigned(t, third, "2")
	p.answerOK(t, "with the new keys on both replicas", first, second, third)
	p.pass(t, func() string {
		if n := p.sealedUnder(t, 1); n > 0 {
			return fmt.Sprintf("%d rows are still sealed under KEK 1", n)
		}
		return ""
	})
	p.answerOK(t, "after all is sealed anew", first, second, third)

	// The old KEK is retired, and goes.
	p.pass(t, func() string {
		if p.retired(t, "1").IsZero() {
			return "KEK 1 is not retired"
		}
		return ""
	})
	if after := p.retired(t, "1").Sub(began); after < 2*time.Minute {
		t.Errorf("KEK 1 was retired after %s, when calls that had sealed under it may not have ended", after)
	}
	for _, folder := range p.folders {
		folder.Remove(t, keyFile("kek-1"))
	}
	p.mounted(t, 2, "{2}", "{1,2}")
	p.answerOK(t, "without KEK 1", first, second, third)

	// The old webhook key goes when no subscription uses it any more.
	p.signedWith(t, "1", "2")
	for _, phone := range phones[:2] {
		phone.Extra = map[string]any{"forceSubscription": true}
	}
	first, second = p.subscribe(t, phones[0]), p.subscribe(t, phones[1])
	p.signedWith(t, "1", "0")
	p.signedWith(t, "2", "3")
	p.endReplaced(t, phones[:2])
	for _, folder := range p.folders {
		folder.Remove(t, keyFile("webhook-1"))
	}
	p.mounted(t, 2, "{2}", "{2}")
	p.answerOK(t, "without webhook key 1", first, second, third)
	for _, c := range p.Exchange.Callbacks() {
		if c.Err != nil {
			t.Errorf("a post of Exchange failed: %v", c.Err)
		}
	}
}

// signedWith waits until both replicas count that many subscriptions whose URLs a webhook key signed.
func (p *pair) signedWith(t *testing.T, key, count string) {
	t.Helper()
	p.pass(t, func() string {
		for _, replica := range p.replicas {
			if n := exposed(t, replica, `ens_webhook_key_subscriptions{key="`+key+`"}`); n != count {
				return "a replica counts " + n + " subscriptions of webhook key " + key + ", want " + count
			}
		}
		return ""
	})
}

// endReplaced lets Exchange find out that the users' older subscriptions have been replaced.
func (p *pair) endReplaced(t *testing.T, phones []*boxertest.Phone) {
	t.Helper()
	for _, phone := range phones {
		p.Exchange.Heartbeat(phone.Address)
		_, err := p.Exchange.WaitSubscription(runtimetest.Context(t), func(s ewstest.Subscription) bool {
			return s.Mailbox == phone.Address && s.Ended == ewstest.EndedByReply
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAReplicaThatLacksAKEKInUseIsNotReadyAndEndsNoSubscription(t *testing.T) {
	t.Parallel()
	x, s := subscribed(t, runtimetest.Options{})
	body := heartbeat(t, x, s)
	lacking := x.WithOwnFolder(t)
	lacking.Write(t, keyFile("kek-2"), config.NewKeyFiles()["kek-1"])
	kek := lacking.Remove(t, keyFile("kek-1"))
	replica := lacking.Launch(t)
	x.Front.Use(replica.Address)
	runtimetest.Eventually(t, func() string {
		if body := get(t, "http://"+replica.Metrics+"/readyz"); !strings.Contains(body, "KEK 1 is missing") {
			return "readiness says " + body
		}
		return ""
	})
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, body); c.Status != http.StatusServiceUnavailable {
		t.Errorf("a post is answered %d %q, want 503", c.Status, c.Reply)
	}
	phone := x.Phone("bob@example.com", push.IOS)
	answer, err := phone.PublicKey(t.Context())
	wantAnswer(t, answer, err, http.StatusServiceUnavailable, 32, "key pair")

	lacking.Write(t, keyFile("kek-1"), kek)
	runtimetest.WaitReady(t, replica.Metrics)
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, body); c.Reply != "OK" {
		t.Errorf("with the key restored a post is answered %d %q: %v", c.Status, c.Reply, c.Err)
	}
	runtimetest.MustRegister(t, phone, 7)
}
