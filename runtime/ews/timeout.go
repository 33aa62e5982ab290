package ews

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// withTimeout returns a context that ends after the endpoint's time-out on the client's clock. The time-out covers the
// wait for a slot, the connection, and the whole answer.
func (c *Client) withTimeout(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	timeout := c.options.Endpoint.Timeout()
	timer := c.options.Clock.AfterFunc(timeout, func() { cancel(timeoutError{timeout}) })
	return ctx, func() {
		timer.Stop()
		cancel(context.Canceled)
	}
}

// timeoutError is the end of the endpoint's time-out.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string {
	return fmt.Sprintf("%v: no answer within %s; is the server overloaded, or does a firewall drop the packets?", ErrTimeout, e.after)
}

// Is makes it an ErrTimeout.
func (e timeoutError) Is(target error) bool { return target == ErrTimeout }

// cause finds out what really ended a request: its time-out, the caller, a certificate, or the network.
func (c *Client) cause(ctx context.Context, err error) error {
	if timeout, ok := errors.AsType[timeoutError](context.Cause(ctx)); ok {
		return timeout
	}
	if ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
		}
		return ctx.Err()
	}
	// The standard library puts the whole URL into its errors.
	if withURL, ok := errors.AsType[*url.Error](err); ok {
		err = withURL.Err
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return certificateCause(err)
}
