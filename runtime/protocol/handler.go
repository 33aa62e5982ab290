package protocol

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/keypool"
	"github.com/ens-operator/ens-operator/runtime/registration"
	"github.com/ens-operator/ens-operator/runtime/store"
	"github.com/ens-operator/ens-operator/runtime/tenant"
	"github.com/ens-operator/ens-operator/runtime/tracing"
	"github.com/ens-operator/ens-operator/runtime/turns"
)

const (
	// maxBody is the largest body of Boxer's calls (protocol.md, General).
	maxBody = 256 << 10
	// callTimeout bounds a call as a whole: a registration with its retries at Exchange is the longest.
	callTimeout = 60 * time.Second
)

// Handler serves Boxer's calls below any base path. It expects the base path to be taken off and the rest in lower case.
type Handler struct {
	tenant       func() *tenant.Tenant
	store        *store.Store
	pool         *keypool.Pool
	registration *registration.Service
	nudger       Nudger
	clock        clock.WithTickerAndDelayedExecution
	log          *slog.Logger
	version      string
	limits       *limits
	lines        *lines
	outOfLine    turns.Turns
	users        *userCount
	answers      *prometheus.CounterVec
	calls        map[string]call
}

// Options are a Handler's parts. Tenant is asked for each call, because it may be reloaded. Version is the build's, as in
// 1.2.3.
type Options struct {
	Version      string
	Tenant       func() *tenant.Tenant
	Store        *store.Store
	Pool         *keypool.Pool
	Registration *registration.Service
	Nudger       Nudger
	Clock        clock.WithTickerAndDelayedExecution
	Logger       *slog.Logger
	Registry     prometheus.Registerer
}

// Nudger asks a user's devices to register again, by a silent push.
type Nudger interface {
	Nudge(ctx context.Context, t *tenant.Tenant, userID, generation int64, userHash [sha256.Size]byte)
}

// call is one of Boxer's calls: it decodes its body and says what to answer.
type call func(ctx context.Context, t *tenant.Tenant, body []byte) reply

// reply is an answer before the envelope's constant fields are filled in.
type reply struct {
	status     int
	code       Code
	err        error
	retryAfter time.Duration
	// message is the answer's type with its further fields, nil for a bare envelope.
	message interface{ envelope() *Envelope }
}

func (e *Envelope) envelope() *Envelope { return e }

// NewHandler makes a Handler.
func NewHandler(o Options) *Handler {
	h := &Handler{
		tenant: o.Tenant, store: o.Store, pool: o.Pool, registration: o.Registration, nudger: o.Nudger, clock: o.Clock, log: o.Logger,
		version: fourParts(o.Version), limits: newLimits(o.Clock), lines: newLines(), users: &userCount{count: o.Store.CountUsers},
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ens_boxer_answers_total", Help: "Answers to Boxer's calls, by call and response code.",
		}, []string{"call", "code"}),
	}
	h.calls = map[string]call{
		"getpublickey":      h.getPublicKey,
		"registerdevicev2":  h.registerDevice,
		"registerdevice":    h.registerDevice,
		"unregister":        h.unregister,
		"status":            h.status,
		"updatedevicetoken": h.updateDeviceToken,
		"updatesynckey":     h.updateSyncKey,
		"updatesettings":    h.updateSettings,
		"updatecredentials": h.updateCredentials,
	}
	o.Registry.MustRegister(h.answers, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ens_boxer_waiting", Help: "Boxer's calls that wait for those before them.",
	}, func() float64 { return float64(h.lines.waiting.Load()) }))
	return h
}

// Serves reports whether there is a call of that name, other than alive.
func (h *Handler) Serves(name string) bool { return h.calls[name] != nil }

// ServeCall serves the call of that name (lower case, no slashes). One that there is not is answered in the envelope too,
// since Boxer logs the JSON of every answer.
func (h *Handler) ServeCall(w http.ResponseWriter, r *http.Request, name string) {
	serve, known := h.calls[name]
	switch {
	case name == "alive":
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.methodNotAllowed(w, r, "GET, HEAD")
			return
		}
		h.answer(w, r, name, reply{status: http.StatusOK, code: Success})
	case !known: // its name is the caller's, and so no label of a metric
		h.answer(w, r, "unknown", reply{status: http.StatusNotFound, code: Failed, err: errUnknownCall})
	case r.Method != http.MethodPost:
		h.methodNotAllowed(w, r, http.MethodPost)
	default:
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		h.answer(w, r, name, h.guarded(ctx, r, name, serve))
	}
}

func (h *Handler) methodNotAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	err := errors.New("this call is made with the method " + allow)
	h.answer(w, r, "method", reply{status: http.StatusMethodNotAllowed, code: Failed, err: err})
}

var (
	errUnknownCall = errors.New("there is no such call")

	errToken   = errors.New("the API token is missing or wrong; the console's ENSAPIToken must be the tenant's token")
	errTooMany = errors.New("too many requests; come again later")
)

// guarded does what comes before every call: token, limit, body.
func (h *Handler) guarded(ctx context.Context, r *http.Request, name string, serve call) reply {
	t := h.tenant()
	token := r.Header.Get("ApiToken")
	if token == "" {
		token = r.Header.Get("ApiKey") // P-21
	}
	tokenID, accepted := t.Tokens.Accept(token, h.clock.Now())
	if !accepted {
		h.logRefusal(ctx, r, name, token, len(t.Tokens) > 0)
		return reply{status: http.StatusUnauthorized, code: UnAuthorizedRequest, err: errToken}
	}
	if wait := h.limits.tenant(t.Config.Limits); wait > 0 {
		return reply{status: http.StatusTooManyRequests, code: Failed, err: errTooMany, retryAfter: wait}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		err := errors.New("the body is larger than " + strconv.Itoa(maxBody) + " bytes")
		return reply{status: http.StatusRequestEntityTooLarge, code: Failed, err: err}
	}
	if err != nil {
		return malformed(errors.New("the body could not be read"))
	}
	if name != "registerdevicev2" && name != "registerdevice" { // which wait for their endpoint
		leave, refusal := h.enter(ctx, h.lines.calls)
		if refusal != nil {
			return *refusal
		}
		defer leave()
	}
	answer := serve(ctx, t, body)
	if answer.status == http.StatusOK && t.Tokens.Several(h.clock.Now()) {
		h.noteToken(ctx, body, tokenID)
	}
	return answer
}

// noteToken records which of several valid API tokens a device has just used, so that it is known who would be locked out
// when the older one ends. Best effort: the device comes again.
func (h *Handler) noteToken(ctx context.Context, body []byte, tokenID string) {
	var caller StatusRequest
	if decode(body, &caller) != nil || caller.DeviceID == "" {
		return // a call without a device
	}
	hash, err := credential.ParseUserID(caller.UserID)
	if err == nil {
		err = h.store.NoteAPIToken(ctx, hash, caller.DeviceID, tokenID)
	}
	if err != nil {
		h.log.WarnContext(ctx, "Which API token a device uses could not be recorded", "error", err)
	}
}

// malformed is 400/32. The error must not quote the body.
func malformed(err error) reply {
	return reply{status: http.StatusBadRequest, code: Failed, err: err}
}

// decode reads a body. encoding/json quotes values in some errors, so only the field is taken from them.
func decode(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errors.New("field " + kind.Field + ": wrong JSON type")
	}
	if err != nil {
		return errors.New("the body is not JSON")
	}
	return nil
}

// answer writes the envelope (P-16, P-17) and counts it.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, name string, a reply) {
	message := a.message
	if message == nil {
		message = &Envelope{}
	}
	envelope := message.envelope()
	*envelope = Envelope{ResponseCode: a.code, Version: h.version, EnvironmentType: h.tenant().Config.Server.EnvironmentType}
	if a.err != nil {
		envelope.ErrorMessage = new(a.err.Error())
	}
	body, err := json.Marshal(message)
	if err != nil { // cannot happen: the types hold nothing that JSON does not take
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if a.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a device that has hung up asks again
	}
	tracing.Conclude(r.Context(), a.code.String())
	h.answers.WithLabelValues(name, strings.ToLower(a.code.String())).Inc()
	if name != "alive" {
		h.logAnswer(r.Context(), name, a)
		h.log.InfoContext(r.Context(), "Request processed", "call", name, "status", a.status, "responseCode", a.code.String(), "error", a.err)
	}
}
