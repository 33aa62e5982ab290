package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// Keys are rotated in an order that no callback notices: a new key is mounted, each replica reports that it can read it,
// then all seal with it, then what rests under the old one is sealed anew, then the old one may go (architecture.md,
// Orders that matter). A webhook key cannot be exchanged in URLs that Exchange holds: the old one is needed until the
// last subscription whose URL it signed has been made anew.

// sealingSettles is how long all replicas must have been sealing with a key before the one before it is retired: a call
// that sealed under the old one at the last moment has written its row by then, since none takes longer than a minute.
const sealingSettles = 2 * time.Minute

// agreement is since when all replicas have been seen to seal with a KEK. Maintenance alone looks at it.
type agreement struct {
	kek   int
	since time.Time
}

// keyMetrics show how a rotation gets on.
type keyMetrics struct {
	sealing *prometheus.GaugeVec
	inUse   *prometheus.GaugeVec
}

func newKeyMetrics(r prometheus.Registerer) *keyMetrics {
	m := &keyMetrics{
		sealing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ens_sealing_key", Help: "The number of the key that this replica seals or signs with.",
		}, []string{"kind"}),
		inUse: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ens_webhook_key_subscriptions", Help: "Subscriptions by the webhook key that signed their URL; a key with none may go.",
		}, []string{"key"}),
	}
	r.MustRegister(m.sealing, m.inUse)
	return m
}

// report says what this replica runs with.
func (s *Server) report(ctx context.Context) error {
	t := s.tenant.Load()
	s.instance.ConfigHash = t.Hash
	s.instance.KEKs, s.instance.WebhookKeys = config.Numbers(t.Keys.KEKs), config.Numbers(t.Keys.Webhooks)
	s.instance.SealingKEK, s.instance.SealingWebhook = t.Keyring.Sealing()
	s.instance.Providers = t.Standing()
	return s.store.Report(ctx, s.instance, s.clock.Now())
}

// decideKeys finds out which keys all replicas can read, and seals with the newest of them. The database must be ours.
func (s *Server) decideKeys(ctx context.Context) error {
	if err := s.report(ctx); err != nil {
		return err
	}
	t := s.tenant.Load()
	rotation, err := s.store.Rotation(ctx, s.clock.Now())
	if err != nil {
		return err
	}
	kek, webhook := choose(t, rotation)
	if oldKEK, oldWebhook := t.Keyring.Sealing(); kek == oldKEK && webhook == oldWebhook {
		return nil
	}
	if err := s.store.RecordKEK(ctx, kek, config.CheckValue(t.Keys.KEKs[kek])); err != nil {
		return err
	}
	if err := s.store.RecordWebhookKey(ctx, webhook, config.CheckValue(t.Keys.Webhooks[webhook])); err != nil {
		return err
	}
	if err := t.Keyring.SealWith(kek, webhook); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "Sealing and signing with the newest keys that all replicas have", "kek", kek, "webhookKey", webhook)
	s.keyMetrics.sealing.WithLabelValues("kek").Set(float64(kek))
	s.keyMetrics.sealing.WithLabelValues("webhook").Set(float64(webhook))
	return s.report(ctx)
}

// choose picks the newest keys that all replicas have. Nothing is ever sealed under a KEK again that was left behind: it
// may be taken away at any time.
func choose(t *tenant.Tenant, rotation store.Rotation) (kek, webhook int) {
	common := func(own map[int]secret.Value, of func(store.Instance) []int) int {
		numbers := config.Numbers(own)
		return slices.Max(append([]int{0}, slices.DeleteFunc(numbers, func(number int) bool {
			return slices.ContainsFunc(rotation.Instances, func(i store.Instance) bool { return !slices.Contains(of(i), number) })
		})...))
	}
	kek = max(
		common(t.Keys.KEKs, func(i store.Instance) []int { return i.KEKs }),
		slices.Max(append([]int{0}, rotation.Needed()...)),
	)
	webhook = common(t.Keys.Webhooks, func(i store.Instance) []int { return i.WebhookKeys })
	if webhook == 0 { // no key is common to all: whatever is signed, somebody cannot read it
		webhook = config.Newest(t.Keys.Webhooks)
	}
	return kek, webhook
}

// reseal seals what rests under an older KEK anew, one replica at a time, and retires a KEK that nothing is sealed under
// any more.
func (s *Server) reseal(ctx context.Context) error {
	t := s.tenant.Load()
	kek, _ := t.Keyring.Sealing()
	rotation, err := s.store.Rotation(ctx, s.clock.Now())
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(rotation.Needed(), func(number int) bool { return number == kek })
	if len(old) == 0 {
		return nil
	}
	done, err := s.store.Reseal(ctx, store.Reseal{
		KEK: kek, KeyPair: t.Keyring.ResealKeyPair, SubscriptionKey: t.Keyring.ResealSubscriptionKey,
	})
	if errors.Is(err, store.ErrBusy) {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	damaged := err // holds up the KEK that those rows are under, and no other
	if done > 0 {
		s.log.InfoContext(ctx, "Sealed anew what was under an older key-encryption key", "kek", kek, "rows", done)
	}
	if !s.settled(kek, rotation) {
		return damaged // somebody may be sealing under the old one at this moment, or is about to write what he sealed
	}
	for _, number := range old {
		if err := s.retire(ctx, number); err != nil {
			return errors.Join(damaged, err)
		}
	}
	return damaged
}

// settled reports whether all replicas have been sealing with the KEK for as long as sealingSettles.
func (s *Server) settled(kek int, rotation store.Rotation) bool {
	if slices.ContainsFunc(rotation.Instances, func(i store.Instance) bool { return i.SealingKEK != kek }) {
		s.agreed = agreement{}
		return false
	}
	now := s.clock.Now()
	if s.agreed.kek != kek {
		s.agreed = agreement{kek, now}
	}
	return now.Sub(s.agreed.since) >= sealingSettles
}

func (s *Server) retire(ctx context.Context, kek int) error {
	inUse, err := s.store.SealedUnder(ctx, kek)
	if err != nil || inUse {
		return err
	}
	if err := s.store.RetireKEK(ctx, kek, s.clock.Now()); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "Nothing is sealed under this key-encryption key any more; it may be taken away", "kek", kek)
	return nil
}

// countWebhookKeys shows which webhook keys are still needed.
func (s *Server) countWebhookKeys(ctx context.Context) error {
	inUse, err := s.store.WebhookKeysInUse(ctx)
	if err != nil {
		return fmt.Errorf("finding out which webhook keys are needed: %w", err)
	}
	s.keyMetrics.inUse.Reset()
	for _, number := range config.Numbers(s.tenant.Load().Keys.Webhooks) {
		s.keyMetrics.inUse.WithLabelValues(strconv.Itoa(number)).Set(float64(inUse[number]))
	}
	return nil
}
