package ewstest

import "context"

// Request is a request that was answered (or cut off).
type Request struct {
	// Number counts the requests from 1.
	Number int
	// Operation is the body's element, e.g. Subscribe; empty if it could not be read.
	Operation string
	// User is the address of the mailbox whose request it is taken for: the one that an NTLM handshake has bound the
	// connection to, else the one whose credential was presented, right or wrong; empty if unknown.
	User string
	// Fields are the properties that a GetItem, FindItem or GetFolder asks for, e.g. item:Subject, and its base shape if
	// that is more than IdOnly.
	Fields []string
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
func (s *Server) Requests() []Request { return s.requestLog.All() }

// WaitRequest returns the first request, past or future, that matches.
func (s *Server) WaitRequest(ctx context.Context, match func(Request) bool) (Request, error) {
	return s.requestLog.Wait(ctx, "request", match)
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
func (s *Server) Callbacks() []Callback { return s.callbackLog.All() }

// WaitCallback returns the first post, past or future, that matches. When it is returned, the timers that follow from it
// are set and an ended subscription is marked.
func (s *Server) WaitCallback(ctx context.Context, match func(Callback) bool) (Callback, error) {
	return s.callbackLog.Wait(ctx, "callback", match)
}
