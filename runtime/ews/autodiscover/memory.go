package autodiscover

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// maxRemembered bounds each memory. Tenants have a few domains; the rest are subdomains that somebody made up.
const maxRemembered = 1024

// memory keeps values for a while, at most maxRemembered of them. It is safe for concurrent use.
type memory[V any] struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	entries map[string]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newMemory[V any](c clock.PassiveClock) *memory[V] {
	return &memory[V]{clock: c, entries: make(map[string]remembered[V])}
}

func (m *memory[V]) get(key string) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	entry, ok := m.entries[key]
	if !ok || !m.clock.Now().Before(entry.until) {
		var none V
		return none, false
	}
	return entry.value, true
}

func (m *memory[V]) put(key string, value V, lifetime time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, replaced := m.entries[key]; !replaced && len(m.entries) >= maxRemembered {
		m.makeRoom()
	}
	m.entries[key] = remembered[V]{value: value, until: m.clock.Now().Add(lifetime)}
}

// makeRoom forgets what has expired, or else what would expire first.
func (m *memory[V]) makeRoom() {
	now := m.clock.Now()
	var first string
	for key, entry := range m.entries {
		if !now.Before(entry.until) {
			delete(m.entries, key)
		} else if first == "" || entry.until.Before(m.entries[first].until) {
			first = key
		}
	}
	if len(m.entries) >= maxRemembered {
		delete(m.entries, first)
	}
}
