package ewstest

import (
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// maxRequestBytes is far above what the runtime sends.
const maxRequestBytes = 1 << 20

// cookieName is the one that Exchange sets for each user. A client that returns it may be mistaken for another user.
const cookieName = "exchangecookie"

// call is one request on its way through the server.
type call struct {
	request *http.Request
	content []byte
	// body is the operation's element, nil if the content could not be read.
	body    *soap.Element
	version string
	// user is the mailbox whose request it is; authenticated says whether the credential was right.
	user          *mailbox
	authenticated bool
	// address and alias are the user's, empty if unknown.
	address, alias string
	// login is what came of the credential, presented the address of its mailbox, certificate that of the TLS client
	// certificate.
	login       login
	presented   string
	certificate *mailbox
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		return
	}
	c := &call{request: r, content: content}
	if envelope, err := soap.Read(content); err == nil {
		c.body = envelope.Child(soap.Envelope, "Body").First()
		c.version = envelope.Child(soap.Envelope, "Header").Child(soap.Types, "RequestServerVersion").Attribute("Version")
	}
	s.identify(c)
	_, cookieErr := r.Cookie(cookieName)
	entry := Request{
		User: c.address, Presented: c.presented, ClientRequestID: r.Header.Get("client-request-id"), UserAgent: r.UserAgent(), HadCookie: cookieErr == nil,
	}
	if c.certificate != nil {
		entry.Certificate = c.certificate.Address
	}
	if c.body != nil {
		entry.Operation, entry.Fields = c.body.Name.Local, askedFor(c.body)
	}
	fault := s.fault(entry)
	if !s.hold(fault, r) {
		s.cut(entry)
	}
	a := fault.answer()
	if a == nil {
		a = s.answer(c)
	}
	if fault.LoseAnswer {
		if a.after != nil {
			a.after()
		}
		s.cut(entry)
	}
	if fault.CutAnswer {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`<?xml version="1.0" encoding="utf-8"?><s:Envelope`))
		_ = http.NewResponseController(w).Flush()
		s.cut(entry)
	}
	if fault.Close {
		w.Header().Set("Connection", "close")
	}
	s.complete(w, c, entry, a)
}

// complete writes the answer and records the request. The record is there before the client can see the answer.
func (s *Server) complete(w http.ResponseWriter, c *call, entry Request, a *answer) {
	if c.request.Header.Get("return-client-request-id") == "true" {
		w.Header().Set("client-request-id", entry.ClientRequestID)
	}
	if c.authenticated {
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: c.alias, Path: "/", HttpOnly: true})
	}
	entry.Status, entry.Code = a.status, a.code
	s.recordRequest(entry)
	s.write(w, c.request, a)
	if a.after != nil {
		_ = http.NewResponseController(w).Flush()
		a.after()
	}
}

func (s *Server) recordRequest(entry Request) {
	s.logf("ewstest: %s %s by %s: status %d %s", entry.ClientRequestID, entry.Operation, entry.User, entry.Status, entry.Code)
	s.requestLog.AddNumbered(entry, func(r *Request, number int) { r.Number = number })
}

// cut records the request and cuts the connection; it does not return.
func (s *Server) cut(entry Request) {
	s.recordRequest(entry)
	panic(http.ErrAbortHandler)
}

func (s *Server) fault(entry Request) Fault {
	if hook := s.hook.Load(); hook != nil {
		return (*hook)(entry.Operation, entry.User)
	}
	return Fault{}
}

// answer is the answer of a healthy server.
func (s *Server) answer(c *call) *answer {
	if !strings.EqualFold(c.request.URL.Path, Path) {
		if c.request.URL.Path == "/" {
			return page(http.StatusForbidden) // E-06
		}
		return page(http.StatusNotFound)
	}
	if !c.authenticated {
		return s.challenge(c)
	}
	if c.request.Method != http.MethodPost {
		return page(http.StatusOK) // the service's description page
	}
	if media, _, err := mime.ParseMediaType(c.request.Header.Get("Content-Type")); err != nil || media != "text/xml" {
		return page(http.StatusUnsupportedMediaType)
	}
	if _, err := soap.ReadBody(c.content); err != nil {
		return page(http.StatusBadRequest)
	}
	version, refused := s.requestVersion(c)
	if refused != nil {
		return refused
	}
	operation, known := operations[c.body.Name.Local]
	if !known || c.body.Name.Space != soap.Messages {
		return soapFault("ErrorInvalidRequest", "The request is invalid.", "")
	}
	if err := operation.rule.check(c.body); err != nil {
		return soapFault("ErrorSchemaValidation", "The request failed schema validation: "+err.Error(), "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return operation.work(s, c, version)
}

// versions are the values of RequestServerVersion, oldest first (ews.md, section 1).
var versions = []string{
	"Exchange2007", "Exchange2007_SP1", "Exchange2009", "Exchange2010", "Exchange2010_SP1", "Exchange2010_SP2",
	"Exchange2012", "Exchange2013", "Exchange2013_SP1", "Exchange2015", "Exchange2016",
}

// defaultRequestVersion is what a request without RequestServerVersion is taken for.
const defaultRequestVersion = "Exchange2007_SP1"

func versionNumber(name string) int {
	for number, version := range versions {
		if version == name {
			return number
		}
	}
	return -1
}

// requestVersion is the version that the request asks for, or the fault if the server does not know it.
func (s *Server) requestVersion(c *call) (int, *answer) {
	if c.version == "" {
		c.version = defaultRequestVersion
	}
	number := versionNumber(c.version)
	if number < 0 || number > s.version {
		return 0, soapFault("ErrorInvalidServerVersion", "The specified server version is invalid.", "")
	}
	return number, nil
}
