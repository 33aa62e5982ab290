package callback

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count how far posts and notifications get.
type Metrics struct {
	answers    *prometheus.CounterVec
	faults     prometheus.Counter
	journalled prometheus.Counter
	fetched    *prometheus.CounterVec
	pushed     *prometheus.CounterVec
	finished   *prometheus.CounterVec
	dropped    prometheus.Counter
	refused    prometheus.Counter
	withheld   prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ens_callback_answers_total", Help: "Answers to Exchange's posts.",
		}, []string{"answer"}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ens_callback_faults_total",
			Help: "Posts refused because a key is missing or wrong here. Not 0: restore the tenant's keys.",
		}),
		journalled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ens_journal_written_total", Help: "Intents written to the journal, repeats included.",
		}),
		fetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ens_mail_fetches_total", Help: "Fetches from Exchange, by outcome.",
		}, []string{"outcome"}),
		pushed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ens_pushes_total", Help: "Pushes, by provider and outcome.",
		}, []string{"provider", "outcome"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ens_journal_finished_total", Help: "Journal rows finished, by kind.",
		}, []string{"kind"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ens_notifications_dropped_total", Help: "Notifications given up after a day or ten tries.",
		}),
	}
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ens_credentials_refused_total", Help: "Credentials that count as refused by Exchange from now on.",
	})
	m.withheld = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ens_notifications_withheld_total", Help: "Notifications that the secure email gateway did not permit for a device.",
	})
	registry.MustRegister(m.answers, m.faults, m.journalled, m.fetched, m.pushed, m.finished, m.dropped, m.refused, m.withheld)
	return m
}

func (m *Metrics) answered(answer string) {
	m.answers.WithLabelValues(strings.ReplaceAll(strings.ToLower(answer), " ", "_")).Inc()
}
