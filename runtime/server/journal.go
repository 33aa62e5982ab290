package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// journalMetrics say what the tenant's phones are owed at the moment, whichever replica owes it.
type journalMetrics struct{ owed, oldest prometheus.Gauge }

func newJournalMetrics(registry prometheus.Registerer) *journalMetrics {
	m := &journalMetrics{
		owed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ens_journal_owed", Help: "Rows of the tenant's journal that are not done, looked up once a minute by each replica.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ens_journal_oldest_owed_seconds", Help: "Age of the oldest row of the tenant's journal that is not done, 0 if there is none.",
		}),
	}
	registry.MustRegister(m.owed, m.oldest)
	return m
}

// measureJournal looks up what is owed.
func (s *Server) measureJournal(ctx context.Context) error {
	owed, since, err := s.store.Owed(ctx)
	if err != nil {
		return err
	}
	s.journalMetrics.owed.Set(float64(owed))
	s.journalMetrics.oldest.Set(0)
	if owed > 0 {
		s.journalMetrics.oldest.Set(s.clock.Since(since).Seconds())
	}
	return nil
}
