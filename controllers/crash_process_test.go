package controllers_test

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// errCrashed is all that a process hears that a fuse has ended.
var errCrashed = errors.New("the process has crashed")

// verdict is what becomes of a change that a process wants to make.
type verdict int

const (
	// passes is for a change that is made as usual.
	passes verdict = iota
	// loses is for one that is made, and whose answer is lost on the way back.
	loses
	// refuses is for one that is not made, because the process has died just before.
	refuses
)

// manner is what happens at the change after the last one that a fuse lets through.
type manner int

const (
	// never lets everything through.
	never manner = iota
	// dies ends the process: nothing comes through any more, neither changes nor questions.
	dies
	// stumbles loses the answer to one change; the process lives on.
	stumbles
)

// A fuse counts a process's changes, those of the API server's objects and those of the database together, in the order in
// which they leave, and does something at one of them. What is changed in a transaction counts once, when it is committed.
type fuse struct {
	how   manner
	after int

	mutex   sync.Mutex
	changes []string
	dead    bool
}

// change asks what becomes of the next change.
func (f *fuse) change(what string) verdict {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.dead {
		return refuses
	}
	if f.how == dies && len(f.changes) == f.after {
		f.dead = true
		return refuses
	}
	f.changes = append(f.changes, what)
	if f.how == stumbles && len(f.changes) == f.after+1 {
		return loses
	}
	return passes
}

func (f *fuse) alive() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return !f.dead
}

// made are the changes so far.
func (f *fuse) made() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return append([]string(nil), f.changes...)
}

// hit reports whether the fuse has done what it is there for.
func (f *fuse) hit() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.dead || f.how == stumbles && len(f.changes) > f.after
}

// wrap counts what changes something at the API server.
func (f *fuse) wrap(next http.RoundTripper) http.RoundTripper {
	drop := func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errCrashed
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			if !f.alive() {
				return drop(r)
			}
			return next.RoundTrip(r)
		}
		switch f.change(r.Method + " " + r.URL.Path) {
		case refuses:
			return drop(r)
		case loses:
			answer, err := next.RoundTrip(r)
			if err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			return nil, errCrashed
		}
		return next.RoundTrip(r)
	})
}
