package cnstest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

const maxBody = 64 << 10

// Notification is what a phone gets: of Apple or of Google.
type Notification struct {
	// Apple is nil for an Android phone, Google for an iPhone.
	Apple  *apnstest.Notification
	Google *fcmtest.Message
	// AppID and Environment are what the request named.
	AppID, Environment string
}

// Notifications returns what a phone was sent, in order.
func (s *Server) Notifications(token string) []Notification { return s.received.List(token) }

// Wait returns like Notifications as soon as the phone was sent n in all, or when ctx ends.
func (s *Server) Wait(ctx context.Context, token string, n int) ([]Notification, error) {
	return s.received.Wait(ctx, token, n)
}

// serve answers a request. Seen holds the signatures so far.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, seen map[string]bool) {
	number := s.begin()
	defer s.count(func(stats *Stats) { stats.Finish() })
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if fault := s.FaultFor(Request{Number: number}); fault != nil {
		fault.Do(w, r, nil)
		return
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	header := r.Header.Get("Authorization")
	switch {
	case r.Method != http.MethodPost || r.URL.Path != Path || r.URL.RawQuery != "":
		s.refuse(w, http.StatusNotFound, 0, "no such address")
		return
	case err != nil:
		s.refuse(w, http.StatusRequestEntityTooLarge, 0, "the body is too large")
		return
	case media != "application/json":
		s.refuse(w, http.StatusUnsupportedMediaType, 0, "the content type is not JSON")
		return
	}
	if err := checkSignature(header, r.URL.EscapedPath(), s.authority.Pool, s.options.Clock.Now()); err != nil {
		const signerNotTrusted = 2007
		s.options.Logf("fake CNS does not accept a signature: %v", err)
		s.refuse(w, http.StatusUnauthorized, signerNotTrusted,
			"Unable to verify if the signer cert as trusted. The associated request id is "+uuid.NewString()+".")
		return
	}
	s.mu.Lock()
	if !seen[header] {
		seen[header] = true
		s.stats.Signatures++
	}
	s.mu.Unlock()
	n, token, wrong := readRequest(body)
	if wrong != "" {
		s.refuse(w, http.StatusBadRequest, 0, wrong)
		return
	}
	s.deliver(w, token, n)
}

// begin counts a request that is worked on, and returns its number.
func (s *Server) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Begin()
}

// request is the body, as far as it may be used.
type request struct {
	Platform    string          `json:"platform"`
	DeviceToken string          `json:"deviceToken"`
	AppID       string          `json:"appId"`
	Environment string          `json:"environment"`
	APNs        *apnsRequest    `json:"apns"`
	FCM         json.RawMessage `json:"fcm"`
}

type apnsRequest struct {
	PushType   string          `json:"pushType"`
	Priority   int             `json:"priority"`
	Expiration *int64          `json:"expiration"`
	CollapseID string          `json:"collapseId"`
	Payload    json.RawMessage `json:"payload"`
}

// readRequest reads a body, and says what is wrong with it if something is.
func readRequest(body []byte) (n Notification, token, wrong string) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var sent request
	if err := decoder.Decode(&sent); err != nil || decoder.More() {
		return n, "", "the body is no JSON, or has a field that is unknown or of a wrong type"
	}
	n = Notification{AppID: sent.AppID, Environment: sent.Environment}
	isIPhone := sent.Platform == "iOS"
	switch {
	case sent.DeviceToken == "":
		return n, "", "no device token"
	case !isIPhone && sent.Platform != "Android":
		return n, "", "no such platform"
	case (sent.APNs != nil) != isIPhone || (sent.FCM != nil) == isIPhone:
		return n, "", "want apns for an iPhone and fcm for an Android phone"
	case isIPhone && sent.Environment != "production" && sent.Environment != "sandbox", !isIPhone && sent.Environment != "":
		return n, "", "want the environment of an iPhone's token"
	}
	var err error
	if isIPhone {
		n.Apple, err = judgeApple(sent)
	} else {
		n.Google, err = judgeGoogle(sent)
	}
	if err != nil {
		return n, "", err.Error()
	}
	return n, sent.DeviceToken, ""
}

func judgeApple(sent request) (*apnstest.Notification, error) {
	header := map[string]string{
		"apns-push-type": sent.APNs.PushType, "apns-priority": strconv.Itoa(sent.APNs.Priority), "apns-topic": sent.AppID,
	}
	if sent.APNs.CollapseID != "" {
		header["apns-collapse-id"] = sent.APNs.CollapseID
	}
	if sent.APNs.Expiration != nil {
		header["apns-expiration"] = strconv.FormatInt(*sent.APNs.Expiration, 10)
	}
	if sent.AppID == "" {
		header["apns-topic"] = "the only app's"
	}
	n, err := apnstest.Judge(header, sent.APNs.Payload)
	return &n, err
}

func judgeGoogle(sent request) (*fcmtest.Message, error) {
	var message map[string]any
	if err := json.Unmarshal(sent.FCM, &message); err != nil {
		return nil, err
	}
	message["token"] = sent.DeviceToken
	passed, err := json.Marshal(map[string]any{"message": message})
	if err != nil {
		return nil, err
	}
	m, err := fcmtest.Judge(passed)
	return &m, err
}

// deliver hands a valid notification to the phone it is for, or says that the app is gone.
func (s *Server) deliver(w http.ResponseWriter, token string, n Notification) {
	s.mu.Lock()
	registered := s.devices[token]
	whim := !s.options.Calm && s.whims.IntN(2) == 0
	if registered {
		s.stats.Accepted++
	}
	s.mu.Unlock()
	content := map[string]any{"status": "success", "errorReason": nil}
	if registered {
		s.received.Add(token, n)
	} else {
		content = map[string]any{"status": "failure", "errorReason": "Unregistered"}
	}
	if whim {
		content["requestId"] = uuid.NewString()
		w.Header().Set("Connection", "close")
	}
	writeJSON(w, http.StatusOK, content)
}

// refuse writes the service's error document (C-04).
func (s *Server) refuse(w http.ResponseWriter, status, code int, message string) {
	s.options.Logf("fake CNS answers %d: %s", status, message)
	content := map[string]any{"message": message}
	if code != 0 {
		content["code"] = code
	}
	writeJSON(w, status, content)
}

func writeJSON(w http.ResponseWriter, status int, content any) {
	encoded, err := json.Marshal(content)
	if err != nil {
		panic("cnstest: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}
