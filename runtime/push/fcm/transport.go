package fcm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

const (
	// maxAnswer is far above Google's answers, which are below 2 KB.
	maxAnswer = 64 << 10

	fcmErrorType   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	badRequestType = "type.googleapis.com/google.rpc.BadRequest"
	quotaType      = "type.googleapis.com/google.rpc.QuotaFailure"
	tokenField     = "message.token"
)

var (
	errRedirect  = errors.New("FCM does not redirect: something else answers at this address")
	errLongDelay = errors.New("FCM asks to wait for longer than the push may take")
)

// call is one push on its way through the Firebase library. It travels in the request's context: the transport takes
// the bearer from it and leaves in it what Google last said, which the library does not keep when time runs out while
// it waits to try again.
type call struct {
	bearer string
	// stop ends the push, so that the library does not go on trying.
	stop context.CancelCauseFunc
	// last is the last answer, nil if there was none; failure is why.
	last    *answer
	failure error
}

type callKey struct{}

// answer is what Google said.
type answer struct {
	status int
	// code is FCM's errorCode; canonical is Google's status word, for answers that are not from FCM itself.
	code, canonical string
	// tokenAtFault: an INVALID_ARGUMENT is about the registration token and nothing else.
	tokenAtFault bool
	// oneDevice: the quota that is exceeded is this device's.
	oneDevice  bool
	retryAfter time.Duration
}

// transport is the http.RoundTripper under the Firebase library. It authenticates, and notes the answer.
type transport struct{ base *outbound.Bounded }

// RoundTrip implements http.RoundTripper. The answer's body is in memory.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	c, ok := request.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, errors.New("a request to FCM without a push")
	}
	outgoing := request.Clone(request.Context())
	outgoing.Header.Set("Authorization", "Bearer "+c.bearer)
	response, err := t.base.RoundTrip(outgoing)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(response.Body)
	}
	if err != nil {
		c.failure = fmt.Errorf("push to FCM: %w", err)
		if outbound.NeedsSomebody(err) {
			c.stop(c.failure)
		}
		return nil, c.failure
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	c.note(request.Context(), response, body)
	return response, nil
}

// note keeps an answer, and stops the push where the library would go wrong: it takes a redirect for success, and
// waits for as long as Google asks.
func (c *call) note(ctx context.Context, response *http.Response, body []byte) {
	said := readAnswer(response, body)
	c.last, c.failure = said, nil
	if said.status >= http.StatusMultipleChoices && said.status < http.StatusBadRequest {
		c.failure = errRedirect
		c.stop(errRedirect)
	}
	if deadline, ok := ctx.Deadline(); ok && said.retryAfter > time.Until(deadline) {
		c.stop(errLongDelay)
	}
}

// readAnswer reads the parts of an answer that are looked at. Google's message may quote what was sent, so it is read
// but never passed on.
func readAnswer(response *http.Response, body []byte) *answer {
	said := &answer{status: response.StatusCode, retryAfter: push.RetryAfter(response.Header, time.Now())}
	if response.StatusCode < http.StatusBadRequest {
		return said
	}
	var content struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
			Details []struct {
				Type       string `json:"@type"`
				ErrorCode  string `json:"errorCode"`
				Violations []struct {
					Field string `json:"field"`
				} `json:"fieldViolations"`
				Quotas []struct {
					Subject     string `json:"subject"`
					Description string `json:"description"`
				} `json:"violations"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &content) != nil {
		return said
	}
	if isCode(content.Error.Status) {
		said.canonical = content.Error.Status
	}
	blamed, others := strings.Contains(strings.ToLower(content.Error.Message), "registration token"), false
	for _, detail := range content.Error.Details {
		switch detail.Type {
		case fcmErrorType:
			if isCode(detail.ErrorCode) {
				said.code = detail.ErrorCode
			}
		case quotaType:
			for _, quota := range detail.Quotas {
				// Google tells the device's quota from the project's in words alone.
				said.oneDevice = said.oneDevice || strings.Contains(strings.ToLower(quota.Subject+" "+quota.Description), "device")
			}
		case badRequestType:
			for _, violation := range detail.Violations {
				blamed = blamed || violation.Field == tokenField
				others = others || violation.Field != tokenField
			}
		}
	}
	said.tokenAtFault = blamed && !others
	return said
}
