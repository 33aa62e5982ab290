package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

const (
	// answerTimeout is how long Apple may take at most to answer one request; it normally takes 40 to 100 ms. A
	// connection that is silent for longer is taken for dead.
	answerTimeout = 8 * time.Second
	// idlePing is how often an idle connection is probed, pingTimeout how long the answer may take. Apple asks for
	// PING frames and closes connections that idle for an hour.
	idlePing    = time.Minute
	pingTimeout = 10 * time.Second
	idleTimeout = time.Hour
	// maxAnswer is far above Apple's answers, which are below 100 bytes.
	maxAnswer        = 16 << 10
	maxAnswerHeaders = 16 << 10
	handshakeTimeout = 5 * time.Second
)

// errNoAnswer ends a request that Apple does not answer.
var errNoAnswer = errors.New("APNs did not answer in time")

// attempt is what one request adds to the answer that apns2 gives. It travels in the request's context.
type attempt struct {
	// bearer is the provider token that was sent.
	bearer string
	// retryAfter is what the answer asked for, 0 if nothing.
	retryAfter time.Duration
	// timestamp is when the token died, in Apple's full precision.
	timestamp time.Time
}

type attemptKey struct{}

// transport is the http.RoundTripper under apns2. It authenticates, waits for a stream, bounds the answer, and puts
// right what apns2 would lose: the status of answers that are not JSON, Retry-After, and apns-expiration 0.
type transport struct {
	pool *pool
	// authenticate returns the provider token to send, if one is to be sent.
	authenticate func() (string, error)
	// patience is how long an answer may take. It leaves time for another try on another connection.
	patience time.Duration
}

// dialer returns how connections to address are made. Certificate is shown to the server; nil for none.
func dialer(address string, o Options, certificate *tls.Certificate) func(context.Context) (*http.ClientConn, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	verification := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	if certificate != nil {
		verification.GetClientCertificate = present(certificate)
	}
	shared := &http.Transport{
		// No Proxy: the environment has no say in where notifications go.
		DialContext:            outbound.Gather(dial, answerTimeout),
		TLSClientConfig:        verification,
		TLSHandshakeTimeout:    handshakeTimeout,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: idlePing, PingTimeout: pingTimeout},
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		DisableCompression:     true,
	}
	return func(ctx context.Context) (*http.ClientConn, error) {
		return shared.NewClientConn(ctx, "https", address)
	}
}

// RoundTrip implements http.RoundTripper. The answer's body is in memory and is always JSON.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	details, _ := request.Context().Value(attemptKey{}).(*attempt)
	if details == nil {
		details = new(attempt)
	}
	bearer, err := t.authenticate()
	if err != nil {
		closeBody(request)
		return nil, err
	}
	details.bearer = bearer
	conn, err := t.pool.acquire(request.Context())
	if err != nil {
		closeBody(request)
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(request.Context(), t.patience, errNoAnswer)
	defer cancel()
	outgoing := request.Clone(ctx)
	if bearer != "" {
		outgoing.Header.Set("Authorization", "bearer "+bearer)
	}
	if outgoing.Header.Get("Apns-Expiration") == "" {
		// apns2 cannot say 0, and without the header Apple stores the notification for 30 days.
		outgoing.Header.Set("Apns-Expiration", "0")
	}
	response, how, err := exchange(ctx, conn, outgoing, details)
	t.pool.release(conn, how)
	return response, err
}

// exchange makes the request, reads the whole answer, and tells what it says about the connection.
func exchange(ctx context.Context, conn *connection, request *http.Request, details *attempt) (*http.Response, use, error) {
	response, err := conn.cc.RoundTrip(request)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		_ = response.Body.Close()
	}
	if err != nil {
		return nil, blame(ctx, err), explain(ctx, err)
	}
	reason := normalise(response, body, details)
	details.retryAfter = push.RetryAfter(response.Header, time.Now())
	switch {
	case response.StatusCode == http.StatusOK:
		return response, accepted, nil
	case breaksConnection(response.StatusCode, reason):
		return response, broken, nil
	default:
		return response, answered, nil
	}
}

// normalise replaces the body by one that apns2 can read, whatever the server or a proxy before it has answered, and
// returns the reason in it.
func normalise(response *http.Response, body []byte, details *attempt) string {
	if response.StatusCode == http.StatusOK && len(body) == 0 { // the push was accepted
		response.Body = io.NopCloser(strings.NewReader("{}"))
		return ""
	}
	var answer struct {
		Reason    string `json:"reason,omitempty"`
		Timestamp int64  `json:"timestamp,omitempty"`
	}
	if json.Unmarshal(body, &answer) != nil || !isWord(answer.Reason) {
		answer.Reason = ""
	}
	if answer.Timestamp > 0 {
		details.timestamp = time.UnixMilli(answer.Timestamp)
	}
	// A struct of two plain fields always encodes.
	clean, _ := json.Marshal(answer)
	response.Body = io.NopCloser(bytes.NewReader(clean))
	response.ContentLength = int64(len(clean))
	return answer.Reason
}

// isWord reports whether reason looks like one of Apple's: it goes into logs and metrics, so nothing else passes.
func isWord(reason string) bool {
	const longest = 64
	if len(reason) > longest {
		return false
	}
	for _, r := range reason {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// blame tells what a request without an answer says about the connection.
func blame(ctx context.Context, err error) use {
	if refused, ok := errors.AsType[http2.StreamError](err); ok && refused.Code == http2.ErrCodeRefusedStream {
		return crowded
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errNoAnswer) {
		// The push was called off, by its caller or its time limit.
		return answered
	}
	return broken
}

// explain names the cause if the request ended with its context.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("push over the APNs connection: %w", err)
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		_ = request.Body.Close()
	}
}
