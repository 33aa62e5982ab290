package fcmtest

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
)

const (
	maxBody = 64 << 10
	// flakyShare is one in how many messages a flaky server refuses.
	flakyShare = 20

	fcmErrorType   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	badRequestType = "type.googleapis.com/google.rpc.BadRequest"
	errorInfoType  = "type.googleapis.com/google.rpc.ErrorInfo"
)

// send is messages:send.
func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	number := s.begin()
	defer s.count(func(stats *Stats) { stats.Finish() })
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.refuse(w, http.StatusRequestEntityTooLarge, "INVALID_ARGUMENT", "the body is too large")
		return
	}
	if fault := s.FaultFor(Request{Number: number}); fault != nil {
		if fault.LoseAnswer {
			s.judge(httptest.NewRecorder(), r, body, number)
			panic(http.ErrAbortHandler)
		}
		s.fail(w, r, fault)
		return
	}
	s.judge(w, r, body, number)
}

// judge delivers a message, or refuses it as Google does.
func (s *Server) judge(w http.ResponseWriter, r *http.Request, body []byte, number int) {
	if !s.admits(w, r) {
		return
	}
	sent, wrong := readMessage(body)
	if wrong != nil {
		s.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", wrong.why, fcmError("INVALID_ARGUMENT"), map[string]any{
			"@type": badRequestType, "fieldViolations": []map[string]string{{"field": wrong.field, "description": wrong.why}},
		})
		return
	}
	s.deliver(r.Context(), w, sent, number)
}

// begin counts a message that is worked on, and returns its number.
func (s *Server) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Begin()
}

// admits checks everything but the message, and answers if it is wrong.
func (s *Server) admits(w http.ResponseWriter, r *http.Request) bool {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	s.mu.Lock()
	sick := s.options.Flaky && s.whims.IntN(flakyShare) == 0
	s.mu.Unlock()
	switch {
	case r.PathValue("method") != "messages:send":
		s.refuse(w, http.StatusNotFound, "NOT_FOUND", "no such method")
	case !s.authorized(r):
		s.refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED",
			"Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
			map[string]any{"@type": errorInfoType, "reason": "ACCESS_TOKEN_EXPIRED", "domain": "googleapis.com"})
	case r.PathValue("project") != s.options.Project:
		s.refuse(w, http.StatusForbidden, "PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied on this resource (or it may not exist).")
	case media != "application/json":
		s.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "the content type is not JSON")
	case sick:
		w.Header().Set("Retry-After", "1")
		s.refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "The service is currently unavailable.", fcmError("UNAVAILABLE"))
	default:
		return true
	}
	return false
}

// deliver hands a valid message to the phone it is for, or refuses.
func (s *Server) deliver(ctx context.Context, w http.ResponseWriter, sent *sentMessage, number int) {
	s.mu.Lock()
	registered, known := s.devices[sent.Token]
	whim := !s.options.Calm && s.whims.IntN(2) == 0
	if registered {
		s.stats.Accepted++
	}
	s.mu.Unlock()
	switch {
	case !known:
		s.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", fcmError("INVALID_ARGUMENT"))
		return
	case !registered:
		s.refuse(w, http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.", fcmError("UNREGISTERED"))
		return
	}
	name := fmt.Sprintf("projects/%s/messages/0:%d", s.options.Project, number)
	if s.options.Observe != nil {
		s.options.Observe(sent.Token, asMessage(sent, name))
	} else {
		s.received.Add(sent.Token, asMessage(sent, name))
	}
	fake.Pause(ctx, s.options.MaxDelay)
	answer := map[string]any{"name": name}
	if whim {
		answer["futureField"] = map[string]int{"a client": 1, "must ignore": 2}
	}
	writeJSON(w, http.StatusOK, answer)
}

func fcmError(code string) map[string]any {
	return map[string]any{"@type": fcmErrorType, "errorCode": code}
}

// refuse writes Google's error document.
func (s *Server) refuse(w http.ResponseWriter, status int, canonical, why string, details ...map[string]any) {
	s.options.Logf("fake FCM answers %d %s: %s", status, canonical, why)
	content := map[string]any{"code": status, "message": why, "status": canonical}
	if len(details) > 0 {
		content["details"] = details
	}
	writeJSON(w, status, map[string]any{"error": content})
}

// fail does what a fault says.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, fault *Fault) {
	fault.Do(w, r, func() {
		var details []map[string]any
		if fault.Code != "" {
			details = append(details, fcmError(fault.Code))
		}
		s.refuse(w, fault.Status, fault.Canonical, "a fault that a test asked for", details...)
	})
}
