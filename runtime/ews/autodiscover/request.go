package autodiscover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/requestid"
)

// reply is what came back for a request.
type reply struct {
	status   int
	location string
	// content is there with status 200.
	content []byte
	// authenticated says that the request carried the credential.
	authenticated bool
}

// ask puts a form's question to target: without a credential, and if the host wants one, with it.
func (w *walk) ask(ctx context.Context, f form, target *url.URL, asked mailAddress) (reply, error) {
	question := func() (*http.Request, error) {
		var content []byte
		if f.content != nil {
			content = f.content(target, asked.text.RevealString())
		}
		return w.request(ctx, f.method, target, content)
	}
	request, err := question()
	if err != nil {
		return reply{}, err
	}
	r, err := w.anonymously(f.name, request)
	wantsCertificate := errors.Is(err, errAlert) && w.user.AuthType.HasCertificate()
	wanted := wantsCertificate || err == nil && wantsCredential(r.status, w.user.AuthType)
	if !f.authenticated || !wanted {
		return r, err
	}
	if request, err = question(); err != nil {
		return reply{}, err
	}
	return w.authenticate(f, request)
}

// wantsCredential reports whether the answer to a request without a credential asks for one. IIS asks for a client
// certificate with 403 (403.7).
func wantsCredential(status int, user credential.AuthType) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden && user.HasCertificate()
}

// authenticate sends request with the credential, unless the host has refused it already or enough others have.
func (w *walk) authenticate(f form, request *http.Request) (reply, error) {
	host := request.URL.Host
	if w.refused[host] {
		return reply{}, errRefused
	}
	if len(w.refused) >= maxRefusals {
		return reply{}, errWithheld
	}
	conn, err := w.d.host(hostPort(request.URL)).Conn(w.user)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	r, err := w.send(f.name, request, conn)
	if err != nil {
		return reply{}, err
	}
	if wantsCredential(r.status, w.user.AuthType) {
		w.refused[host] = true
		return reply{}, errRefused
	}
	w.accepted = true
	r.authenticated = true
	return r, nil
}

// request makes a request with the headers that Exchange's own clients send.
func (w *walk) request(ctx context.Context, method string, target *url.URL, content []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(content))
	if err != nil {
		return nil, errNotURL // the error of net/url holds the e-mail address
	}
	if content != nil {
		request.Header.Set("Content-Type", "text/xml; charset=utf-8")
		request.Header.Set("Accept", "text/xml")
	}
	request.Header.Set("User-Agent", w.d.options.UserAgent)
	request.Header.Set("client-request-id", w.activityID)
	request.Header.Set("return-client-request-id", "true")
	return request, nil
}

// anonymously sends request without a credential. A host that gives no answer is left alone for a minute, by all: what
// fails without a credential fails for everybody.
func (w *walk) anonymously(name string, request *http.Request) (reply, error) {
	place := hostPort(request.URL)
	if known, ok := w.d.unreachable.get(place); ok {
		return reply{}, known
	}
	r, err := w.send(name, request, w.d.host(place).Anonymous())
	if errors.Is(err, errUnreachable) {
		w.d.unreachable.put(place, err, failureLifetime)
	}
	return r, err
}

// send sends request, whose host the caller has checked, and reads the answer.
func (w *walk) send(name string, request *http.Request, transport http.RoundTripper) (reply, error) {
	parent := request.Context()
	ctx, cancel := w.d.withTimeout(parent, timeoutError{requestTimeout})
	defer cancel()
	start := w.d.options.Clock.Now()
	r, err := exchange(request.WithContext(ctx), transport)
	attributes := []slog.Attr{
		slog.String("host", request.URL.Host), slog.String("step", name), slog.Int("status", r.status),
		slog.Duration("took", w.d.options.Clock.Since(start)), slog.Bool("ok", err == nil),
	}
	if requestid.From(parent) != w.activityID { // else every line has it
		attributes = append(attributes, slog.String("activityId", w.activityID))
	}
	w.d.options.Logger.LogAttrs(parent, slog.LevelDebug, "Autodiscover request", attributes...)
	switch {
	case err == nil || errors.Is(err, errTooLarge):
		return r, err
	case parent.Err() != nil:
		return r, errStopped
	default:
		return r, explain(ctx, err)
	}
}

// exchange sends a request and reads the answer, as far as it is of use.
func exchange(request *http.Request, transport http.RoundTripper) (reply, error) {
	response, err := transport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	r := reply{status: response.StatusCode, location: response.Header.Get("Location")}
	if r.status != http.StatusOK {
		return r, nil
	}
	r.content, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err == nil && len(r.content) > maxAnswerBytes {
		err = errTooLarge
	}
	return r, err
}

// hostPort is where the connection for u goes.
func hostPort(u *url.URL) string {
	port := httpsPort
	if u.Scheme == "http" {
		port = httpPort
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
