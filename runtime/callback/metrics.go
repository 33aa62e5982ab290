package callback

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ens-operator/ens-operator/runtime/store"
)

// Metrics count how far posts and notifications get. What begins is counted apart from how it ends, so that the sums must
// balance (docs/metrics.md): what is missing is under way, or lost.
type Metrics struct {
	received, faults           prometheus.Counter
	answers                    *prometheus.CounterVec
	intents, claimed, released *prometheus.CounterVec
	fetched                    *prometheus.CounterVec
	pushing, pushed            *prometheus.CounterVec
	refused, withheld          prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		registry.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	return &Metrics{
		received: counter("ens_callbacks_received_total", "Posts of Exchange that were begun."),
		answers:  counters("ens_callback_answers_total", "Answers to Exchange's posts.", "answer"),
		faults: counter("ens_callback_faults_total",
			"Posts refused because a key is missing or wrong here. Not 0: restore the tenant's keys."),
		intents: counters("ens_journal_intents_total",
			"What posts meant for the phones: claimed to be worked on, or a repeat of what is known.", "result"),
		claimed:  counters("ens_journal_claimed_total", "Journal rows taken up, by kind and by what brought them up.", "kind", "source"),
		released: counters("ens_journal_released_total", "Journal rows let go, by kind and by how the work on them ended.", "kind", "outcome"),
		fetched:  counters("ens_mail_fetches_total", "Fetches from Exchange, by outcome.", "outcome"),
		pushing:  counters("ens_pushes_begun_total", "Pushes that were begun, by provider.", "provider"),
		pushed:   counters("ens_pushes_total", "Pushes, by provider and outcome.", "provider", "outcome"),
		refused:  counter("ens_credentials_refused_total", "Credentials that count as refused by Exchange from now on."),
		withheld: counter("ens_notifications_withheld_total",
			"Notifications that the secure email gateway did not permit for a device."),
	}
}

func (m *Metrics) answered(answer string) {
	m.answers.WithLabelValues(strings.ReplaceAll(strings.ToLower(answer), " ", "_")).Inc()
}

// intend counts what a post meant, and how much of it is ours to work on.
func (m *Metrics) intend(intents, claimed int) {
	m.intents.WithLabelValues("claimed").Add(float64(claimed))
	m.intents.WithLabelValues("repeat").Add(float64(intents - claimed))
}

// leave counts what an outdated subscription told of and is left to the current one's next post.
func (m *Metrics) leave(intents int) { m.intents.WithLabelValues("left").Add(float64(intents)) }

// source is what brought a row of the journal up.
type source string

const (
	fromPost    source = "post"
	fromJournal source = "journal"
	fromNudge   source = "nudge"
	fromGap     source = "gap"
	fromDoubt   source = "doubt"
	fromUntold  source = "untold"
)

func (m *Metrics) claim(claims []store.Claim, from source) {
	for _, claim := range claims {
		m.claimed.WithLabelValues(claim.Kind.String(), string(from)).Inc()
	}
}

// release counts how claims ended. If the journal did not take that, they are taken up again when their lease ends.
func (m *Metrics) release(ended []outcome, err error) {
	for _, o := range ended {
		how := o.end.String()
		if err != nil {
			how = "unrecorded"
		}
		m.released.WithLabelValues(o.claim.Kind.String(), how).Inc()
	}
}
