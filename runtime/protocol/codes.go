package protocol

// Code is a response code of the original. The numbers are contract.
type Code int

// The codes. String has the original's spelling.
const (
	UpdateSuccess                      Code = 3
	UpdateFail                         Code = 4
	TokenDoesNotExists                 Code = 5
	UserAlreadySubscribed              Code = 6
	UserSubscribed                     Code = 7
	ErrorSubscribeOrUpdateDB           Code = 8
	NoRecordExists                     Code = 9
	SubscribeAgain                     Code = 14
	UserSubscribedNotUpdatedInDB       Code = 15
	FailedToGetEWSURLFromAutoDiscovery Code = 16
	Success                            Code = 17
	UnAuthorizedRequest                Code = 23
	DeviceUnregisteredUserUnsubscribed Code = 24
	DeviceUnregistered                 Code = 25
	DeviceNotRegistered                Code = 26
	UserSubscriptionNotFound           Code = 28
	UserRecordPresentNotSubscribed     Code = 29
	SubscribedNeedsUpdate              Code = 30
	Failed                             Code = 32
	InvalidDecryptedPayload            Code = 34
	EWSURLMismatch                     Code = 35
	InvalidAuthType                    Code = 36
)

var codeNames = map[Code]string{
	UpdateSuccess:                      "UpdateSuccess",
	UpdateFail:                         "UpdateFail",
	TokenDoesNotExists:                 "TokenDoesNotExists",
	UserAlreadySubscribed:              "UserAlreadySubscribed",
	UserSubscribed:                     "UserSubscribed",
	ErrorSubscribeOrUpdateDB:           "ErrorSubscribeOrUpdateDb",
	NoRecordExists:                     "NoRecordExists",
	SubscribeAgain:                     "SubscribeAgain",
	UserSubscribedNotUpdatedInDB:       "UserSubscribedNotUpdatedInDb",
	FailedToGetEWSURLFromAutoDiscovery: "FailedToGetEwsUrlFromAutoDiscovery",
	Success:                            "Success",
	UnAuthorizedRequest:                "UnAuthorizedRequest",
	DeviceUnregisteredUserUnsubscribed: "DeviceUnregisteredUserUnsubscribed",
	DeviceUnregistered:                 "DeviceUnregistered",
	DeviceNotRegistered:                "DeviceNotRegistered",
	UserSubscriptionNotFound:           "UserSubscriptionNotFound",
	UserRecordPresentNotSubscribed:     "UserRecordPresentNotSubscribed",
	SubscribedNeedsUpdate:              "SubscribedNeedsUpdate",
	Failed:                             "Failed",
	InvalidDecryptedPayload:            "InvalidDecryptedPayload",
	EWSURLMismatch:                     "EWSUrlMismatch",
	InvalidAuthType:                    "InvalidAuthType",
}

// String is the name that logs show.
func (c Code) String() string { return codeNames[c] }
