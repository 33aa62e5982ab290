package protocol

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/requestid"
)

// methods are the original's methods that serve the calls, as its log names them. Those of the calls that no document
// shows are made after the others.
var methods = map[string]string{
	"getpublickey":      "GetPublicKey",
	"registerdevicev2":  "RegisterDeviceV2",
	"registerdevice":    "RegisterDevice",
	"unregister":        "Unregister",
	"status":            "Status",
	"updatedevicetoken": "UpdateDeviceToken",
	"updatesynckey":     "UpdateSyncKey",
	"updatesettings":    "UpdateSettings",
	"updatecredentials": "UpdateCredentials",
}

// processed are the lines with which the original ends a call.
var processed = map[string]*enslog.Event{
	"getpublickey":     enslog.PublicKeyProcessed,
	"registerdevicev2": enslog.RegistrationProcessed,
	"registerdevice":   enslog.RegistrationProcessed.In(methods["registerdevice"]),
	"unregister":       enslog.UnregisterProcessed,
}

// logAnswer logs what a call was answered.
func (h *Handler) logAnswer(ctx context.Context, name string, a reply) {
	if event := processed[name]; event != nil {
		event.Log(ctx, h.log, statusName(a.status), a.code.String())
	}
}

// statusName is .NET's name of a status, e.g. InternalServerError.
func statusName(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

// trueOrFalse is .NET's spelling.
func trueOrFalse(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// maxRefusedBody is how much is read of a call that is refused, to find out whose it is.
const maxRefusedBody = 16 << 10

// logRefusal logs a call without the right API token, and whose it is (P-21, P-32, L-19).
func (h *Handler) logRefusal(ctx context.Context, r *http.Request, name, token string, hasKeys bool) {
	if !h.log.Enabled(ctx, slog.LevelWarn) {
		return
	}
	var request struct {
		UserID string `json:"userId"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRefusedBody))
	if err == nil && json.Unmarshal(body, &request) == nil {
		if hash, err := credential.ParseUserID(request.UserID); err == nil {
			requestid.Identify(ctx, hex.EncodeToString(hash[:]))
		}
	}
	present := len(r.Header.Values("ApiToken"))+len(r.Header.Values("ApiKey")) > 0
	shown, key := "", ""
	if token != "" {
		shown, key = enslog.Mask(token), enslog.MaskKey(token)
	}
	enslog.TokenRefused.Log(ctx, h.log, trueOrFalse(present), trueOrFalse(token == ""), trueOrFalse(hasKeys), key)
	enslog.TokenShown.In(methods[name]).Log(ctx, h.log, shown)
	enslog.Unauthorized.In(methods[name]).Log(ctx, h.log, strconv.Itoa(int(UnAuthorizedRequest)), UnAuthorizedRequest.String())
}
