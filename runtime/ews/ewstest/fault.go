package ewstest

import (
	"net/http"
	"strconv"
	"time"
)

// Fault is what the server does wrong with one request. The zero Fault is none. Several may be combined: first the
// waits, then one of Status, Code, Garbage and Body instead of the work, or LoseAnswer or CutAnswer after it.
type Fault struct {
	// Wait holds the request until the channel is closed or the client has gone.
	Wait <-chan struct{}
	// Delay holds the request for a time on the server's clock (compressed).
	Delay time.Duration
	// Status is answered with an HTML page, e.g. 401, 403, 404, 302 or 503.
	Status int
	// Location is the target of a redirect.
	Location string
	// RetryAfter is sent with Status if it is not zero.
	RetryAfter time.Duration
	// Code is answered as a SOAP fault, e.g. ErrorServerBusy.
	Code string
	// BackOff is the fault's BackOffMilliseconds.
	BackOff time.Duration
	// Garbage answers 200 with something that is not SOAP.
	Garbage bool
	// Body answers 200 with this for the SOAP.
	Body string
	// LoseAnswer does the work and cuts the connection.
	LoseAnswer bool
	// CutAnswer cuts the connection in the middle of the answer.
	CutAnswer bool
	// Close closes the connection after the answer, as IIS does when it is restarted.
	Close bool
}

// OnRequest makes hook decide about every request from now on; nil stops it. operation is e.g. Subscribe, user the
// address of the mailbox whose credential was presented. hook may be called concurrently.
func (s *Server) OnRequest(hook func(operation, user string) Fault) {
	if hook == nil {
		s.hook.Store(nil)
		return
	}
	s.hook.Store(&hook)
}

// LoseReplies treats the next n replies to posts as if they had not arrived: the post counts as failed and is repeated.
func (s *Server) LoseReplies(n int) { s.loseReplies.Store(int64(n)) }

// replyLost uses up one of LoseReplies.
func (s *Server) replyLost() bool {
	for {
		left := s.loseReplies.Load()
		if left <= 0 {
			return false
		}
		if s.loseReplies.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// hold waits as the fault says and reports whether the client is still there.
func (s *Server) hold(fault Fault, r *http.Request) bool {
	if fault.Wait != nil {
		select {
		case <-fault.Wait:
		case <-r.Context().Done():
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	if fault.Delay > 0 {
		timer := s.options.Clock.NewTimer(s.scaled(fault.Delay))
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-r.Context().Done():
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

// answer returns the answer that takes the place of the work, or nil.
func (f Fault) answer() *answer {
	switch {
	case f.Status != 0:
		a := page(f.Status)
		if f.Location != "" {
			a.header.Set("Location", f.Location)
		}
		if f.RetryAfter > 0 {
			a.header.Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
		}
		return a
	case f.Code != "":
		return soapFault(f.Code, "The request could not be served.", backOffXML(f.BackOff))
	case f.Garbage:
		a := page(http.StatusOK)
		a.code = "garbage"
		return a
	case f.Body != "":
		a := page(http.StatusOK)
		a.code, a.html = "garbage", f.Body
		a.header.Set("Content-Type", "text/xml; charset=utf-8")
		return a
	}
	return nil
}
