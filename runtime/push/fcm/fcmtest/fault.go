package fcmtest

import "time"

// Request is what a fault hook sees of a message.
type Request struct {
	// Number is the message's on the whole server, from 1.
	Number int
}

// Fault is what the server does instead of judging a message. Hang, Cut and LoseAnswer count before the answer.
type Fault struct {
	// Status is the answer's, Canonical Google's status word and Code FCM's errorCode in it.
	Status          int
	Canonical, Code string
	// RetryAfter and Location are header fields, if not empty.
	RetryAfter time.Duration
	Location   string
	// Body replaces the error document, as a proxy in between might.
	Body string
	// Hang never answers.
	Hang bool
	// Cut ends the request without a word.
	Cut bool
	// LoseAnswer delivers the message and ends the request without a word.
	LoseAnswer bool
}

// faults holds what tests have asked for.
type faults struct {
	hook   func(Request) *Fault
	next   []Fault
	logins []Fault
}

// OnMessage has hook decide for every message whether it fails; nil lets it pass. It is called from many goroutines.
func (s *Server) OnMessage(hook func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.hook = hook
}

// FailNext lets the next n messages fail with f.
func (s *Server) FailNext(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.faults.next = append(s.faults.next, f)
	}
}

// FailNextLogins lets the next n requests for an access token fail with f; it replaces what was asked for before.
func (s *Server) FailNextLogins(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.logins = nil
	for range n {
		s.faults.logins = append(s.faults.logins, f)
	}
}

// faultFor returns the fault for a message, or nil.
func (s *Server) faultFor(r Request) *Fault {
	s.mu.Lock()
	hook := s.faults.hook
	f := take(&s.faults.next)
	s.mu.Unlock()
	if f != nil || hook == nil {
		return f
	}
	return hook(r)
}

// nextLoginFault counts a request for an access token and returns its fault, or nil.
func (s *Server) nextLoginFault() *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.LoginRequests++
	return take(&s.faults.logins)
}

// take removes and returns the first fault, or nil.
func take(queue *[]Fault) *Fault {
	if len(*queue) == 0 {
		return nil
	}
	f := (*queue)[0]
	*queue = (*queue)[1:]
	return &f
}
