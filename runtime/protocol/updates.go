package protocol

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

var (
	errSecret     = errors.New("deviceSecret: is missing or wrong; the device has to register again")
	errNoDevice   = errors.New("the device is not registered")
	errNoUpdate   = errors.New("there is no subscription that this device made with rsa-split")
	errNoUser     = errors.New("the user is not known")
	errSequence   = errors.New("sequence: must be larger than the last")
	errTokenLimit = errors.New("deviceToken: has been changed too often today")
)

func wrongSecret() reply {
	return reply{status: http.StatusUnauthorized, code: UnAuthorizedRequest, err: errSecret}
}

// secretHash is how a device secret is kept; nil for none.
func secretHash(secret string) []byte {
	if secret == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// deviceSecret keeps the secret that the device has, or makes one. A registration needs none, since it proves more: the
// credential. So a device that has lost its secret gets another.
func (h *Handler) deviceSecret(ctx context.Context, hash [sha256.Size]byte, r RegisterRequest, device *store.Device) string {
	secret := r.DeviceSecret
	if secret != "" {
		if _, err := h.store.Identify(ctx, hash, r.DeviceID, secretHash(secret)); err != nil {
			secret = ""
		}
	}
	device.SecretUsed = secret != ""
	if secret == "" {
		secret = rand.Text()
	}
	device.SecretHash = sha256.Sum256([]byte(secret))
	return secret
}

// identify finds the device that a call is about. absent is the code for one that is not there.
func (h *Handler) identify(ctx context.Context, hash [sha256.Size]byte, deviceID, secret string, absent reply) (store.Identity, *reply) {
	if err := errors.Join(checkDeviceID(deviceID), checkOptional("deviceSecret", secret, maxShortText)); err != nil {
		return store.Identity{}, new(malformed(err))
	}
	device, err := h.store.Identify(ctx, hash, deviceID, secretHash(secret))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return device, &absent
	case errors.Is(err, store.ErrSecret):
		return device, new(wrongSecret())
	case err != nil:
		return device, new(h.databaseFault(ctx, UpdateFail, err))
	}
	return device, nil
}

func noDevice() reply {
	return reply{status: http.StatusNotFound, code: TokenDoesNotExists, err: errNoDevice}
}

func noRecord(err error) reply {
	return reply{status: http.StatusNotFound, code: NoRecordExists, err: err}
}

func (h *Handler) updateDeviceToken(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request UpdateTokenRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	if request.DeviceToken == "" {
		return malformed(errors.New("deviceToken: is missing"))
	}
	if err := checkOptional("deviceToken", request.DeviceToken, maxDeviceToken); err != nil {
		return malformed(err)
	}
	device, refusal := h.identify(ctx, hash, request.DeviceID, request.DeviceSecret, noDevice())
	if refusal != nil {
		return *refusal
	}
	if err := checkToken(device.Platform, request.DeviceToken); err != nil {
		return malformed(err)
	}
	err := h.store.ChangeToken(ctx, device.Ref, request.DeviceToken, h.clock.Now())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noDevice()
	case errors.Is(err, store.ErrTooManyChanges):
		h.log.WarnContext(ctx, "A device's token was to be changed too often", "audit", true, "device", device.Ref)
		return reply{status: http.StatusTooManyRequests, code: Failed, err: errTokenLimit, retryAfter: time.Hour}
	case err != nil:
		return h.databaseFault(ctx, UpdateFail, err)
	}
	h.log.InfoContext(ctx, "A device's token was changed", "audit", true, "device", device.Ref)
	h.note(ctx, device.UserID, store.ActivityTokenChanged, "")
	return reply{status: http.StatusOK, code: UpdateSuccess}
}

func (h *Handler) updateSyncKey(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request UpdateSyncKeyRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	if err := checkOptional("syncKey", request.SyncKey, maxSyncKey); err != nil {
		return malformed(err)
	}
	if request.DeviceID != "" {
		if _, refusal := h.identify(ctx, hash, request.DeviceID, request.DeviceSecret, noRecord(errNoDevice)); refusal != nil {
			return *refusal
		}
	}
	err := h.store.ChangeSyncKey(ctx, hash, request.SyncKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noRecord(errNoUser)
	case err != nil:
		return h.databaseFault(ctx, UpdateFail, err)
	}
	return reply{status: http.StatusOK, code: UpdateSuccess}
}

func (h *Handler) updateSettings(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request UpdateSettingsRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	if err := checkSettings(request); err != nil {
		return malformed(err)
	}
	device, refusal := h.identify(ctx, hash, request.DeviceID, request.DeviceSecret, noDevice())
	if refusal != nil {
		return *refusal
	}
	err := h.store.ChangeSettings(ctx, device.Ref, store.Settings{
		Policy: request.NotificationPolicy, Sound: request.Sound, Badge: request.Badge, Locale: request.Locale,
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noDevice()
	case err != nil:
		return h.databaseFault(ctx, UpdateFail, err)
	}
	return reply{status: http.StatusOK, code: UpdateSuccess}
}

func checkSettings(r UpdateSettingsRequest) error {
	if r.Sound != nil {
		if err := checkOptional("sound", *r.Sound, maxShortText); err != nil {
			return err
		}
	}
	if r.Locale != nil {
		if err := checkOptional("locale", *r.Locale, maxShortText); err != nil {
			return err
		}
	}
	return checkPolicy(r.NotificationPolicy)
}

func (h *Handler) updateCredentials(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request UpdateCredentialsRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	switch {
	case request.Credentials == "":
		return malformed(errors.New("credentials: is missing"))
	case request.Sequence <= 0:
		return malformed(errSequence)
	}
	if err := checkOptional("credentials", request.Credentials, maxPayload); err != nil {
		return malformed(err)
	}
	device, refusal := h.identify(ctx, hash, request.DeviceID, request.DeviceSecret, noRecord(errNoUpdate))
	if refusal != nil {
		return *refusal
	}
	err := h.store.OfferCredential(ctx, device.UserID, request.DeviceID, request.Sequence, request.Credentials)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noRecord(errNoUpdate)
	case errors.Is(err, store.ErrSequence):
		return malformed(errSequence)
	case err != nil:
		return h.databaseFault(ctx, UpdateFail, err)
	}
	return reply{status: http.StatusOK, code: UpdateSuccess}
}
