package ews

import "slices"

// ResponseCode is an EWS response code as it is spelled on the wire, e.g. ErrorItemNotFound. It is letters, digits and
// underscores only, so it may be logged and stored.
type ResponseCode string

// The codes that this package or its callers act on.
const (
	NoError                               ResponseCode = "NoError"
	ErrorAccessDenied                     ResponseCode = "ErrorAccessDenied"
	ErrorAccountDisabled                  ResponseCode = "ErrorAccountDisabled"
	ErrorConnectionFailed                 ResponseCode = "ErrorConnectionFailed"
	ErrorExceededConnectionCount          ResponseCode = "ErrorExceededConnectionCount"
	ErrorExceededSubscriptionCount        ResponseCode = "ErrorExceededSubscriptionCount"
	ErrorFolderNotFound                   ResponseCode = "ErrorFolderNotFound"
	ErrorInternalServerTransientError     ResponseCode = "ErrorInternalServerTransientError"
	ErrorInvalidPropertyRequest           ResponseCode = "ErrorInvalidPropertyRequest"
	ErrorInvalidPushSubscriptionURL       ResponseCode = "ErrorInvalidPushSubscriptionUrl"
	ErrorInvalidServerVersion             ResponseCode = "ErrorInvalidServerVersion"
	ErrorItemNotFound                     ResponseCode = "ErrorItemNotFound"
	ErrorMailboxFailover                  ResponseCode = "ErrorMailboxFailover"
	ErrorMailboxMoveInProgress            ResponseCode = "ErrorMailboxMoveInProgress"
	ErrorMailboxStoreUnavailable          ResponseCode = "ErrorMailboxStoreUnavailable"
	ErrorMissedNotificationEvents         ResponseCode = "ErrorMissedNotificationEvents"
	ErrorNameResolutionMultipleResults    ResponseCode = "ErrorNameResolutionMultipleResults"
	ErrorNameResolutionNoResults          ResponseCode = "ErrorNameResolutionNoResults"
	ErrorNoRespondingCASInDestinationSite ResponseCode = "ErrorNoRespondingCASInDestinationSite"
	ErrorNonExistentMailbox               ResponseCode = "ErrorNonExistentMailbox"
	ErrorPasswordChangeRequired           ResponseCode = "ErrorPasswordChangeRequired"
	ErrorPasswordExpired                  ResponseCode = "ErrorPasswordExpired"
	ErrorProxiedSubscriptionCallFailure   ResponseCode = "ErrorProxiedSubscriptionCallFailure"
	ErrorProxyRequestNotAllowed           ResponseCode = "ErrorProxyRequestNotAllowed"
	ErrorReadEventsFailed                 ResponseCode = "ErrorReadEventsFailed"
	ErrorSchemaValidation                 ResponseCode = "ErrorSchemaValidation"
	ErrorServerBusy                       ResponseCode = "ErrorServerBusy"
	ErrorSubscriptionDelegateAccess       ResponseCode = "ErrorSubscriptionDelegateAccessNotSupported"
	ErrorTimeoutExpired                   ResponseCode = "ErrorTimeoutExpired"
	ErrorWrongServerVersion               ResponseCode = "ErrorWrongServerVersion"
	// Unrecognized stands for a code that is missing or is no code by its form.
	Unrecognized ResponseCode = "Unrecognized"
)

// The longest code of the schema has 60 letters.
const maxCodeBytes = 80

// transientCodes may be gone a second later (ews.md, section 1). ErrorServerBusy is not among them: it asks to wait.
var transientCodes = []ResponseCode{
	ErrorConnectionFailed,
	ErrorExceededConnectionCount,
	ErrorInternalServerTransientError,
	ErrorMailboxFailover,
	ErrorMailboxMoveInProgress,
	ErrorMailboxStoreUnavailable,
	ErrorNoRespondingCASInDestinationSite,
	ErrorProxiedSubscriptionCallFailure,
	ErrorTimeoutExpired,
}

// codeHints say what an administrator can do about a code.
var codeHints = map[ResponseCode]string{
	ErrorAccessDenied:               "the user may not open this mailbox",
	ErrorAccountDisabled:            "the account is disabled",
	ErrorExceededSubscriptionCount:  "too many subscriptions; abandoned ones end by themselves, or raise EWSMaxSubscriptions in the throttling policy",
	ErrorExceededConnectionCount:    "too many connections of this user; raise EWSMaxConcurrency in the throttling policy",
	ErrorInvalidPushSubscriptionURL: "Exchange does not accept the webhook's address; check the tenant's callbackURL",
	ErrorInvalidServerVersion:       "the server is older than Exchange 2010 SP1, which is the oldest that is supported",
	ErrorNonExistentMailbox:         "there is no such mailbox on this server",
	ErrorPasswordChangeRequired:     "the user must change the password first",
	ErrorPasswordExpired:            "the user's password has expired",
	ErrorProxyRequestNotAllowed:     "this server does not serve the mailbox; run Autodiscover again, or set the endpoint's url to the server that does",
	ErrorServerBusy:                 "the server throttles this user",
	ErrorSubscriptionDelegateAccess: "only the owner of a mailbox can subscribe to it",
	ErrorWrongServerVersion:         "this server does not serve the mailbox; run Autodiscover again, or set the endpoint's url to the server that does",
}

// parseResponseCode returns the code that text spells. Text of another form is Unrecognized, so that nothing else that a
// server wrote gets into a log.
func parseResponseCode(text string) ResponseCode {
	if text == "" || len(text) > maxCodeBytes {
		return Unrecognized
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		default:
			return Unrecognized
		}
	}
	return ResponseCode(text)
}

func (c ResponseCode) transient() bool { return slices.Contains(transientCodes, c) }
