package ewstest

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// journal keeps what happened, and lets tests wait for it instead of sleeping. The zero value is empty.
type journal[T any] struct {
	mu      sync.Mutex
	entries []T
	changed chan struct{} // closed at the next entry
}

func (j *journal[T]) add(entry T) { j.addNumbered(entry, func(*T, int) {}) }

// addNumbered tells number the entry's place, counted from 1, before anybody sees it.
func (j *journal[T]) addNumbered(entry T, number func(*T, int)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	number(&entry, len(j.entries)+1)
	j.entries = append(j.entries, entry)
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

func (j *journal[T]) all() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// from returns the entries from number on and a channel that is closed when there are more.
func (j *journal[T]) from(number int) ([]T, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return slices.Clone(j.entries[number:]), j.changed
}

// wait returns the first entry that matches, past or future.
func (j *journal[T]) wait(ctx context.Context, what string, match func(T) bool) (T, error) {
	for seen := 0; ; {
		entries, changed := j.from(seen)
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

// Request is a request that was answered (or cut off).
type Request struct {
	// Number counts the requests from 1.
	Number int
	// Operation is the body's element, e.g. Subscribe; empty if it could not be read.
	Operation string
	// User is the address of the mailbox whose request it is taken for: the one that an NTLM handshake has bound the
	// connection to, else the one whose credential was presented, right or wrong; empty if unknown.
	User string
	// Presented is the address of the mailbox whose credential the request itself carries, empty if it carries none. If
	// it is there and not User, the client has mixed up two users.
	Presented string
	// Certificate is the address of the mailbox whose client certificate the connection was opened with.
	Certificate     string
	ClientRequestID string
	UserAgent       string
	// HadCookie says that the client sent a cookie, which would let users be mixed up.
	HadCookie bool
	// Status is the HTTP status, 0 if the connection was cut.
	Status int
	// Code is the response code of the fault or of the first response message.
	Code string
}

// Requests returns all requests so far.
func (s *Server) Requests() []Request { return s.requestLog.all() }

// WaitRequest returns the first request, past or future, that matches.
func (s *Server) WaitRequest(ctx context.Context, match func(Request) bool) (Request, error) {
	return s.requestLog.wait(ctx, "request", match)
}

// Callback is one post to a webhook and what came back.
type Callback struct {
	// Number counts the posts from 1.
	Number         int
	SubscriptionID string
	// Mailbox is the address of the subscription's mailbox.
	Mailbox string
	// Attempt is 1 for the first try of this post.
	Attempt int
	// Events are the names of its events, e.g. StatusEvent; none in an error post.
	Events []string
	// ItemIDs are the ids of the items that the events are about.
	ItemIDs []string
	// URL is the webhook's address. It holds the sealed credential: do not print it.
	URL string
	// Body is what was posted, for replays with Post.
	Body []byte
	// Status is the HTTP status of the reply, 0 if there was none.
	Status int
	// Reply is OK or Unsubscribe if the reply was valid.
	Reply string
	// Err is why the post counts as failed, nil if Reply is set.
	Err error
}

// Callbacks returns all posts so far.
func (s *Server) Callbacks() []Callback { return s.callbackLog.all() }

// WaitCallback returns the first post, past or future, that matches. When it is returned, the timers that follow from it
// are set and an ended subscription is marked.
func (s *Server) WaitCallback(ctx context.Context, match func(Callback) bool) (Callback, error) {
	return s.callbackLog.wait(ctx, "callback", match)
}
