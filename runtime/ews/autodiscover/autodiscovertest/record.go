package autodiscovertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Request is a request that arrived.
type Request struct {
	// Number counts the requests from 1.
	Number int
	// Host is the name that was asked for in the handshake, or with plain HTTP in the Host header.
	Host string
	// TLS says that it came over TLS.
	TLS bool
	// Form is the form that was asked for; empty if the path is that of none.
	Form         Form
	Method, Path string
	// Address is the e-mail address that was asked about; empty if there was none or it could not be read.
	Address string
	// HadCredential says that there was an Authorization header or a client certificate, right or wrong.
	HadCredential bool
	// User is the address of the user whose credential was right.
	User string
	// HadCookie says that the client sent a cookie, which would let users be mixed up.
	HadCookie       bool
	ClientRequestID string
	UserAgent       string
	// Status is the HTTP status of the answer.
	Status int
	// Problem is what the real service would not have taken; empty if the request was a good one.
	Problem string
}

// records keeps requests and dialled addresses, and lets tests wait for the former. The zero value is empty.
type records struct {
	mu       sync.Mutex
	requests []Request
	dials    []string
	changed  chan struct{} // closed at the next request
}

func (r *records) add(request Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	request.Number = len(r.requests) + 1
	r.requests = append(r.requests, request)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *records) from(number int) ([]Request, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return slices.Clone(r.requests[number:]), r.changed
}

// Requests returns all requests so far. A request is recorded before its answer is written.
func (s *Server) Requests() []Request {
	requests, _ := s.records.from(0)
	return requests
}

// WaitRequest returns the first request, past or future, that matches.
func (s *Server) WaitRequest(ctx context.Context, match func(Request) bool) (Request, error) {
	for seen := 0; ; {
		requests, changed := s.records.from(seen)
		for _, request := range requests {
			if match(request) {
				return request, nil
			}
		}
		seen += len(requests)
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("waiting for a request, %d seen: %w", seen, ctx.Err())
		}
	}
}

// Dials returns the addresses (host:port) that were dialled so far, also those that lead nowhere.
func (s *Server) Dials() []string {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	return slices.Clone(s.records.dials)
}

func (r *records) addDial(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials = append(r.dials, address)
}
