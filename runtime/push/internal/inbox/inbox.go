// Package inbox keeps what the devices of a fake push service were sent, and lets tests wait for it.
package inbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// kept bounds what is kept of each device, so that a load test does not grow without end.
const kept = 1000

// Inbox holds the notifications of many devices by their tokens. The zero value is ready to use.
type Inbox[T any] struct {
	mu      sync.Mutex
	devices map[string]*device[T]
}

type device[T any] struct {
	items []T
	total int
	// changed is closed with the next arrival; nil if nobody waits.
	changed chan struct{}
}

// Add delivers item to a device.
func (b *Inbox[T]) Add(token string, item T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device(token)
	d.items = append(d.items, item)
	if len(d.items) > kept {
		d.items = slices.Delete(d.items, 0, 1)
	}
	d.total++
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// List returns what a device was sent, oldest first; of very many the last thousand.
func (b *Inbox[T]) List(token string) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.device(token).items)
}

// Wait returns like List as soon as the device was sent n notifications in all, or the context's error with what there
// is.
func (b *Inbox[T]) Wait(ctx context.Context, token string, n int) ([]T, error) {
	for {
		b.mu.Lock()
		d := b.device(token)
		items, total := slices.Clone(d.items), d.total
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed := d.changed
		b.mu.Unlock()
		if total >= n {
			return items, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return items, fmt.Errorf("wait for %d notifications, %d have come: %w", n, total, ctx.Err())
		}
	}
}

func (b *Inbox[T]) device(token string) *device[T] {
	if b.devices == nil {
		b.devices = make(map[string]*device[T])
	}
	d := b.devices[token]
	if d == nil {
		d = new(device[T])
		b.devices[token] = d
	}
	return d
}
