// Package journal is what the fakes of this tree record of their traffic.
package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Journal keeps what happened, and lets tests wait for it instead of sleeping. The zero value is empty.
type Journal[T any] struct {
	mu      sync.Mutex
	entries []T
	changed chan struct{} // closed at the next entry
}

// Add adds an entry.
func (j *Journal[T]) Add(entry T) { j.AddNumbered(entry, func(*T, int) {}) }

// AddNumbered adds an entry and tells number the entry's place, counted from 1, before anybody sees it.
func (j *Journal[T]) AddNumbered(entry T, number func(*T, int)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	number(&entry, len(j.entries)+1)
	j.entries = append(j.entries, entry)
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// All returns the entries so far.
func (j *Journal[T]) All() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// From returns the entries from number on and a channel that is closed when there are more.
func (j *Journal[T]) From(number int) ([]T, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return slices.Clone(j.entries[number:]), j.changed
}

// Wait returns the first entry that matches, past or future. The error says what was waited for.
func (j *Journal[T]) Wait(ctx context.Context, what string, match func(T) bool) (T, error) {
	for seen := 0; ; {
		entries, changed := j.From(seen)
		for _, entry := range entries {
			if match(entry) {
				return entry, nil
			}
		}
		seen += len(entries)
		select {
		case <-changed:
		case <-ctx.Done():
			var none T
			return none, fmt.Errorf("waiting for a %s, %d seen: %w", what, seen, ctx.Err())
		}
	}
}
