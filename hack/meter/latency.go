package meter

import (
	"slices"
	"sync"
	"time"
)

// Samples are durations of many goroutines. The zero value is ready to use.
type Samples struct {
	mu     sync.Mutex
	values []time.Duration
	sorted bool
}

// Add adds one.
func (s *Samples) Add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.sorted = append(s.values, d), false
}

// Count is how many there are.
func (s *Samples) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.values)
}

// Percentile is the smallest sample that p percent of all do not exceed; 0 if there is none.
func (s *Samples) Percentile(p float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.values) == 0 {
		return 0
	}
	if !s.sorted {
		slices.Sort(s.values)
		s.sorted = true
	}
	const hundred = 100
	rank := int(p / hundred * float64(len(s.values)))
	return s.values[min(rank, len(s.values)-1)]
}
