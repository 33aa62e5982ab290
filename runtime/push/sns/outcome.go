package sns

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

// step is what was asked of Amazon when it refused.
type step int

const (
	creating step = iota + 1
	publishing
)

// outcomes holds Amazon's error codes: SNS's own, those of every AWS service ("Common Errors"), and those of STS, where
// a role is taken.
var outcomes = map[string]push.Outcome{
	"Throttled":             push.Retry,
	"Throttling":            push.Retry,
	"ThrottlingException":   push.Retry,
	"InternalError":         push.Retry,
	"InternalFailure":       push.Retry,
	"ServiceUnavailable":    push.Retry,
	"IDPCommunicationError": push.Retry,
	// What was signed with, or the token of the web identity, has just run out; it is renewed.
	"ExpiredToken":          push.Retry,
	"ExpiredTokenException": push.Retry,
	// It was enabled a moment ago.
	codeDisabled: push.Retry,

	"AuthorizationError":          push.Misconfigured,
	"AccessDenied":                push.Misconfigured,
	"AccessDeniedException":       push.Misconfigured,
	"IncompleteSignature":         push.Misconfigured,
	"InvalidClientTokenId":        push.Misconfigured,
	"InvalidIdentityToken":        push.Misconfigured,
	"InvalidSecurity":             push.Misconfigured,
	"MissingAuthenticationToken":  push.Misconfigured,
	"NotAuthorized":               push.Misconfigured,
	"OptInRequired":               push.Misconfigured,
	"PlatformApplicationDisabled": push.Misconfigured,
	"RequestExpired":              push.Misconfigured,
	"SignatureDoesNotMatch":       push.Misconfigured,
	"UnrecognizedClientException": push.Misconfigured,

	"ParameterValueInvalid": push.Rejected,
	"ValidationError":       push.Rejected,
}

const (
	codeDisabled         = "EndpointDisabled"
	codeNotFound         = "NotFound"
	codeInvalidParameter = "InvalidParameter"
)

// isDisabled reports whether Amazon has disabled the endpoint.
func isDisabled(err error) bool {
	_, ok := errors.AsType[*types.EndpointDisabledException](err)
	return ok
}

// isGone reports whether the endpoint does not exist any more. Amazon says so in two ways.
func isGone(err error) bool {
	if _, ok := errors.AsType[*types.NotFoundException](err); ok {
		return true
	}
	refused, ok := errors.AsType[*types.InvalidParameterException](err)
	return ok && strings.Contains(refused.ErrorMessage(), "TargetArn Reason: No endpoint found")
}

// refusal turns an error of the SDK's into the provider's. Amazon's message may quote what was sent, so only its code is
// passed on.
func (p *Provider) refusal(ctx context.Context, err error, at step) *push.Error {
	refusal := &push.Error{Provider: p.name, Outcome: push.Retry}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		refusal.Status, refusal.RetryAfter = response.HTTPStatusCode(), retryAfter(err)
	}
	if said, ok := errors.AsType[smithy.APIError](err); ok && isCode(said.ErrorCode()) {
		refusal.Reason = said.ErrorCode()
		refusal.Outcome = outcomeOf(said, refusal.Status, at)
		refusal.Lasting = refusal.Outcome == push.Misconfigured && (outcomes[refusal.Reason] == push.Misconfigured || refusesCredential(refusal.Status))
		return refusal
	}
	switch {
	case refusal.Status != 0:
		refusal.Outcome, refusal.Lasting = outcomeOfStatus(refusal.Status), refusesCredential(refusal.Status)
	case ctx.Err() != nil:
		refusal.Err = context.Cause(ctx)
	case errors.Is(err, errNoIdentityToken):
		refusal.Outcome, refusal.Err, refusal.Lasting = push.Misconfigured, errNoIdentityToken, true
	case errors.Is(err, errForeignEndpoint):
		refusal.Err = errForeignEndpoint
	default:
		refusal.Err = cause(err)
		outbound.BlameProxy(refusal, err)
	}
	return refusal
}

func outcomeOf(said smithy.APIError, status int, at step) push.Outcome {
	code := said.ErrorCode()
	if known, ok := outcomes[code]; ok {
		return known
	}
	switch {
	case code == codeInvalidParameter && at == publishing:
		return push.Rejected
	case code == codeInvalidParameter && strings.HasPrefix(said.ErrorMessage(), "Invalid parameter: Token Reason:"):
		// Amazon knows what the platform's tokens look like, and this is none.
		return push.DeadToken
	case code == codeNotFound && at == publishing:
		// It was made a moment ago.
		return push.Retry
	case code == codeInvalidParameter, code == codeNotFound:
		return push.Misconfigured
	default:
		return outcomeOfStatus(status)
	}
}

// outcomeOfStatus judges an answer without a code that is known: a new one, or somebody else's.
func outcomeOfStatus(status int) push.Outcome {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return push.Retry
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge:
		return push.Rejected
	case status >= http.StatusMultipleChoices:
		return push.Misconfigured
	default:
		// A success that could not be read.
		return push.Retry
	}
}

// refusesCredential reports whether an answer is about who asks. A code of Amazon's says so too: those that are known to be
// misconfigurations are about the account, its signature or the platform's application, never about one device.
func refusesCredential(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// retryAfter is how long an answer asked to wait.
func retryAfter(err error) time.Duration {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response == nil || response.Response.Response == nil {
		return 0
	}
	return push.RetryAfter(response.Response.Header, time.Now())
}

// cause is why a request got no answer, without the address and the SDK's words around it.
func cause(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return errUnexplained
}

var errUnexplained = errors.New("the request to Amazon was not made or its answer could not be read")

// isCode reports whether text looks like one of Amazon's codes: it goes into logs and metrics, so nothing else passes.
func isCode(text string) bool {
	const longest = 64
	if text == "" || len(text) > longest {
		return false
	}
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' {
			return false
		}
	}
	return true
}
