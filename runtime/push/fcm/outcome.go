package fcm

import (
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	codeInvalidArgument = "INVALID_ARGUMENT"
	codeSenderMismatch  = "SENDER_ID_MISMATCH"
	// quotaPause is how long to wait after a 429 without Retry-After; Google's quotas refill each minute.
	quotaPause = time.Minute
)

// outcomes holds FCM's own error codes ("ErrorCode" of the HTTP v1 reference). INVALID_ARGUMENT is judged by its
// details.
var outcomes = map[string]push.Outcome{
	"UNREGISTERED": push.DeadToken,
	// The token belongs to an app of another Firebase project.
	codeSenderMismatch:       push.Misconfigured,
	"THIRD_PARTY_AUTH_ERROR": push.Misconfigured,
	"QUOTA_EXCEEDED":         push.Retry,
	"UNAVAILABLE":            push.Retry,
	"INTERNAL":               push.Retry,
}

// outcome returns what an answer other than success means.
func (a *answer) outcome() push.Outcome {
	if known, ok := outcomes[a.code]; ok {
		return known
	}
	if a.code == codeInvalidArgument && a.tokenAtFault {
		// A token is given up only if FCM itself says that it is the token.
		return push.DeadToken
	}
	switch {
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status >= http.StatusInternalServerError:
		return push.Retry
	case a.status == http.StatusBadRequest, a.status == http.StatusRequestEntityTooLarge:
		return push.Rejected
	case a.status >= http.StatusMultipleChoices:
		// 401, 403 and 404 without a code of FCM's: the service account, its role, or the project. 3xx and the rest:
		// it is not FCM who answers.
		return push.Misconfigured
	default:
		// A success that could not be read.
		return push.Retry
	}
}

// refusal turns an answer into the provider's error.
func (a *answer) refusal(provider string) *push.Error {
	refusal := &push.Error{Provider: provider, Outcome: a.outcome(), Status: a.status, Reason: a.code, RetryAfter: a.retryAfter, OneDevice: a.oneDevice}
	// A token of another project is one device's matter, as far as can be told.
	refusal.Lasting = refusal.Outcome == push.Misconfigured && a.code != codeSenderMismatch &&
		(a.status == http.StatusUnauthorized || a.status == http.StatusForbidden)
	if refusal.Reason == "" {
		refusal.Reason = a.canonical
	}
	if a.status == http.StatusTooManyRequests && refusal.RetryAfter == 0 {
		refusal.RetryAfter = quotaPause
	}
	return refusal
}
