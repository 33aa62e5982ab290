package breaker

import (
	"errors"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// reasonSilent is why a provider is failing that answers nothing.
const reasonSilent = "NoAnswer"

// Standing tells how the provider fares.
func (b *Breaker) Standing() standing.Report { return b.record.Report(b.name, b.clock.Now()) }

// Inherit goes on with what another breaker knows, for the same provider with the same credential. It must be called before
// the first Push.
func (b *Breaker) Inherit(old *Breaker) { b.record = old.record }

// note takes down what the end of a push says of the provider. That it is left alone is taken down when that begins.
func (b *Breaker) note(now time.Time, err error) {
	if err == nil {
		b.record.Accepted(now)
		return
	}
	if refusal, ok := errors.AsType[*push.Error](err); ok && refusal.Lasting {
		b.record.Wrong(now, standing.Refused, refusal.Reason)
	}
}

// noteFailing takes down that the provider is left alone because of err.
func (b *Breaker) noteFailing(now time.Time, err error) {
	reason := reasonSilent
	if refusal, ok := errors.AsType[*push.Error](err); ok && refusal.Reason != "" {
		reason = refusal.Reason
	}
	b.record.Wrong(now, standing.Failing, reason)
}
