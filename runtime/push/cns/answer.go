package cns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

const (
	success = "success"
	// codeSigner is the code of a 401: the certificate that signed is not trusted (C-04).
	codeSigner     = 2007
	reasonSigner   = "SignerNotTrusted"
	reasonPin      = "PublicKeyNotPinned"
	reasonRedirect = "Redirected"
	reasonNoAnswer = "UnreadableAnswer"
)

// answer is what is read of an answer (C-03, C-04). The message of a refusal may quote what was sent, so it is not.
type answer struct {
	Status      string  `json:"status"`
	ErrorReason *string `json:"errorReason"`
	Code        int     `json:"code"`
}

// deadReasons are Apple's and Google's words for a token that will never work again. That the service passes them on is
// an assumption; every other word leaves the device alone.
var deadReasons = map[string]bool{"Unregistered": true, "ExpiredToken": true, "UNREGISTERED": true}

// send makes one request. It returns nil if the service accepted the push.
func (p *Provider) send(ctx context.Context, body []byte) *push.Error {
	enslog.CNSAddress.Log(ctx, p.log, p.url)
	enslog.CNSSigning.Log(ctx, p.log, p.signer.path, p.signer.certificate.Leaf.Subject.CommonName)
	authorization, err := p.signer.authorization()
	if err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Misconfigured, Err: err}
	}
	outgoing, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return &push.Error{Provider: p.name, Outcome: push.Misconfigured, Err: err}
	}
	outgoing.Header.Set("Authorization", authorization)
	outgoing.Header.Set("Content-Type", "application/json")
	outgoing.Header.Set("Accept", "application/json")
	response, err := p.client.Do(outgoing)
	if err != nil {
		return p.unanswered(ctx, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return p.unanswered(ctx, err)
	}
	refusal := p.judge(response, content)
	if refusal == nil {
		enslog.CNSAnswered.Log(ctx, p.log, `{"status":"success","errorReason":null}`)
		enslog.CNSAccepted.Log(ctx, p.log)
	}
	return refusal
}

// unanswered is the error of a request without an answer.
func (p *Provider) unanswered(ctx context.Context, err error) *push.Error {
	refusal := &push.Error{Provider: p.name, Outcome: push.Retry, Err: err}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		refusal.Err = wrapped.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		refusal.Err = cause
		return refusal
	}
	if pin, ok := errors.AsType[*PinError](err); ok {
		refusal.Outcome, refusal.Reason, refusal.Err, refusal.Lasting = push.Misconfigured, reasonPin, pin, true
	}
	outbound.BlameProxy(refusal, err)
	return refusal
}

// judge says what an answer means: nil if the push was accepted.
func (p *Provider) judge(response *http.Response, content []byte) *push.Error {
	var said answer
	readable := json.Unmarshal(content, &said) == nil
	if response.StatusCode == http.StatusOK && readable && said.Status == success {
		return nil
	}
	refusal := &push.Error{
		Provider: p.name, Status: response.StatusCode, RetryAfter: push.RetryAfter(response.Header, time.Now()),
		Outcome: outcomeOf(response.StatusCode),
		Lasting: response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden,
	}
	if said.ErrorReason != nil && isWord(*said.ErrorReason) {
		refusal.Reason = *said.ErrorReason
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized && said.Code == codeSigner:
		refusal.Reason = reasonSigner
	case response.StatusCode == http.StatusOK && !readable:
		refusal.Reason = reasonNoAnswer
	case response.StatusCode == http.StatusOK && deadReasons[refusal.Reason]:
		refusal.Outcome = push.DeadToken
	case refusal.Reason == "" && response.StatusCode >= http.StatusMultipleChoices && response.StatusCode < http.StatusBadRequest:
		refusal.Reason = reasonRedirect
	}
	return refusal
}

// outcomeOf judges an answer that is no success by its status.
func outcomeOf(status int) push.Outcome {
	switch {
	case status == http.StatusOK:
		// It was taken but not delivered, for a reason that is not known to last. The journal bounds how often it is
		// tried again.
		return push.Retry
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return push.Retry
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return push.Rejected
	default:
		// 401 and 403: the certificate. 404, 3xx and the rest: it is not the service who answers.
		return push.Misconfigured
	}
}

// isWord reports whether text is one word: it goes into logs and metrics, so nothing else passes.
func isWord(text string) bool {
	const longest = 64
	if text == "" || len(text) > longest {
		return false
	}
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' {
			return false
		}
	}
	return true
}
