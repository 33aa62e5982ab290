package snstest

import (
	"encoding/xml"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/push/internal/fake"
)

const (
	// maxBody is above what a message of 256 KB has in form encoding.
	maxBody    = 1 << 20
	snsVersion = "2010-03-31"
	stsVersion = "2011-06-15"
	snsSpace   = "http://sns.amazonaws.com/doc/" + snsVersion + "/"
	stsSpace   = "https://sts.amazonaws.com/doc/" + stsVersion + "/"
)

// refusal is an answer other than 200.
type refusal struct {
	status int
	code   string
	// message is what Amazon says; where it is empty, why is said.
	message string
	// why explains it in the log, without anything of the notification.
	why string
}

func refuse(status int, code, why string) *refusal {
	return &refusal{status: status, code: code, why: why}
}

// invalid is Amazon's InvalidParameter.
func invalid(parameter, why string) *refusal {
	return refuse(http.StatusBadRequest, "InvalidParameter", "Invalid parameter: "+parameter+" Reason: "+why)
}

// serve answers a request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	number := s.begin()
	defer s.count(func(stats *Stats) { stats.Finish() })
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.answerRefusal(w, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the body is too large"))
		return
	}
	form, refused := readForm(r, body)
	action := form.Get("Action")
	if fault := s.FaultFor(Request{Number: number, Action: action}); fault != nil {
		s.fail(w, r, fault)
		return
	}
	var result any
	space := snsSpace
	switch {
	case refused != nil:
	case form.Get("Version") == stsVersion:
		space = stsSpace
		result, refused = s.takeRole(form)
	default:
		if refused = s.checkSignature(r, body); refused == nil {
			result, refused = s.act(form)
		}
	}
	if refused != nil {
		s.answerRefusal(w, refused)
		return
	}
	if action == "Publish" {
		fake.Pause(r.Context(), s.options.MaxDelay)
	}
	writeXML(w, http.StatusOK, response{XMLName: xml.Name{Space: space, Local: action + "Response"}, Result: result, RequestID: uuid.NewString()})
}

// begin counts a request that is worked on, and returns its number.
func (s *Server) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Begin()
}

// readForm reads a request of the query API.
func readForm(r *http.Request, body []byte) (url.Values, *refusal) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form, err := url.ParseQuery(string(body))
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "":
		return nil, refuse(http.StatusNotFound, "UnknownOperationException", "not a POST to / without a query")
	case media != "application/x-www-form-urlencoded" || err != nil:
		return nil, refuse(http.StatusBadRequest, "MalformedQueryString", "the body is not a form")
	case form.Get("Version") != snsVersion && form.Get("Version") != stsVersion:
		return nil, refuse(http.StatusBadRequest, "InvalidAction", "no such version")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "MalformedQueryString", name+" stands twice")
		}
	}
	return form, nil
}

// response is the frame of every answer.
type response struct {
	XMLName   xml.Name
	Result    any
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

// errorResponse is an answer that refuses.
type errorResponse struct {
	XMLName   xml.Name `xml:"http://sns.amazonaws.com/doc/2010-03-31/ ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func (s *Server) answerRefusal(w http.ResponseWriter, refused *refusal) {
	s.options.Logf("fake SNS answers %d %s: %s", refused.status, refused.code, refused.why)
	content := errorResponse{Type: "Sender", Code: refused.code, Message: refused.message, RequestID: uuid.NewString()}
	if content.Message == "" {
		content.Message = refused.why
	}
	if refused.status >= http.StatusInternalServerError {
		content.Type = "Receiver"
	}
	writeXML(w, refused.status, content)
}

func writeXML(w http.ResponseWriter, status int, content any) {
	encoded, err := xml.Marshal(content)
	if err != nil {
		panic("snstest: " + err.Error())
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

// fail does what a fault says.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, fault *Fault) {
	fault.Do(w, r, func() {
		s.answerRefusal(w, &refusal{status: fault.Status, code: fault.Code, message: fault.Message, why: "a fault that a test asked for"})
	})
}
