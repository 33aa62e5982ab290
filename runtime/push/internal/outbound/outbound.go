// Package outbound makes the HTTP connections to push services that answer each request on its own, and bounds their
// answers.
package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	// AnswerTimeout is how long a service may take at most to answer one request.
	AnswerTimeout = 8 * time.Second
	// maxAnswer is far above the answers of push services, which are below 2 KB.
	maxAnswer        = 64 << 10
	maxAnswerHeaders = 64 << 10
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 5 * time.Second
	// idlePing is how often an idle connection is probed, pingTimeout how long the answer may take.
	idlePing    = 30 * time.Second
	pingTimeout = 10 * time.Second
	idleTimeout = 5 * time.Minute
)

// ErrNoAnswer ends a request that the service does not answer.
var ErrNoAnswer = errors.New("the push service did not answer in time")

// NewTransport returns a transport that makes its connections as effective settings say and verifies servers as
// verification says. The environment has no say in where notifications go, so no proxy is taken from it.
//
// As many connections are kept as there may be pushes at once: with a service that speaks HTTP/1.1 alone each push takes
// one, and to make it anew costs as much as the push.
func NewTransport(s push.Settings, verification *tls.Config) *http.Transport {
	dial := s.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialContext:            Gather(dial, AnswerTimeout),
		TLSClientConfig:        verification,
		TLSHandshakeTimeout:    handshakeTimeout,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: idlePing, PingTimeout: pingTimeout},
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           s.MaxConcurrent,
		MaxIdleConnsPerHost:    s.MaxConcurrent,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		DisableCompression:     true,
	}
}

// Bounded is an http.RoundTripper that gives up on an answer which does not come in time, and reads the whole of one
// that does, as far as a push service's can reach.
type Bounded struct {
	Base http.RoundTripper
	// Patience is how long an answer may take. It should leave time for another try.
	Patience time.Duration
}

// RoundTrip implements http.RoundTripper. The answer's body is in memory.
func (b *Bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(request.Context(), b.Patience, ErrNoAnswer)
	defer cancel()
	response, err := b.Base.RoundTrip(request.WithContext(ctx))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		_ = response.Body.Close()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("talk to the push service: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// KeepRedirect is an http.Client's CheckRedirect that makes a redirect the answer: a credential never follows one.
func KeepRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
