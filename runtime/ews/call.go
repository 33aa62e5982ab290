package ews

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/tracing"
)

const contentType = "text/xml; charset=utf-8"

const (
	// A GetItem answer is about 2 kB an item; this holds a thousand, decompressed.
	maxResponseBytes = 4 << 20
	// usualAnswer is what most answers are shorter than, and maxAnnounced how much memory one is given because it says so.
	usualAnswer  = 2 << 10
	maxAnnounced = 64 << 10
	// What is read of an answer that is not used, so that its connection can be used again.
	maxDrainBytes = 64 << 10
	// Longer waits are not believed; Exchange's own are at most about five minutes (ews.md, section 1).
	maxBackOff = time.Hour
)

// envelope wraps the body's element as sent. Prefixes m and t are declared for it.
func envelope(v version, body string) []byte {
	return []byte(`<?xml version="1.0" encoding="utf-8"?>` +
		`<soap:Envelope xmlns:soap="` + soap.Envelope + `" xmlns:m="` + soap.Messages + `" xmlns:t="` + soap.Types + `">` +
		`<soap:Header><t:RequestServerVersion Version="` + v.String() + `"/></soap:Header>` +
		`<soap:Body>` + body + `</soap:Body></soap:Envelope>`)
}

// call sends what compose makes for a version and returns the response messages (the children of ResponseMessages) and
// the version in use: the one that is wanted or, if the server does not know it, an older one. Every error is an *Error. The
// messages are valid until forget is called, which the caller does when it has read them.
func (s *Session) call(ctx context.Context, operation Operation, wanted version, compose func(version) string) ([]*soap.Element, version, error) {
	for v := min(wanted, s.client.newestVersion()); ; v-- {
		messages, err := s.callOnce(ctx, operation, v, compose(v))
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != ErrorInvalidServerVersion || v == exchange2010SP1 {
			return messages, v, err
		}
		s.client.versionRefused(v)
	}
}

// always makes the same body for every version.
func always(body string) func(version) string { return func(version) string { return body } }

// callOnce is one request with its log line.
func (s *Session) callOnce(ctx context.Context, operation Operation, v version, body string) ([]*soap.Element, error) {
	start := s.client.options.Clock.Now()
	ctx, span := tracing.StartCall(ctx, "EWS", tracing.Operation.String(string(operation)), tracing.Endpoint.String(s.client.Endpoint()))
	messages, status, err := s.exchange(ctx, operation, v, body)
	tracing.End(span, err)
	if !s.client.options.Logger.Enabled(ctx, slog.LevelDebug) {
		return messages, err
	}
	attributes := []slog.Attr{
		slog.String("operation", string(operation)), slog.String("endpoint", s.client.Endpoint()),
		slog.Int("status", status), slog.Duration("took", s.client.options.Clock.Since(start)), slog.Bool("ok", err == nil),
	}
	if requestid.From(ctx) != s.activityID { // else every line has it
		attributes = append(attributes, slog.String("activityId", s.activityID))
	}
	if s.gateway.transaction != "" {
		attributes = append(attributes, slog.String("gatewayTransaction", s.gateway.transaction))
	}
	s.client.options.Logger.LogAttrs(ctx, slog.LevelDebug, "EWS call", attributes...)
	return messages, err
}

// exchange is callOnce without its log line.
func (s *Session) exchange(ctx context.Context, operation Operation, v version, body string) ([]*soap.Element, int, error) {
	ctx, cancel := s.client.withTimeout(ctx)
	defer cancel()
	s.gateway.forgetLast()
	if err := s.client.slots.Acquire(ctx, 1); err != nil {
		return nil, 0, s.failure(operation, 0, s.client.cause(ctx, err))
	}
	defer s.client.slots.Release(1)

	response, err := s.send(ctx, envelope(v, body))
	if err != nil {
		return nil, 0, s.failure(operation, 0, s.client.cause(ctx, err))
	}
	defer response.Body.Close()
	s.hearGateway(response.Header)
	status := response.StatusCode
	if status != http.StatusOK && status != http.StatusInternalServerError {
		_, _ = io.CopyN(io.Discard, response.Body, maxDrainBytes)
		return nil, status, s.refusal(operation, response)
	}
	content, err := readAnswer(response)
	if err != nil {
		return nil, status, s.failure(operation, status, s.client.cause(ctx, err))
	}
	messages, err := s.read(operation, response, content)
	if err == nil {
		s.hearVerdicts(response.Header)
	}
	return messages, status, err
}

// readAnswer reads the body of an answer, and at most one byte more than there may be.
func readAnswer(response *http.Response) ([]byte, error) {
	// As large as is announced, if that is believable, and with what ReadFrom wants to have free at the end.
	content := bytes.NewBuffer(make([]byte, 0, min(max(response.ContentLength, usualAnswer), maxAnnounced)+bytes.MinRead))
	_, err := content.ReadFrom(io.LimitReader(response.Body, maxResponseBytes+1))
	return content.Bytes(), err
}

// send posts content with the headers that Exchange's own clients send (ews.md, section 1). A redirect is an answer like
// any other, cookies are neither kept nor sent.
func (s *Session) send(ctx context.Context, content []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.client.options.Endpoint.URL, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", "text/xml")
	request.Header.Set("User-Agent", s.client.options.Endpoint.UserAgent)
	request.Header.Set("Client-Request-Id", s.activityID)
	request.Header.Set("Return-Client-Request-Id", "true")
	s.nameDevices(request.Header)
	if s.unfit != nil {
		return nil, s.unfit
	}
	return s.conn.RoundTrip(request)
}

var errTooLarge = fmt.Errorf("%w: more than %d bytes", ErrResponse, maxResponseBytes)

// read returns the response messages of an answer with status 200 or 500, see call.
func (s *Session) read(operation Operation, response *http.Response, content []byte) ([]*soap.Element, error) {
	if len(content) > maxResponseBytes {
		return nil, s.failure(operation, response.StatusCode, errTooLarge)
	}
	if s.reader == nil {
		s.reader = soap.Borrow()
	}
	body, err := s.reader.ReadBody(content)
	if err != nil {
		return nil, s.notSOAP(operation, response)
	}
	if body.Is(soap.Envelope, "Fault") {
		detail := body.Child("", "detail")
		code := detail.Child(soap.Errors, "ResponseCode").Text()
		if code == "" {
			// faultcode is a qualified name, e.g. a:ErrorServerBusy.
			fault := body.Child("", "faultcode").Text()
			code = fault[strings.LastIndexByte(fault, ':')+1:]
		}
		return nil, s.refused(operation, response.StatusCode, parseResponseCode(code), detail.Child(soap.Types, "MessageXml"))
	}
	messages := body.Child(soap.Messages, "ResponseMessages")
	if !body.Is(soap.Messages, string(operation)+"Response") || messages == nil {
		return nil, s.failure(operation, response.StatusCode, fmt.Errorf("%w: not the answer to %s", ErrResponse, operation))
	}
	return messages.Children, nil
}

// messageError returns the error that a response message holds, or nil. Warnings are no errors.
func (s *Session) messageError(operation Operation, message *soap.Element) *Error {
	if responseClass(message) != ClassError {
		return nil
	}
	code := parseResponseCode(message.Child(soap.Messages, "ResponseCode").Text())
	return s.refused(operation, http.StatusOK, code, message.Child(soap.Messages, "MessageXml"))
}

// refused is an error that Exchange itself reports; messageXML may hold a back-off and may be nil.
func (s *Session) refused(operation Operation, status int, code ResponseCode, messageXML *soap.Element) *Error {
	e := s.failure(operation, status, nil)
	e.Code = code
	for _, value := range children(messageXML) {
		if value.Name.Local == "Value" && value.Attribute("Name") == "BackOffMilliseconds" {
			e.BackOff = backOff(value.Text(), time.Millisecond)
		}
	}
	return e
}

// refusal is an answer whose body is of no use: all statuses but 200 and 500.
func (s *Session) refusal(operation Operation, response *http.Response) *Error {
	e := s.failure(operation, response.StatusCode, nil)
	switch {
	case e.gateway && gatewayHints[response.StatusCode] != "":
		e.hint = gatewayHints[response.StatusCode]
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		e.hint = s.conn.Hint(response)
		e.tokenExpired = response.StatusCode == http.StatusUnauthorized && authn.TokenExpired(response.Header)
	case errors.Is(e, ErrRedirect):
		e.hint = redirectHint(response)
	case errors.Is(e, ErrUnavailable):
		e.BackOff = backOff(response.Header.Get("Retry-After"), time.Second)
	}
	return e
}

func (s *Session) notSOAP(operation Operation, response *http.Response) *Error {
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		media = "unknown"
	}
	e := s.failure(operation, response.StatusCode, fmt.Errorf("%w: status %d with content of type %.40q instead of SOAP",
		ErrResponse, response.StatusCode, media))
	e.hint = "is there a login page or a proxy in front of Exchange?"
	return e
}

// failure is the *Error of an operation with the cause below HTTP.
func (s *Session) failure(operation Operation, status int, cause error) *Error {
	return &Error{
		Operation: operation, Endpoint: s.client.address, HTTPStatus: status, Err: cause,
		GatewayTransaction: s.gateway.transaction, gateway: s.client.options.Endpoint.SecureEmailGateway != nil,
	}
}

// redirectHint names the other server but not its path and query, which may hold anything.
func redirectHint(response *http.Response) string {
	const rule = "redirects are not followed; run Autodiscover again, or set the endpoint's url to the address that EWS itself has"
	location, err := url.Parse(response.Header.Get("Location"))
	if err != nil || location.Host == "" {
		return rule
	}
	return fmt.Sprintf("it points to %.100q; %s", location.Scheme+"://"+location.Host, rule)
}

// backOff reads a number of units; anything but a positive number is no back-off.
func backOff(text string, unit time.Duration) time.Duration {
	number, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || number <= 0 {
		return 0
	}
	if number > int64(maxBackOff/unit) {
		return maxBackOff
	}
	return time.Duration(number) * unit
}
