package apns

import (
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
)

// Apple's reasons that are looked at by name ("Handling notification responses from APNs").
const (
	reasonBadDeviceToken   = "BadDeviceToken"
	reasonTooManyRequests  = "TooManyRequests"
	reasonTooManyUpdates   = "TooManyProviderTokenUpdates"
	reasonPayloadTooLarge  = "PayloadTooLarge"
	reasonExpiredProvider  = "ExpiredProviderToken"
	reasonInvalidProvider  = "InvalidProviderToken"
	reasonMissingProvider  = "MissingProviderToken"
	reasonIdleTimeout      = "IdleTimeout"
	tooManyRequestsDefault = 10 * time.Second
)

// remedy is what the provider does about a refusal before it gives up.
type remedy int

const (
	// giveUp: the outcome stands.
	giveUp remedy = iota
	// reconnect: try again on another connection after a pause.
	reconnect
	// renewToken: try again with a token issued now, if the old one is old enough.
	renewToken
	// stepBack: try again on another connection, with the token before if this one has never been taken.
	stepBack
	// shrink: try again with less text.
	shrink
)

// rule is what a reason means.
type rule struct {
	outcome push.Outcome
	remedy  remedy
}

// rules holds Apple's reasons; statusRule serves for others.
var rules = map[string]rule{
	// The token is dead or from the other environment; Provider.deadOrForeign tells them apart.
	reasonBadDeviceToken: {push.DeadToken, giveUp},

	"DeviceTokenNotForTopic": {push.Misconfigured, giveUp},
	"TopicDisallowed":        {push.Misconfigured, giveUp},
	"BadTopic":               {push.Misconfigured, giveUp},
	"MissingTopic":           {push.Misconfigured, giveUp},

	"PayloadEmpty":       {push.Rejected, giveUp},
	"BadPriority":        {push.Rejected, giveUp},
	"BadExpirationDate":  {push.Rejected, giveUp},
	"BadCollapseId":      {push.Rejected, giveUp},
	"BadMessageId":       {push.Rejected, giveUp},
	"InvalidPushType":    {push.Rejected, giveUp},
	"DuplicateHeaders":   {push.Rejected, giveUp},
	"MissingDeviceToken": {push.Rejected, giveUp},
	"BadPath":            {push.Rejected, giveUp},
	"MethodNotAllowed":   {push.Rejected, giveUp},

	reasonIdleTimeout: {push.Retry, reconnect},

	reasonExpiredProvider:        {push.Misconfigured, renewToken},
	reasonInvalidProvider:        {push.Misconfigured, renewToken},
	reasonMissingProvider:        {push.Misconfigured, renewToken},
	"BadCertificate":             {push.Misconfigured, giveUp},
	"BadCertificateEnvironment":  {push.Misconfigured, giveUp},
	"BadEnvironmentKeyIdInToken": {push.Misconfigured, giveUp},
	"UnrelatedKeyIdInToken":      {push.Misconfigured, giveUp},
	"Forbidden":                  {push.Misconfigured, giveUp},

	"Unregistered": {push.DeadToken, giveUp},
	"ExpiredToken": {push.DeadToken, giveUp},

	reasonPayloadTooLarge: {push.Rejected, shrink},

	reasonTooManyRequests: {push.Retry, giveUp},
	// The connection stays unusable.
	reasonTooManyUpdates: {push.Retry, stepBack},

	"InternalServerError": {push.Retry, reconnect},
	"ServiceUnavailable":  {push.Retry, reconnect},
	"Shutdown":            {push.Retry, reconnect},
}

// ruleFor returns what an answer that is not 200 means.
func ruleFor(status int, reason string) rule {
	if found, ok := rules[reason]; ok {
		return found
	}
	switch {
	case status == http.StatusGone && reason != "":
		return rule{push.DeadToken, giveUp}
	case status == http.StatusGone:
		// Without a reason it is not Apple who speaks, and a device is not forgotten on a proxy's word.
		return rule{push.Misconfigured, giveUp}
	case status == http.StatusRequestEntityTooLarge:
		return rule{push.Rejected, shrink}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return rule{push.Retry, giveUp}
	case status >= http.StatusInternalServerError:
		return rule{push.Retry, reconnect}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return rule{push.Misconfigured, giveUp}
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		// APNs does not redirect: something else answers at this address.
		return rule{push.Misconfigured, giveUp}
	default:
		return rule{push.Rejected, giveUp}
	}
}

// refusesCredential reports whether an answer is about the credential. What Apple has against a topic or a device token is
// answered 400, and may be about one device.
func refusesCredential(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired
}

// breaksConnection reports whether an answer means that further pushes belong on another connection.
func breaksConnection(status int, reason string) bool {
	return reason == reasonTooManyUpdates || reason == reasonIdleTimeout || status >= http.StatusInternalServerError
}
