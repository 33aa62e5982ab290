package protocol

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
)

// errDatabase hides the database's own words, which mean nothing to a phone; the log has them.
var errDatabase = errors.New("the database does not answer; come again later")

// errKeys is a fault of ours that only an administrator can mend.
var errKeys = errors.New("the tenant's keys do not open the user's key pair; an administrator has to restore the keys")

// userID checks a userId and takes one call of the user's allowance. The returned reply is the refusal, if any.
func (h *Handler) userID(ctx context.Context, t *tenant.Tenant, text string) (hash [sha256.Size]byte, refusal *reply) {
	hash, err := credential.ParseUserID(text)
	if err != nil {
		return hash, new(malformed(errors.New("userId: " + err.Error())))
	}
	requestid.Identify(ctx, hex.EncodeToString(hash[:]))
	if wait := h.limits.user(hash, t.Config.Limits); wait > 0 {
		return hash, &reply{status: http.StatusTooManyRequests, code: Failed, err: errTooMany, retryAfter: wait}
	}
	return hash, nil
}

// databaseFault is 500 with the code that the contract gives the call. The cause goes to the log.
func (h *Handler) databaseFault(ctx context.Context, code Code, cause error) reply {
	h.log.ErrorContext(ctx, "The database failed a request", "responseCode", code.String(), "error", cause)
	return reply{status: http.StatusInternalServerError, code: code, err: errDatabase}
}

func (h *Handler) getPublicKey(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request PublicKeyRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	enslog.PublicKeyRequested.Log(ctx, h.log)
	user, err := h.store.UserByHash(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		var refusal *reply
		if user, refusal = h.newUser(ctx, t, hash); refusal != nil {
			return *refusal
		}
	} else if err != nil {
		return h.publicKeyFault(ctx, err)
	}
	var schemes []string
	for _, scheme := range credential.Schemes() {
		schemes = append(schemes, string(scheme))
	}
	return reply{status: http.StatusOK, code: UpdateSuccess, message: &PublicKeyResponse{
		UserID:     request.UserID,
		PublicKey:  base64.StdEncoding.EncodeToString(user.Keys.Public),
		KeyID:      user.Keys.ID,
		KeySize:    credential.KeyBits,
		Encryption: schemes,
	}}
}

func (h *Handler) newUser(ctx context.Context, t *tenant.Tenant, hash [sha256.Size]byte) (store.User, *reply) {
	if wait := h.limits.newUser(t.Config.Limits); wait > 0 {
		return store.User{}, &reply{status: http.StatusTooManyRequests, code: Failed, err: errTooMany, retryAfter: wait}
	}
	count, err := h.users.get(ctx, h.clock.Now())
	if err != nil {
		return store.User{}, new(h.publicKeyFault(ctx, err))
	}
	if count >= int(t.Config.Limits.MaxUsers) {
		err := errors.New("the tenant has as many users as it may; an administrator can raise limits.maxUsers")
		return store.User{}, &reply{status: http.StatusTooManyRequests, code: Failed, err: err, retryAfter: time.Hour}
	}
	user, err := h.pool.NewUser(ctx, hash)
	if errors.Is(err, keypool.ErrExhausted) {
		return store.User{}, &reply{status: http.StatusServiceUnavailable, code: Failed, err: err, retryAfter: h.pool.RetryAfter()}
	}
	if err != nil {
		return store.User{}, new(h.publicKeyFault(ctx, err))
	}
	h.users.created()
	enslog.KeyGenerated.Log(ctx, h.log)
	return user, nil
}

func (h *Handler) publicKeyFault(ctx context.Context, cause error) reply {
	enslog.PublicKeyFailed.Log(ctx, h.log, cause.Error())
	return h.databaseFault(ctx, UpdateFail, cause)
}

func (h *Handler) unregister(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request UnregisterRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	enslog.UnregisterRequested.Log(ctx, h.log)
	if err := checkDeviceID(request.DeviceID); err != nil {
		return malformed(err)
	}
	if err := checkOptional("deviceToken", request.DeviceToken, maxDeviceToken); err != nil {
		return malformed(err)
	}
	endpoint := ""
	if request.EWSURL != "" {
		e := t.EndpointAt(request.EWSURL)
		if e == nil {
			return reply{status: http.StatusConflict, code: EWSURLMismatch, err: errEndpoint}
		}
		endpoint = e.Name
	}
	_, err := h.store.Identify(ctx, hash, request.DeviceID, secretHash(request.DeviceSecret))
	switch {
	case errors.Is(err, store.ErrSecret):
		return reply{status: http.StatusOK, code: DeviceNotRegistered} // a wiped device must not retry for ever (U-03)
	case err != nil && !errors.Is(err, store.ErrNotFound): // what is not there, the removal itself tells apart
		return h.databaseFault(ctx, UpdateFail, err)
	}
	removed, err := h.store.RemoveDevice(ctx, hash, request.DeviceID, request.DeviceToken, endpoint)
	if err != nil {
		return h.databaseFault(ctx, UpdateFail, err)
	}
	if removed.Orphaned != 0 {
		h.nudger.Nudge(ctx, t, removed.UserID, removed.Orphaned, hash)
	}
	if removed.Removal == store.RemovedDevice || removed.Removal == store.RemovedUser {
		enslog.Unregistered.Log(ctx, h.log)
	}
	switch removed.Removal {
	case store.RemovedDevice:
		h.note(ctx, removed.UserID, store.ActivityUnregistered, "")
		return reply{status: http.StatusOK, code: DeviceUnregistered}
	case store.RemovedUser:
		return reply{status: http.StatusOK, code: DeviceUnregisteredUserUnsubscribed}
	case store.UnknownUser:
		return reply{status: http.StatusOK, code: UserSubscriptionNotFound}
	case store.OtherEndpoint:
		return reply{status: http.StatusConflict, code: EWSURLMismatch, err: errEndpoint}
	default:
		return reply{status: http.StatusOK, code: DeviceNotRegistered}
	}
}

// note adds to a user's timeline, best effort.
func (h *Handler) note(ctx context.Context, userID int64, kind store.ActivityKind, detail string) {
	if err := h.store.Note(ctx, userID, kind, detail, h.clock.Now()); err != nil {
		h.log.WarnContext(ctx, "The user's timeline lacks an entry", "kind", string(kind), "error", err)
	}
}

func (h *Handler) status(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request StatusRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	if err := checkDeviceID(request.DeviceID); err != nil {
		return malformed(err)
	}
	_, err := h.store.Identify(ctx, hash, request.DeviceID, secretHash(request.DeviceSecret))
	switch {
	case errors.Is(err, store.ErrSecret):
		return wrongSecret()
	case err != nil && !errors.Is(err, store.ErrNotFound): // what is not there, the standing tells apart
		return h.databaseFault(ctx, UpdateFail, err)
	}
	standing, err := h.store.Standing(ctx, hash, request.DeviceID)
	if errors.Is(err, store.ErrNotFound) {
		return reply{status: http.StatusOK, code: UserSubscriptionNotFound, message: &StatusResponse{NeedsRegister: true}}
	}
	if err != nil {
		return h.databaseFault(ctx, UpdateFail, err)
	}
	code := h.standingCode(t.Config.Notifications, standing)
	message := &StatusResponse{Subscribed: standing.Subscribed && !standing.Refused, NeedsRegister: code != Success}
	if !standing.LastCallback.IsZero() {
		message.LastCallback = new(standing.LastCallback.UTC().Format(time.RFC3339))
	}
	return reply{status: http.StatusOK, code: code, message: message}
}

// standingCode is the contract's choice among 29, 26, 30 and 17. A subscription that has just been made counts as
// fresh: Exchange's first post is still under way. One that Exchange has stopped posting to counts as not subscribed.
func (h *Handler) standingCode(c config.Notifications, s store.Standing) Code {
	lost := 2 * c.StatusFrequency()
	fresh := s.Fresh(h.clock.Now(), lost) || h.clock.Since(s.PromotedAt) < lost
	alive := s.Subscribed && fresh && !s.Refused
	switch {
	case !alive && s.DeviceKnown:
		return UserRecordPresentNotSubscribed
	case !alive:
		return DeviceNotRegistered
	case !s.DeviceKnown:
		return SubscribedNeedsUpdate
	default:
		return Success
	}
}

func (h *Handler) registerDevice(ctx context.Context, t *tenant.Tenant, body []byte) reply {
	var request RegisterRequest
	if err := decode(body, &request); err != nil {
		return malformed(err)
	}
	hash, refusal := h.userID(ctx, t, request.UserID)
	if refusal != nil {
		return *refusal
	}
	enslog.RegistrationRequested.Log(ctx, h.log)
	checked, refusal := check(t, hash, request)
	if refusal != nil {
		return *refusal
	}
	leave, refusal := h.enter(ctx, h.lines.of(checked.Endpoint))
	if refusal != nil {
		return *refusal
	}
	defer leave()
	checked.ActivityID = requestid.From(ctx)
	if request.ExchangeVersion != nil {
		enslog.ExchangeVersionSent.Log(ctx, h.log, strconv.Itoa(*request.ExchangeVersion))
	}
	enslog.SubscriptionForced.Log(ctx, h.log, trueOrFalse(request.ForceSubscription))
	if request.EWSURL != "" {
		enslog.EWSURLSent.Log(ctx, h.log)
	}
	secret := h.deviceSecret(ctx, hash, request, &checked.Device)
	done, ok := h.limits.decrypting(hash)
	if !ok {
		return reply{status: http.StatusTooManyRequests, code: Failed, err: errTooMany, retryAfter: time.Minute}
	}
	defer done(false) // where it did not come to that
	checked.Decrypted = func(ok bool) {
		if done(!ok) {
			h.replaceKey(ctx, hash)
		}
	}
	result, err := h.registration.Register(ctx, t, checked)
	if err != nil {
		return h.refused(ctx, err)
	}
	code := UserAlreadySubscribed
	if result.New {
		code = UserSubscribed
	}
	return reply{status: http.StatusOK, code: code, message: &RegisterResponse{
		DeviceRef:      result.DeviceRef,
		SubscriptionID: result.SubscriptionID,
		CheckInSeconds: int((2 * t.Config.Notifications.StatusFrequency()).Seconds()),
		DeviceSecret:   secret,
	}}
}

// refused gives each way a registration can fail its code.
func (h *Handler) refused(ctx context.Context, err error) reply {
	conflict := func(code Code) reply { return reply{status: http.StatusConflict, code: code, err: err} }
	switch {
	case errors.Is(err, registration.ErrUnknownUser):
		return reply{status: http.StatusNotFound, code: NoRecordExists, err: registration.ErrUnknownUser}
	case errors.Is(err, credential.ErrUndecryptable):
		return reply{status: http.StatusBadRequest, code: InvalidDecryptedPayload, err: credential.ErrUndecryptable}
	case errors.Is(err, registration.ErrWrongKey):
		return reply{status: http.StatusBadRequest, code: InvalidDecryptedPayload, err: registration.ErrWrongKey}
	case errors.Is(err, registration.ErrProof), errors.Is(err, store.ErrOtherMailbox):
		h.log.WarnContext(ctx, "A credential was presented for a mailbox that is not its own",
			"audit", true, "error", err)
		return conflict(SubscribeAgain)
	case errors.Is(err, autodiscover.ErrNotLocated):
		return conflict(SubscribeAgain)
	case errors.Is(err, ews.ErrAuthType):
		return reply{status: http.StatusBadRequest, code: InvalidAuthType, err: err}
	case errors.Is(err, registration.ErrExchange):
		return conflict(SubscribeAgain)
	case errors.Is(err, registration.ErrNoEndpoint):
		return conflict(FailedToGetEWSURLFromAutoDiscovery)
	case errors.Is(err, credential.ErrUndecided):
		return reply{status: http.StatusServiceUnavailable, code: Failed, err: credential.ErrUndecided, retryAfter: keypool.RetryAfter}
	case errors.Is(err, store.ErrTooManyDevices):
		return reply{status: http.StatusTooManyRequests, code: Failed, err: store.ErrTooManyDevices, retryAfter: time.Hour}
	case errors.Is(err, credential.ErrSealBroken), errors.Is(err, credential.ErrUnknownKey):
		h.log.ErrorContext(ctx, "A user's key pair does not open; restore the tenant's keys", "error", err)
		return reply{status: http.StatusInternalServerError, code: ErrorSubscribeOrUpdateDB, err: errKeys}
	case errors.Is(err, registration.ErrNotRecorded):
		return h.databaseFault(ctx, UserSubscribedNotUpdatedInDB, err)
	default:
		return h.databaseFault(ctx, ErrorSubscribeOrUpdateDB, err)
	}
}

// replaceKey gives a user whose payloads keep failing another key pair, in case theirs is damaged or their device holds
// a wrong one. The old one goes on opening what was encrypted under it.
func (h *Handler) replaceKey(ctx context.Context, hash [sha256.Size]byte) {
	replaced, err := h.pool.ReplaceKey(ctx, hash)
	if err != nil {
		h.log.WarnContext(ctx, "A user's key pair could not be replaced", "error", err)
		return
	}
	if replaced {
		h.log.WarnContext(ctx, "A user's key pair was replaced after repeated failures to decrypt",
			"audit", true)
	}
}

func checkDeviceID(id string) error {
	if id == "" {
		return errors.New("deviceId: is missing")
	}
	return checkOptional("deviceId", id, maxDeviceID)
}

// checkOptional refuses what a batched statement or a header must not carry (protocol.md, rule 7 and Forms).
func checkOptional(field, text string, limit int) error {
	if len(text) > limit {
		return errors.New(field + ": is too long")
	}
	if strings.ContainsFunc(text, isControl) {
		return errors.New(field + ": has control characters")
	}
	return nil
}
