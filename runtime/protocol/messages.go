// Package protocol is what Boxer sees: the JSON types, the response codes, and the HTTP handlers of its calls
// (protocol.md). The types stand here with no logic behind them, so that an adapter for a Boxer that speaks differently
// has one place to change.
package protocol

// Version is the four-part version that every answer carries (P-18).
const Version = "1.0.0.0"

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
	// Credentials is base64 ciphertext under the user's public key.
	Credentials string `json:"credentials"`
	AuthType    int    `json:"authType"`
	Encryption  string `json:"encryption"`
	KeyID       string `json:"keyId"`
	// Email is base64 ciphertext under the same key.
	Email              string `json:"email"`
	EWSURL             string `json:"ewsUrl"`
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
}

// RegisterResponse answers it; the extra fields stand only in a success.
type RegisterResponse struct {
	Envelope
	DeviceRef      int64  `json:"deviceRef,omitempty"`
	SubscriptionID string `json:"subscriptionId,omitempty"`
	CheckInSeconds int    `json:"checkInSeconds,omitempty"`
}

// UnregisterRequest removes a device (P-11).
type UnregisterRequest struct {
	UserID      string `json:"userId"`
	DeviceID    string `json:"deviceId"`
	DeviceToken string `json:"deviceToken"`
	EWSURL      string `json:"ewsUrl"`
}

// StatusRequest asks whether a device is subscribed (P-13).
type StatusRequest struct {
	UserID   string `json:"userId"`
	DeviceID string `json:"deviceId"`
}

// StatusResponse answers it.
type StatusResponse struct {
	Envelope
	Subscribed bool `json:"subscribed"`
	// LastCallback is when Exchange last posted for the user, RFC 3339 in UTC, or null.
	LastCallback  *string `json:"lastCallback"`
	NeedsRegister bool    `json:"needsRegister"`
}
