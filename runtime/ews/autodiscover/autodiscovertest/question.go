package autodiscovertest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// The namespaces of Autodiscover (ews.md, section 4).
const (
	soapNamespace     = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
	wsaNamespace      = "http://www.w3.org/2005/08/addressing"
	soapAction        = soapNamespace + "/Autodiscover/GetUserSettings"
	poxRequestSchema  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
	poxResponseSchema = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
	poxEnvelopeSchema = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
)

// question is a request on its way through the server.
type question struct {
	request *http.Request
	content []byte
	entry   *Request
	fault   Fault
}

// answer is what a host answers over TLS.
func (s *Server) answer(q *question, host Host) answer {
	if !slices.Contains(host.Forms, q.entry.Form) {
		return page(http.StatusNotFound)
	}
	switch {
	case q.fault.RefuseCredentials:
		return page(http.StatusUnauthorized)
	case q.fault.Status != 0:
		a := page(q.fault.Status)
		a.location = q.fault.Location
		return a
	case q.fault.Content != nil:
		return answer{status: http.StatusOK, contentType: "text/xml; charset=utf-8", content: q.fault.Content}
	case q.entry.Form == JSON:
		return s.answerJSON(q)
	}
	// IIS asks for the credential before it looks at anything else.
	q.entry.User = s.login(q.request)
	if host.ClientCertificate == ClientCertificateOrForbidden && len(q.request.TLS.PeerCertificates) == 0 {
		return page(http.StatusForbidden)
	}
	if q.entry.User == "" {
		return page(http.StatusUnauthorized)
	}
	if q.request.Method != http.MethodPost {
		return refusal(http.StatusMethodNotAllowed, q.request.Method+" instead of POST")
	}
	media, parameters, err := mime.ParseMediaType(q.request.Header.Get("Content-Type"))
	if err != nil || media != "text/xml" || !strings.EqualFold(parameters["charset"], "utf-8") {
		return refusal(http.StatusUnsupportedMediaType, "the content type is not text/xml; charset=utf-8")
	}
	if q.entry.Form == SOAP {
		return s.answerSOAP(q)
	}
	return s.answerPOX(q)
}

// login returns the address of the user whose credential it is, empty if it is nobody's.
func (s *Server) login(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s.options.Bearer != nil {
		return s.options.Bearer(token)
	}
	name, password, ok := r.BasicAuth()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range s.users {
		presented := r.TLS.PeerCertificates
		if len(presented) > 0 && bytes.Equal(presented[0].Raw, user.Certificate) {
			return user.Address
		}
		if ok && password != "" && strings.EqualFold(user.Login, name) && user.Password == password {
			return user.Address
		}
	}
	return ""
}

// user finds the mailbox that is asked about.
func (s *Server) user(q *question, address string) (User, bool) {
	q.entry.Address = address
	s.mu.Lock()
	defer s.mu.Unlock()
	user, known := s.users[strings.ToLower(address)]
	return user, known
}

// jsonFailure is an error of v2.
func jsonFailure(status int, code, text string) answer {
	content, err := json.Marshal(map[string]string{"ErrorCode": code, "ErrorMessage": text})
	if err != nil {
		return page(http.StatusInternalServerError)
	}
	return answer{status: status, contentType: "application/json; charset=utf-8", content: content}
}

func (s *Server) answerJSON(q *question) answer {
	query := q.request.URL.Query()
	address := query.Get("Email")
	if len(q.request.URL.Path) > len(jsonPathPrefix) {
		address = q.request.URL.Path[len(jsonPathPrefix):]
	}
	user, known := s.user(q, address)
	switch {
	case q.request.Method != http.MethodGet:
		return refusal(http.StatusMethodNotAllowed, q.request.Method+" instead of GET")
	case q.entry.HadCredential:
		return refusal(http.StatusBadRequest, "a credential where none is needed")
	case !strings.Contains(address, "@"):
		a := jsonFailure(http.StatusBadRequest, "MandatoryParameterMissing", "A valid value must be provided for the query parameter 'Email'")
		a.problem = "no e-mail address"
		return a
	case !strings.EqualFold(query.Get("Protocol"), "EWS"):
		a := jsonFailure(http.StatusBadRequest, "InvalidProtocol", "The given protocol value is invalid.")
		a.problem = "the protocol is not EWS"
		return a
	case !known || user.EWSURL == "" && user.InternalEWSURL == "":
		return jsonFailure(http.StatusNotFound, "UserNotFound", "The given user is not found: "+address)
	}
	url := user.EWSURL
	if url == "" {
		url = user.InternalEWSURL
	}
	content, err := json.Marshal(map[string]string{"Protocol": "EWS", "Url": url})
	if err != nil {
		return page(http.StatusInternalServerError)
	}
	return answer{status: http.StatusOK, contentType: "application/json; charset=utf-8", content: content}
}

func (s *Server) answerSOAP(q *question) answer {
	address, problem := readGetUserSettings(q)
	if problem != "" {
		return answer{
			status: http.StatusInternalServerError, problem: problem, contentType: "text/xml; charset=utf-8",
			content: []byte(`<s:Envelope xmlns:s="` + soap.Envelope + `"><s:Body><s:Fault><faultcode>s:Client</faultcode>` +
				`<faultstring xml:lang="en-US">The request is invalid.</faultstring></s:Fault></s:Body></s:Envelope>`),
		}
	}
	user, known := s.user(q, address)
	return s.userSettings(q, user, known)
}

// readGetUserSettings checks the request as the service's schema does and returns the mailbox, or what is wrong.
func readGetUserSettings(q *question) (address, problem string) {
	envelope, err := soap.Read(q.content)
	if err != nil {
		return "", "no SOAP envelope"
	}
	header := envelope.Child(soap.Envelope, "Header")
	if header.Child(soapNamespace, "RequestedServerVersion").Text() == "" {
		return "", "no RequestedServerVersion"
	}
	if header.Child(wsaNamespace, "Action").Text() != soapAction {
		return "", "the Action is not GetUserSettings"
	}
	if to := header.Child(wsaNamespace, "To").Text(); !strings.EqualFold(to, "https://"+q.request.Host+q.request.URL.Path) {
		return "", "To is not the address that was asked"
	}
	body, err := soap.ReadBody(q.content)
	if err != nil || !body.Is(soapNamespace, "GetUserSettingsRequestMessage") {
		return "", "the body is no GetUserSettingsRequestMessage"
	}
	request := body.First()
	if !request.Is(soapNamespace, "Request") || len(request.Children) != 2 ||
		!request.Children[0].Is(soapNamespace, "Users") || !request.Children[1].Is(soapNamespace, "RequestedSettings") {
		return "", "a Request holds Users and RequestedSettings, in this order"
	}
	users, settings := request.Children[0].Children, request.Children[1].Children
	if len(users) != 1 || !users[0].Is(soapNamespace, "User") {
		return "", "not exactly one User"
	}
	asksForEWS := slices.ContainsFunc(settings, func(e *soap.Element) bool {
		return e.Is(soapNamespace, "Setting") && e.Text() == "ExternalEwsUrl"
	})
	if !asksForEWS {
		return "", "ExternalEwsUrl is not among the settings"
	}
	address = users[0].Child(soapNamespace, "Mailbox").Text()
	if !strings.Contains(address, "@") {
		return "", "the Mailbox is no e-mail address"
	}
	return address, ""
}

func (s *Server) answerPOX(q *question) answer {
	var document struct {
		XMLName xml.Name
		Request struct {
			XMLName                  xml.Name
			EMailAddress             string
			AcceptableResponseSchema string
		}
	}
	err := xml.Unmarshal(q.content, &document)
	problem := ""
	switch {
	case err != nil:
		problem = "no XML"
	case document.XMLName != xml.Name{Space: poxRequestSchema, Local: "Autodiscover"}, document.Request.XMLName.Space != poxRequestSchema:
		problem = "not in the namespace of requests"
	case document.Request.AcceptableResponseSchema != poxResponseSchema:
		problem = "AcceptableResponseSchema is not the one of settings"
	case !strings.Contains(document.Request.EMailAddress, "@"):
		problem = "EMailAddress is no e-mail address"
	}
	if problem != "" {
		a := poxFailure("600", "Invalid Request")
		a.problem = problem
		return a
	}
	user, known := s.user(q, document.Request.EMailAddress)
	return s.account(q, user, known)
}
