package enslog

import (
	"log/slog"
	"strings"
)

// The catalogue: the messages that the original's documentation shows, with its loggers, levels and spelling (the double
// blanks and "occured" too), by the numbers of the section "Log catalogue" of the requirements. Names in braces are
// values, and what they are called in the JSON format; {u} is the user. Where a message speaks of something that is
// otherwise here, the comment says what is meant.
//
// Rows 28 to 32 are logged for push providers of kind cns alone, 33 and 34 for sns. The code and the severity of row 4 and
// the stack traces of rows 12, 40 and 41 are SQL Server's and .NET's and have no counterpart.

// The loggers.
const (
	controller = "MailNotificationService.Controllers.EnsController."
	business   = "MailNotificationService.BusinessImpl."
	provider   = "MailNotificationService.ProviderImpl."

	publicKeyBusiness  = business + "GetPublicKeyBusiness.ProcessGetPublicKeyRequestAsync"
	registerBusiness   = business + "RegisterDeviceBusiness.ProcessRegisterDeviceRequestAsyncV2"
	subscribeRetries   = business + "ExchangeRetriesHandler.SubscribeForNotificationsAsync"
	subscriptions      = business + "SubscriptionBusiness.SubscribeV2Async"
	notificationParser = business + "ExchangeNotificationParser.ScanEventNotificationAsync"
	pushNotifications  = business + "PushNotificationBusiness."
	composer           = business + "CNSHelper.ComposeAPNSPushNotification"
	cnsAnswer          = business + "CNSHelper.ReadResponse"
	sns                = business + "AmazonSNSHelper."
	// mailFetcher is made after the others: the guide names the messages of row 23 but not their logger.
	mailFetcher = business + "SyncEmailExchangeBusiness.SyncEmailV2"
)

// Boxer's calls.
var (
	// PublicKeyRequested is row 1.
	PublicKeyRequested = event(slog.LevelDebug, controller+"GetPublicKey",
		"Processing Get Public key request for Userid[{u}]", "A public key is asked for")
	// KeyGenerated is row 2: a key pair was taken for a new user.
	KeyGenerated = event(slog.LevelDebug, publicKeyBusiness,
		"Key generated for user id [{u}]", "A new user has a key pair")
	// PublicKeyProcessed is row 3.
	PublicKeyProcessed = event(slog.LevelDebug, controller+"GetPublicKey",
		"Get Public Key request processed. HttpStatusCode:[{httpStatus}] ResponseCode:[{responseCode}]", "A public key was asked for")
	// PublicKeyFailed is row 4: the database did not give the key or take the user.
	PublicKeyFailed = event(slog.LevelDebug, publicKeyBusiness,
		`Error: Message: "{error}"`, "The database failed a request for a public key")
	// RegistrationRequested is row 5.
	RegistrationRequested = event(slog.LevelDebug, controller+"RegisterDeviceV2",
		"Processing register device request for Userid[{u}]", "A device registers")
	// ExchangeVersionSent is row 6.
	ExchangeVersionSent = event(slog.LevelDebug, registerBusiness,
		"Exchange version sent by boxer [{exchangeVersion}]", "The device says which Exchange it knows")
	// EWSURLSent is row 7: the device named one of the tenant's endpoints. The two words after it are always the same: there
	// is no list of discovered servers that it might match, or be struck from.
	EWSURLSent = event(slog.LevelDebug, business+"ExchangeServiceBusiness.GetExchangeServiceAsync",
		"Using client ewsurl, mailServerUrlMatched : False, deletedEWSUrl: False", "The device named the endpoint")
	// Subscribing is row 8.
	Subscribing = event(slog.LevelDebug, subscribeRetries,
		"EWSUrl used to subscribe: [{ewsUrl}]", "Exchange is asked for a subscription")
	// SubscribingWith is row 9.
	SubscribingWith = event(slog.LevelDebug, subscribeRetries,
		"User subscribing with [{authType}]", "The subscription is asked for by this authentication")
	// SubscribingAgain is row 10: an attempt failed, and another one follows.
	SubscribingAgain = event(slog.LevelWarn, business+"ExchangeRetriesHandler.SubscribeForNotifications",
		"Service request exception occured  for userId [{u}], Inner exception message [{error}] Going for a retry,",
		"Subscribing failed and is tried again")
	// SubscribingFailed is row 11, in the form of the cloud: the one without a retry that does not follow.
	SubscribingFailed = event(slog.LevelWarn, subscriptions,
		"Service request exception occured  for userId [{u}], Inner exception message [{error}]", "Exchange did not make a subscription")
	// DiscoveryFailed is row 12.
	DiscoveryFailed = event(slog.LevelWarn, subscriptions,
		"Exception while auto discovery occured for userId [{u}], Exception Message [{error}] , Exception [], Inner Exception [], Autodiscover url used []",
		"Autodiscover found no endpoint")
	// Subscribed is row 13.
	Subscribed = event(slog.LevelInfo, subscribeRetries,
		"User [{u}] subscribed with subscriptionId [{subscriptionId}]", "The user is subscribed")
	// RegistrationProcessed is row 14.
	RegistrationProcessed = event(slog.LevelDebug, controller+"RegisterDeviceV2",
		"Register device request processed. HttpStatusCode:[{httpStatus}] ResponseCode:[{responseCode}]", "A device has registered, or has not")
	// SubscriptionForced is row 15; True where the device asks for a new subscription.
	SubscriptionForced = event(slog.LevelDebug, registerBusiness,
		"ForceSubscription : [{force}]", "The device says whether it wants a new subscription")
	// UnregisterRequested is row 35.
	UnregisterRequested = event(slog.LevelDebug, controller+"Unregister",
		"Processing Unregister request. UserId:[{u}]", "A device unregisters")
	// Unregistered is row 36.
	Unregistered = event(slog.LevelDebug, business+"UnregisterBusiness.ProcessUnregisterRequestAsync",
		"Device Unregistered for user:[{u}]", "A device was unregistered")
	// UnregisterProcessed is row 37.
	UnregisterProcessed = event(slog.LevelDebug, controller+"Unregister",
		"Unregister request processed. HttpStatusCode:[{httpStatus}] ResponseCode:[{responseCode}]", "A device has unregistered, or has not")
	// TokenRefused is row 38.
	TokenRefused = event(slog.LevelWarn, business+"ApiKeyRepository.ValidateAsync",
		"ApiKey header present [{present}], Value Empty/Null: [{empty}] API key dictionary has keys:[{hasKeys}] Key: [{key}]",
		"A call without the tenant's API token was refused")
	// TokenShown is row 39, in the method of the call.
	TokenShown = event(slog.LevelDebug, controller,
		"user Id [{u}] API token : [{token}]", "This API token was refused")
	// Unauthorized is row 40, in the method of the call.
	Unauthorized = event(slog.LevelWarn, controller,
		"Error Code:'{code}' Error message: '{name}'", "A call was not authorized")
	// TokensNotLoaded is row 41: the file with the tokens' hashes, which is where the original had a table.
	TokensNotLoaded = event(slog.LevelError, provider+"ApiTokensDataHandler.ApiTokensAsync",
		"Error While loading the api tokens Exception [{error}] StackTrace[]", "The API tokens could not be loaded").begins(openingBlank)
)

// Exchange's posts, and what becomes of them.
var (
	// EventReceived is row 16, once for each kind of event in a post.
	EventReceived = event(slog.LevelDebug, notificationParser,
		"Received [{event}] for subscription: [{subscriptionId}]", "Exchange has posted")
	// StatusReceived is row 17.
	StatusReceived = event(slog.LevelDebug, pushNotifications+"HandleExchangeEvents",
		"Status event received for user: [{u}]", "The subscription lives")
	// SubscriptionOutdated is row 18.
	SubscriptionOutdated = event(slog.LevelInfo, notificationParser,
		"This {subscriptionId} is old subscription for user {u}, sending unsubscribe response", "A post of an outdated subscription is answered Unsubscribe")
	// UnsubscribeSent is row 19.
	UnsubscribeSent = event(slog.LevelDebug, notificationParser,
		"Sent Unsubscribe response to EWS successfully for subscriptionId: [{subscriptionId}]", "Unsubscribe was answered")
	// UnsubscribeProcessed is row 20.
	UnsubscribeProcessed = event(slog.LevelDebug, pushNotifications+"ProcessPushNotificationV2Async",
		"ProcessNotificationResponse.IsUnSubscribeResponse is true", "The post is done with")
	// Counting is row 21.
	Counting = event(slog.LevelDebug, business+"UnreadCountExchangeBusiness.GetUnReadCountV2",
		"EWSUrl used to get unread count: [{ewsUrl}]", "Exchange is asked for the unread count")
	// NewMail is row 22, for a mail that is to be told.
	NewMail = event(slog.LevelInfo, pushNotifications+"HandleNewMailEvent",
		"Received new mail event for user [{u}] with BADGE count [{unread}]", "New mail is to be told")
	// Fetching is the first half of row 23.
	Fetching = event(slog.LevelDebug, mailFetcher,
		"EWSUrl used to sync email: [{ewsUrl}]", "Exchange is asked for the mail")
	// Fetched is the second half of row 23.
	Fetched = event(slog.LevelDebug, mailFetcher, "Fetched email", "The mail was fetched")
	// BadgeUpdated is row 24.
	BadgeUpdated = event(slog.LevelInfo, pushNotifications+"HandleMoveModifiedEventAsync",
		"-BADGE UPDATE- [{unread}] previous BADGE count is [{previous}] Received modified event for user [{u}]", "The mailbox has changed")
)

// Notifications. A device's id is the small number (N-10).
var (
	// Posting is row 25.
	Posting = event(slog.LevelInfo, business+"NotificationsProcessor.AddNotificationToBatch",
		"About to Post Notification for user : [{u}] and Device Id : [{device}]", "A notification is about to be sent")
	// UnreadTold is row 26, whatever kind the push provider is.
	UnreadTold = event(slog.LevelInfo, composer,
		"Total unread count retrieved [{unread}] for user [{u}]", "The notification has an unread count")
	// Sending is row 27, whatever kind the push provider is.
	Sending = event(slog.LevelDebug, composer,
		"Sending to :: User : [{u}], DeviceId : [{device}], DeviceLogId : [{deviceLogId}], Message :  messageId: [{messageId}]", "A notification is composed")
	// CNSAddress is row 28.
	CNSAddress = event(slog.LevelDebug, business+"CNSHelper.CreateWebRequest",
		"CNS Url : [{url}]", "CNS is called").begins(openingNobody)
	// CNSSigning is row 29, for each notification, although a signature serves for many.
	CNSSigning = event(slog.LevelDebug, business+"CertificateHelper.ComputeCmsSignature",
		"Signing URL [{path}] with Cert [CN={certificate}]", "CNS is shown a signature of the path").begins(openingNobody)
	// CNSAnswered is row 30. Only a success is shown: a refusal may quote what was sent.
	CNSAnswered = event(slog.LevelDebug, cnsAnswer,
		`Response {answer}`, "CNS has answered").begins(openingNobody)
	// CNSAccepted is row 31.
	CNSAccepted = event(slog.LevelInfo, cnsAnswer, "ResponseCode OK", "CNS accepted the notification").begins(openingNobody)
	// CNSFailed is row 32, with the service's own word for the reason in place of its answer.
	CNSFailed = event(slog.LevelError, cnsAnswer,
		"Failed To Post to CNS [{url}] Error: [{error}] Response: [{reason}]", "CNS did not accept the notification").begins(openingNobody)
	// SNSSending is row 33.
	SNSSending = event(slog.LevelInfo, sns+"PostNotifications",
		"Sending notification via SNS", "A notification is sent through SNS")
	// SNSSent is row 34.
	SNSSent = event(slog.LevelInfo, sns+"PushNotificationViaSNS",
		"Notification successfully sent via SNS for [{device}]", "SNS accepted the notification")
)

const (
	// shownTokenPart is how many characters of a token's beginning and end are shown (P-32).
	shownTokenPart = 5
	// shortToken is the length below which the ends would be too much of it.
	shortToken = 20
	stars      = "*********"
)

// Mask shows a token as the original does: its first and last five characters (P-32). Of a short one nothing is shown.
func Mask(token string) string {
	if len(token) < shortToken {
		return strings.Repeat("*", 2*shownTokenPart+len(stars))
	}
	return token[:shownTokenPart] + stars + token[len(token)-shownTokenPart:]
}

// MaskKey is Mask in the form of row 38.
func MaskKey(token string) string {
	if len(token) < shortToken {
		return "*****:*****"
	}
	return token[:shownTokenPart] + ":" + token[len(token)-shownTokenPart:]
}
