package snstest

import "time"

// Request is what a fault hook sees of a request.
type Request struct {
	// Number is the request's on the whole server, from 1.
	Number int
	// Action is what is asked for, e.g. Publish.
	Action string
}

// Fault is what the server does instead of judging a request. Hang and Cut count before the answer.
type Fault struct {
	// Status is the answer's, Code and Message Amazon's in it.
	Status        int
	Code, Message string
	// RetryAfter and Location are header fields, if not empty.
	RetryAfter time.Duration
	Location   string
	// Body replaces the error document, as a proxy in between might.
	Body string
	// Hang never answers.
	Hang bool
	// Cut ends the request without a word.
	Cut bool
}

// faults holds what tests have asked for.
type faults struct {
	hook func(Request) *Fault
	next []Fault
}

// OnRequest has hook decide for every request whether it fails; nil lets it pass. It is called from many goroutines.
func (s *Server) OnRequest(hook func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.hook = hook
}

// FailNext lets the next n requests fail with f.
func (s *Server) FailNext(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.faults.next = append(s.faults.next, f)
	}
}

// faultFor returns the fault for a request, or nil.
func (s *Server) faultFor(r Request) *Fault {
	s.mu.Lock()
	hook := s.faults.hook
	var f *Fault
	if next := s.faults.next; len(next) > 0 {
		f, s.faults.next = &next[0], next[1:]
	}
	s.mu.Unlock()
	if f != nil || hook == nil {
		return f
	}
	return hook(r)
}
