package protocol_test

import (
	"testing"

	"github.com/ens-operator/ens-operator/runtime/protocol"
)

// The original's guide lists 23 codes, one of which, 21 EmailFetchfailed, no call is answered. Its spellings are odd and
// are kept: administrators search their logs for them.
func TestResponseCodesAreSpelledAsInTheOriginal(t *testing.T) {
	t.Parallel()
	names := map[protocol.Code]string{
		3:  "UpdateSuccess",
		4:  "UpdateFail",
		5:  "TokenDoesNotExists",
		6:  "UserAlreadySubscribed",
		7:  "UserSubscribed",
		8:  "ErrorSubscribeOrUpdateDb",
		9:  "NoRecordExists",
		14: "SubscribeAgain",
		15: "UserSubscribedNotUpdatedInDb",
		16: "FailedToGetEwsUrlFromAutoDiscovery",
		17: "Success",
		23: "UnAuthorizedRequest",
		24: "DeviceUnregisteredUserUnsubscribed",
		25: "DeviceUnregistered",
		26: "DeviceNotRegistered",
		28: "UserSubscriptionNotFound",
		29: "UserRecordPresentNotSubscribed",
		30: "SubscribedNeedsUpdate",
		32: "Failed",
		34: "InvalidDecryptedPayload",
		35: "EWSUrlMismatch",
		36: "InvalidAuthType",
	}
	const beyond = 100
	for code := protocol.Code(-1); code < beyond; code++ {
		if got := code.String(); got != names[code] {
			t.Errorf("%d is %q, want %q", int(code), got, names[code])
		}
	}
}
