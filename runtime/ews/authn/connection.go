package authn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// maxDrainBytes is what is read of an answer that is not used, so that its connection can be used again. IIS's pages
// have at most 6 kB.
const maxDrainBytes = 64 << 10

// errConnectionGone says that a request which belongs on a certain connection did not find it any more. Nothing of the
// request was sent.
var errConnectionGone = errors.New("the connection is gone")

// ownConnection is a transport for one user with at most one connection, for schemes that authenticate the connection.
type ownConnection struct {
	transport *http.Transport
	// held forbids to dial: what is sent belongs on the connection that is there.
	held atomic.Bool
	// authenticated says that the connection has been through an NTLM handshake: the server knows whose it is.
	authenticated bool
}

// newOwnConnection verifies servers and presents certificates as config says.
func newOwnConnection(o Options, config *tls.Config) *ownConnection {
	own := new(ownConnection)
	dial := o.DialContext
	o.TLS = config
	o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if own.held.Load() {
			return nil, errConnectionGone
		}
		return dial(ctx, network, address)
	}
	own.transport = newTransport(o)
	own.transport.MaxConnsPerHost = 1
	own.transport.MaxIdleConnsPerHost = 1
	return own
}

// stay sends a request on the connection that is there, or fails with errConnectionGone. The answer before it must have
// been read to its end, which is when net/http takes the connection back.
func (o *ownConnection) stay(request *http.Request) (*http.Response, error) {
	o.held.Store(true)
	defer o.held.Store(false)
	return o.transport.RoundTrip(request)
}

// leave gives the connection up: the next request opens a fresh one.
func (o *ownConnection) leave() {
	o.authenticated = false
	o.transport.CloseIdleConnections()
}

// errOnce says that a request's body cannot be sent again.
var errOnce = errors.New("a body that can be sent only once")

// repeatable is a request that can be sent as often as a handshake needs.
type repeatable struct{ request *http.Request }

// newRepeatable closes the request's body, as an http.RoundTripper has to. The body is one that http.NewRequest knows how to get
// again: the bytes of a message.
func newRepeatable(request *http.Request) (repeatable, error) {
	if request.Body == nil {
		return repeatable{request}, nil
	}
	if request.GetBody == nil {
		return repeatable{}, errors.Join(errOnce, request.Body.Close())
	}
	return repeatable{request}, request.Body.Close()
}

// with is the request with an Authorization header, or without one if it is empty.
func (r repeatable) with(authorization string) *http.Request {
	request := r.empty(authorization)
	if r.request.GetBody != nil {
		request.ContentLength, request.GetBody = r.request.ContentLength, r.request.GetBody
		request.Body, _ = request.GetBody() // it is in memory, and so never fails
	}
	return request
}

// empty is the same without a body.
func (r repeatable) empty(authorization string) *http.Request {
	request := r.request.Clone(r.request.Context())
	request.Body, request.GetBody, request.ContentLength = nil, nil, 0
	request.Header.Del("Authorization")
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	return request
}

// drain reads an answer that is not used to its end, so that its connection can be used again.
func drain(response *http.Response) error {
	defer response.Body.Close()
	n, err := io.CopyN(io.Discard, response.Body, maxDrainBytes+1)
	if err == nil {
		return fmt.Errorf("an answer of more than %d bytes", n-1)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
