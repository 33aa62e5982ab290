package protocol

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// The lengths of what devices send, in bytes. The first three are contract (protocol.md, Forms); a short text is a
// name, a version or a locale, and a row with all of them stays below Postgres' limit for rows kept in line.
const (
	maxDeviceID    = 128
	maxDeviceToken = 4096
	maxSyncKey     = 1024
	maxShortText   = 128
	// A payload of one RSA block is 344 characters, one of 64 blocks 21,848; a blob of rsa-split may be longer.
	maxPayload = 32 << 10
)

const (
	maxPolicy     = 4
	defaultPolicy = 1
	defaultSound  = "default"
)

var (
	errEndpoint   = errors.New("ewsUrl: is not one of the tenant's endpoints")
	errNoEndpoint = errors.New("ewsUrl: is needed, because the tenant has several endpoints")
)

func isControl(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// check looks at the form of a registration, and picks endpoint and push provider. It asks nobody.
func check(t *tenant.Tenant, hash [sha256.Size]byte, r RegisterRequest) (registration.Request, *reply) {
	if err := checkTexts(r); err != nil {
		return registration.Request{}, new(malformed(err))
	}
	authType := credential.AuthType(r.AuthType)
	if r.AuthType < 0 || r.AuthType > int(credential.OAuthCBA) || !authType.Known() {
		err := errors.New("authType: must be 0 (Basic), 1 (OAuth), 2 (CBA), 3 (Basic and CBA) or 4 (OAuth and CBA)")
		return registration.Request{}, &reply{status: http.StatusBadRequest, code: InvalidAuthType, err: err}
	}
	device, err := device(t, r)
	if err != nil {
		return registration.Request{}, new(malformed(err))
	}
	endpoint, refusal := endpoint(t, r.EWSURL)
	if refusal != nil {
		return registration.Request{}, refusal
	}
	return registration.Request{
		UserHash: hash, Device: device, Email: r.Email, KeyID: r.KeyID, Endpoint: endpoint, Force: r.ForceSubscription,
		Payload: credential.Payload{
			Scheme: cmp.Or(credential.Scheme(r.Encryption), credential.RSAPKCS1), AuthType: authType,
			Credentials: r.Credentials, WrappedKey: r.WrappedKey,
			Binding: credential.Binding{UserHash: hash, DeviceID: r.DeviceID, Sequence: r.Sequence},
		},
	}, nil
}

func checkTexts(r RegisterRequest) error {
	if err := checkDeviceID(r.DeviceID); err != nil {
		return err
	}
	for _, required := range []struct{ field, text string }{
		{"deviceToken", r.DeviceToken}, {"platform", r.Platform}, {"credentials", r.Credentials},
	} {
		if required.text == "" {
			return errors.New(required.field + ": is missing")
		}
	}
	for _, text := range []struct {
		field, text string
		limit       int
	}{
		{"deviceToken", r.DeviceToken, maxDeviceToken},
		{"credentials", r.Credentials, maxPayload},
		{"email", r.Email, maxPayload},
		{"wrappedKey", r.WrappedKey, maxPayload},
		{"deviceSecret", r.DeviceSecret, maxShortText},
		{"keyId", r.KeyID, maxShortText},
		{"appId", r.AppID, maxShortText},
		{"sound", r.Sound, maxShortText},
		{"locale", r.Locale, maxShortText},
		{"deviceLogId", r.DeviceLogID, maxShortText},
		{"syncKey", r.SyncKey, maxSyncKey},
		{"appVersion", r.AppVersion, maxShortText},
		{"osVersion", r.OSVersion, maxShortText},
	} {
		if err := checkOptional(text.field, text.text, text.limit); err != nil {
			return err
		}
	}
	return errors.Join(checkScheme(r), checkPolicy(r.NotificationPolicy))
}

func checkScheme(r RegisterRequest) error {
	scheme := credential.Scheme(r.Encryption)
	switch {
	case r.Encryption != "" && !slices.Contains(credential.Schemes(), scheme):
		return errors.New("encryption: must be one of those that getpublickey names")
	case scheme == credential.RSASplit && r.WrappedKey == "":
		return errors.New("wrappedKey: is missing")
	case r.Sequence < 0:
		return errors.New("sequence: must not be negative")
	}
	return nil
}

func checkPolicy(policy *int) error {
	if policy != nil && (*policy < 0 || *policy > maxPolicy) {
		return fmt.Errorf("notificationPolicy: must be 0 to %d", maxPolicy)
	}
	return nil
}

func device(t *tenant.Tenant, r RegisterRequest) (store.Device, error) {
	platform := push.Platform(r.Platform)
	if platform != push.IOS && platform != push.Android {
		return store.Device{}, fmt.Errorf("platform: must be %s or %s", push.IOS, push.Android)
	}
	if err := checkToken(platform, r.DeviceToken); err != nil {
		return store.Device{}, err
	}
	environment := config.PushEnvironment(r.PushEnvironment)
	if environment != "" && environment != config.PushProduction && environment != config.PushSandbox {
		return store.Device{}, fmt.Errorf("pushEnvironment: must be %s or %s", config.PushProduction, config.PushSandbox)
	}
	provider, err := t.ProviderFor(platform, r.AppID, environment)
	if err != nil {
		return store.Device{}, err
	}
	device := store.Device{
		ID: r.DeviceID, Platform: platform, Token: r.DeviceToken, Provider: provider.Name, AppID: r.AppID,
		PushEnvironment: r.PushEnvironment, Policy: defaultPolicy, Sound: r.Sound, Badge: true, Locale: r.Locale,
		DeviceLogID: r.DeviceLogID, SyncKey: r.SyncKey, AppVersion: r.AppVersion, OSVersion: r.OSVersion,
	}
	if device.Sound == "" {
		device.Sound = defaultSound
	}
	if r.NotificationPolicy != nil {
		device.Policy = *r.NotificationPolicy
	}
	if r.Badge != nil {
		device.Badge = *r.Badge
	}
	return device, nil
}

func checkToken(platform push.Platform, token string) error {
	if _, err := hex.DecodeString(token); platform == push.IOS && err != nil {
		return errors.New("deviceToken: an APNs token is hexadecimal")
	}
	return nil
}

func endpoint(t *tenant.Tenant, address string) (*tenant.Endpoint, *reply) {
	if address == "" {
		if only := t.OnlyEndpoint(); only != nil {
			return only, nil
		}
		if t.Discoverer() != nil {
			return nil, nil // it is to be discovered
		}
		return nil, &reply{status: http.StatusConflict, code: FailedToGetEWSURLFromAutoDiscovery, err: errNoEndpoint}
	}
	if named := t.EndpointAt(address); named != nil {
		return named, nil
	}
	return nil, &reply{status: http.StatusForbidden, code: EWSURLMismatch, err: errEndpoint}
}
