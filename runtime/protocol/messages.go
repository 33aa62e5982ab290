// Package protocol is what Boxer sees: the JSON types, the response codes, and the HTTP handlers of its calls
// (protocol.md). The types stand here with no logic behind them, so that an adapter for a Boxer that speaks differently
// has one place to change.
package protocol

import (
	"strconv"
	"strings"
)

// versionParts is how many numbers the version of an answer has (P-18), versionBits how large each may be: whoever parses
// it takes them for signed integers.
const (
	versionParts = 4
	versionBits  = 31
)

// fourParts makes the version that every answer carries out of the build's, e.g. 1.2.3.0 out of v1.2.3-rc.1. What is no
// number counts as 0.
func fourParts(build string) string {
	build, _, _ = strings.Cut(strings.TrimPrefix(build, "v"), "-") // a pre-release
	build, _, _ = strings.Cut(build, "+")                          // and what else SemVer allows behind it
	given := strings.Split(build, ".")
	parts := make([]string, versionParts)
	for i := range parts {
		parts[i] = "0"
		if i >= len(given) {
			continue
		}
		if number, err := strconv.ParseUint(given[i], 10, versionBits); err == nil {
			parts[i] = strconv.FormatUint(number, 10)
		}
	}
	return strings.Join(parts, ".")
}

// Envelope is every answer's first four fields, in this order (P-16).
type Envelope struct {
	ResponseCode    Code    `json:"responseCode"`
	ErrorMessage    *string `json:"errorMessage"`
	Version         string  `json:"version"`
	EnvironmentType string  `json:"environmentType"`
}

// PublicKeyRequest asks for the key under which a user's credential is encrypted (P-06).
type PublicKeyRequest struct {
	UserID string `json:"userId"`
}

// PublicKeyResponse answers it.
type PublicKeyResponse struct {
	Envelope
	UserID string `json:"userId"`
	// PublicKey is the base64 DER SubjectPublicKeyInfo.
	PublicKey  string   `json:"publicKey"`
	KeyID      string   `json:"keyId"`
	KeySize    int      `json:"keySize"`
	Encryption []string `json:"encryption"`
}

// RegisterRequest registers a device and subscribes its user (P-09). protocol.md has the table of its fields.
type RegisterRequest struct {
	UserID      string `json:"userId"`
	DeviceID    string `json:"deviceId"`
	DeviceToken string `json:"deviceToken"`
	Platform    string `json:"platform"`
	// Credentials is base64 ciphertext, encrypted as Encryption says; WrappedKey and Sequence belong to rsa-split.
	Credentials string `json:"credentials"`
	AuthType    int    `json:"authType"`
	Encryption  string `json:"encryption"`
	WrappedKey  string `json:"wrappedKey"`
	Sequence    int64  `json:"sequence"`
	KeyID       string `json:"keyId"`
	// Email is base64 ciphertext under the same key.
	Email  string `json:"email"`
	EWSURL string `json:"ewsUrl"`
	// ExchangeVersion is the EWS Managed API's number (P-24). It is logged; what the server knows is found out.
	ExchangeVersion    *int   `json:"exchangeVersion"`
	NotificationPolicy *int   `json:"notificationPolicy"`
	ForceSubscription  bool   `json:"forceSubscription"`
	AppID              string `json:"appId"`
	PushEnvironment    string `json:"pushEnvironment"`
	Sound              string `json:"sound"`
	Badge              *bool  `json:"badge"`
	Locale             string `json:"locale"`
	DeviceLogID        string `json:"deviceLogId"`
	SyncKey            string `json:"syncKey"`
	AppVersion         string `json:"appVersion"`
	OSVersion          string `json:"osVersion"`
	DeviceSecret       string `json:"deviceSecret"`
}

// RegisterResponse answers it; the extra fields stand only in a success.
type RegisterResponse struct {
	Envelope
	DeviceRef      int64  `json:"deviceRef,omitempty"`
	SubscriptionID string `json:"subscriptionId,omitempty"`
	CheckInSeconds int    `json:"checkInSeconds,omitempty"`
	// DeviceSecret identifies the device from now on; once it has sent it, it must.
	DeviceSecret string `json:"deviceSecret,omitempty"`
}

// UnregisterRequest removes a device (P-11).
type UnregisterRequest struct {
	UserID       string `json:"userId"`
	DeviceID     string `json:"deviceId"`
	DeviceToken  string `json:"deviceToken"`
	EWSURL       string `json:"ewsUrl"`
	DeviceSecret string `json:"deviceSecret"`
}

// StatusRequest asks whether a device is subscribed (P-13).
type StatusRequest struct {
	UserID       string `json:"userId"`
	DeviceID     string `json:"deviceId"`
	DeviceSecret string `json:"deviceSecret"`
}

// StatusResponse answers it.
type StatusResponse struct {
	Envelope
	Subscribed bool `json:"subscribed"`
	// LastCallback is when Exchange last posted for the user, RFC 3339 in UTC, or null.
	LastCallback  *string `json:"lastCallback"`
	NeedsRegister bool    `json:"needsRegister"`
}

// UpdateTokenRequest changes a device's push token (P-14).
type UpdateTokenRequest struct {
	UserID       string `json:"userId"`
	DeviceID     string `json:"deviceId"`
	DeviceToken  string `json:"deviceToken"`
	DeviceSecret string `json:"deviceSecret"`
}

// UpdateSyncKeyRequest changes the user's synchronization key (P-15). The device may name itself.
type UpdateSyncKeyRequest struct {
	UserID       string `json:"userId"`
	SyncKey      string `json:"syncKey"`
	DeviceID     string `json:"deviceId"`
	DeviceSecret string `json:"deviceSecret"`
}

// UpdateSettingsRequest changes what a device is shown; fields that are not there stay as they are.
type UpdateSettingsRequest struct {
	UserID             string  `json:"userId"`
	DeviceID           string  `json:"deviceId"`
	NotificationPolicy *int    `json:"notificationPolicy"`
	Sound              *string `json:"sound"`
	Badge              *bool   `json:"badge"`
	Locale             *string `json:"locale"`
	DeviceSecret       string  `json:"deviceSecret"`
}

// UpdateCredentialsRequest brings a newer credential for the subscription that the device made with rsa-split.
type UpdateCredentialsRequest struct {
	UserID   string `json:"userId"`
	DeviceID string `json:"deviceId"`
	// Sequence must be larger than the last.
	Sequence int64 `json:"sequence"`
	// Credentials is the AES-256-GCM blob under the data key of the registration.
	Credentials  string `json:"credentials"`
	DeviceSecret string `json:"deviceSecret"`
}
