package egress

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	// tunnelTimeout bounds the making of a tunnel: the connection to the proxy, and its own to the server.
	tunnelTimeout = 15 * time.Second
	// maxTunnelAnswer bounds the proxy's answer to CONNECT; the pages of those who refuse are not read.
	maxTunnelAnswer = 16 << 10
)

// DialFunc makes a connection to address (host:port) over network, as net.Dialer's DialContext does.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Proxy is an HTTP proxy that connections are tunnelled through (CONNECT, RFC 9110, section 9.3.6). What goes through a
// tunnel is TLS from end to end, so the proxy learns where a connection leads and nothing else.
type Proxy struct {
	// URL is http:// with host and port, e.g. http://proxy.example.com:3128.
	URL string
	// Username and Password sign in to the proxy (Basic), if they are not empty. The end of the line that editors put
	// there is no part of them.
	Username, Password secret.Value
}

// ProxyError says that the proxy did not let a connection through.
type ProxyError struct {
	// Status is the proxy's answer to CONNECT, 0 if it gave none that is HTTP.
	Status int
	// Target is the host:port that was asked for.
	Target string
}

// Error implements error.
func (e *ProxyError) Error() string {
	switch e.Status {
	case 0:
		return "the proxy does not speak HTTP: check its address and port"
	case http.StatusProxyAuthRequired:
		return "the proxy wants a user name and a password (Basic), or others than it was given: correct the proxy's credentials"
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return fmt.Sprintf("the proxy does not permit CONNECT to %s (status %d): have its administrator permit it", e.Target, e.Status)
	default:
		return fmt.Sprintf("the proxy answered CONNECT to %s with status %d", e.Target, e.Status)
	}
}

// Lasting reports whether somebody has to act before the proxy lets the connection through.
func (e *ProxyError) Lasting() bool {
	switch e.Status {
	case 0, http.StatusProxyAuthRequired, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusBadRequest:
		return true
	default:
		return false
	}
}

var errProxyURL = errors.New("the proxy's url must be http:// with host and port, and nothing else")

// Through returns how connections are made through the proxy, which itself is reached by dial. Dial sees the proxy's
// address alone; it is where that may be refused. A proxy that does not let a connection through gives a *ProxyError.
func (p Proxy) Through(dial DialFunc) (DialFunc, error) {
	address, err := url.Parse(p.URL)
	if err != nil || address.Scheme != "http" || address.Hostname() == "" || address.Port() == "" || address.User != nil ||
		address.RawQuery != "" || address.Fragment != "" || address.Path != "" && address.Path != "/" {
		return nil, errProxyURL
	}
	header := http.Header{}
	if user, password := line(p.Username), line(p.Password); len(user)+len(password) > 0 {
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString(bytes.Join([][]byte{user, password}, []byte(":"))))
	}
	return func(ctx context.Context, network, target string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, tunnelTimeout)
		defer cancel()
		conn, err := dial(ctx, network, address.Host)
		if err != nil {
			return nil, fmt.Errorf("connect to the proxy: %w", err)
		}
		if err := connect(ctx, conn, target, header); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}, nil
}

// connect asks the proxy at the other end of conn for a tunnel to target.
func connect(ctx context.Context, conn net.Conn, target string, header http.Header) error {
	// A deadline in the past ends reads and writes under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answer, early, err := exchangeConnect(conn, target, header)
	if !stop() || ctx.Err() != nil {
		return fmt.Errorf("wait for the proxy to make a tunnel: %w", context.Cause(ctx))
	}
	switch {
	case err != nil:
		return fmt.Errorf("ask the proxy for a tunnel: %w", err)
	case answer < http.StatusOK || answer >= http.StatusMultipleChoices:
		return &ProxyError{Status: answer, Target: target}
	case early:
		// A server of TLS waits for its client, so this is not what the server said.
		return &ProxyError{Target: target}
	}
	return nil
}

// exchangeConnect returns the status of the proxy's answer, and whether something came after it at once.
func exchangeConnect(conn net.Conn, target string, header http.Header) (status int, early bool, err error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: header}
	if err := request.Write(conn); err != nil {
		return 0, false, err
	}
	bounded := &io.LimitedReader{R: conn, N: maxTunnelAnswer}
	reader := bufio.NewReader(bounded)
	answer, err := http.ReadResponse(reader, request) //nolint:bodyclose // after success it is the tunnel, of a refusal it is not read
	if err != nil {
		if isNetwork(err) && bounded.N > 0 {
			return 0, false, err
		}
		return 0, false, nil // it is no HTTP, or more of it than can be meant
	}
	return answer.StatusCode, reader.Buffered() > 0, nil
}

// isNetwork reports whether an error is about the connection and not about what came over it.
func isNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// line is a secret without the end of its line.
func line(v secret.Value) []byte { return bytes.TrimRight(v.Reveal(), "\r\n") }
