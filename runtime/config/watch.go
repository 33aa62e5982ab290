package config

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/utils/clock"
)

// PollInterval is how often the files are read even if nothing seems to have changed: some file systems report no
// changes, links may lead to folders that are not watched, and a node can run out of inotify instances. Kubelet itself
// takes up to 90 s, so nobody waits for these 10.
const PollInterval = 10 * time.Second

// ErrTenantChanged says that a changed configuration belongs to another tenant.
var ErrTenantChanged = errors.New("the configuration is of another tenant")

// Options are what NewSource may be told; the zero value is right for production.
type Options struct {
	// Clock is for tests.
	Clock clock.WithTickerAndDelayedExecution
	// Interval replaces PollInterval.
	Interval time.Duration
	// OnError is told why a changed configuration is not taken, once for each reason in turn, and that changes cannot
	// be watched. It is called by whoever calls Reload and must not call it.
	OnError func(error)
	// Accept has the last word on a changed configuration that is valid by itself: its error refuses it, as if the files
	// were invalid, until they change again or it accepts them. What it accepts is in force from then on. It is called by
	// whoever calls Reload and must not call it.
	Accept func(*Loaded) error
}

// Source is the configuration in force. It follows the files: a valid change replaces it, an invalid one leaves it as
// it is.
type Source struct {
	path    string
	options Options
	current atomic.Pointer[Loaded]
	valid   atomic.Bool

	// mu is held during a reload, which makes subscribers see changes one by one and in order.
	mu          sync.Mutex
	subscribers []func(*Loaded)
	// reported is the text of the error that OnError was told last, empty after a success.
	reported string
}

// NewSource loads the configuration at path, which must be valid, see Load.
func NewSource(path string, options Options) (*Source, error) {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Interval == 0 {
		options.Interval = PollInterval
	}
	if options.OnError == nil {
		options.OnError = func(error) {}
	}
	loaded, err := Load(path)
	if err != nil {
		return nil, err
	}
	s := &Source{path: path, options: options}
	s.current.Store(loaded)
	s.valid.Store(true)
	return s, nil
}

// Current returns the configuration in force.
func (s *Source) Current() *Loaded { return s.current.Load() }

// Valid reports whether the files are valid as they were read last, so that the configuration in force is what they
// say. It is what the metric ens_config_valid shows.
func (s *Source) Valid() bool { return s.valid.Load() }

// Subscribe has f called with every configuration that comes into force from now on, in order, by whoever reloads:
// f should be quick and must not call Reload or Subscribe. Who subscribes before asking for Current misses nothing.
func (s *Source) Subscribe(f func(*Loaded)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers = append(s.subscribers, f)
}

// Reload reads the files and, if they are valid and differ, puts them in force and tells the subscribers. An error
// means that the last good configuration stays in force.
//
// The listeners' addresses are among what may change; a runtime that listens already goes on as it is until it is
// restarted.
func (s *Source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	loaded, err := Load(s.path)
	current := s.current.Load()
	if err == nil && loaded.Config.Tenant.ID != current.Config.Tenant.ID {
		err = fmt.Errorf("%s: %w: tenant.id changed from %q to %q, and a runtime serves one tenant for life",
			s.path, ErrTenantChanged, current.Config.Tenant.ID, loaded.Config.Tenant.ID)
	}
	changed := err == nil && loaded.digest != current.digest
	if changed && s.options.Accept != nil {
		if err = s.options.Accept(loaded); err != nil {
			err = fmt.Errorf("%s: %w", s.path, err)
		}
	}
	s.valid.Store(err == nil)
	if err != nil {
		// Every poll finds a lasting fault again; saying it once is enough.
		if s.reported != err.Error() {
			s.reported = err.Error()
			s.options.OnError(fmt.Errorf("the last good configuration stays in force: %w", err))
		}
		return err
	}
	s.reported = ""
	if !changed {
		return nil
	}
	s.current.Store(loaded)
	for _, subscriber := range s.subscribers {
		subscriber(loaded)
	}
	return nil
}

// Run reloads the configuration whenever the files change, until ctx ends, which is not an error.
func (s *Source) Run(ctx context.Context) error {
	ticker := s.options.Clock.NewTicker(s.options.Interval)
	defer ticker.Stop()
	var events <-chan fsnotify.Event // nil, so never ready, if there is no watcher
	var overflows <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		s.options.OnError(fmt.Errorf("watching the configuration failed, it is read every %s instead: %w", s.options.Interval, err))
	} else {
		defer func() { _ = watcher.Close() }() // what it would report concerns nobody any more
		events, overflows = watcher.Events, watcher.Errors
	}
	for {
		// Watching comes first, so that a change cannot fall between reading and watching.
		s.watch(watcher)
		_ = s.Reload() // OnError was told
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case err := <-overflows: // reading finds what the lost events were about
			s.options.OnError(fmt.Errorf("watching the configuration: %w", err))
		case <-events:
			drain(events)
		}
	}
}

// watch adds the folders of the configuration in force. What cannot be watched is found by polling. Folders that are
// gone fall out by themselves.
func (s *Source) watch(watcher *fsnotify.Watcher) {
	if watcher == nil {
		return
	}
	watched := watcher.WatchList()
	for _, folder := range append([]string{filepath.Dir(s.path)}, s.Current().folders...) {
		if !slices.Contains(watched, folder) {
			_ = watcher.Add(folder)
		}
	}
}

// drain takes the events that are there already: one change of a file comes as several.
func drain(events <-chan fsnotify.Event) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}
