package ewstest

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// answer is what a request is answered with, before it is written.
type answer struct {
	status int
	header http.Header
	// xml is the element in the SOAP body, with the prefixes m: and t:. If it is empty, html is the whole content.
	xml  string
	html string
	// code is for the record.
	code string
	// after runs when the answer is out.
	after func()
}

// page is an HTML page, as IIS and proxies write them.
func page(status int) *answer {
	return &answer{
		status: status,
		header: http.Header{},
		html: fmt.Sprintf("<!DOCTYPE html><html><head><title>%[1]d</title></head><body><h2>%[1]d - %[2]s</h2><br></body></html>",
			status, http.StatusText(status)),
	}
}

// soapFault is Exchange's answer to a request that it does not even begin: status 500 (ews.md, section 1).
func soapFault(code, text, messageXML string) *answer {
	return &answer{
		status: http.StatusInternalServerError,
		header: http.Header{},
		code:   code,
		xml: `<s:Fault><faultcode xmlns:a="` + soap.Types + `">a:` + code + `</faultcode>` +
			`<faultstring xml:lang="en-US">` + soap.Escape(text) + `</faultstring><detail>` +
			`<e:ResponseCode xmlns:e="` + soap.Errors + `">` + code + `</e:ResponseCode>` +
			`<e:Message xmlns:e="` + soap.Errors + `">` + soap.Escape(text) + `</e:Message>` + messageXML + `</detail></s:Fault>`,
	}
}

func backOffXML(backOff time.Duration) string {
	if backOff <= 0 {
		return ""
	}
	return `<t:MessageXml xmlns:t="` + soap.Types + `"><t:Value Name="BackOffMilliseconds">` +
		strconv.FormatInt(backOff.Milliseconds(), 10) + `</t:Value></t:MessageXml>`
}

// responses is the answer to an operation: 200 with its response messages. code is that of the first one.
func responses(operation, code string, messages ...string) *answer {
	return &answer{
		status: http.StatusOK,
		header: http.Header{},
		code:   code,
		xml: `<m:` + operation + `Response><m:ResponseMessages>` + strings.Join(messages, "") +
			`</m:ResponseMessages></m:` + operation + `Response>`,
	}
}

// responseMessage is one response message. With class Error, content is left to the caller to be as the schema wants it.
func responseMessage(operation, class, code, content string) string {
	text := ""
	if class != "Success" {
		// Localised in the real one: nobody may match it.
		text = `<m:MessageText>Der Vorgang konnte nicht ausgeführt werden. ` + code + `</m:MessageText>`
	}
	detail := ""
	if class != "Success" {
		detail = `<m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>`
	}
	return `<m:` + operation + `ResponseMessage ResponseClass="` + class + `">` + text +
		`<m:ResponseCode>` + code + `</m:ResponseCode>` + detail + content + `</m:` + operation + `ResponseMessage>`
}

// failed is an operation whose only response message is an error.
func failed(operation, code, content string) *answer {
	return responses(operation, code, responseMessage(operation, "Error", code, content))
}

// write sends an answer: any dialect, with or without Content-Length, compressed if the client takes it.
func (s *Server) write(w http.ResponseWriter, r *http.Request, a *answer) {
	maps.Copy(w.Header(), a.header)
	content := []byte(a.html)
	contentType := cmp.Or(a.header.Get("Content-Type"), "text/html; charset=utf-8")
	dialect, compress, chunk := s.drawAnswer()
	if a.xml != "" {
		contentType = "text/xml; charset=utf-8"
		content = s.answerMessage(dialect, a.xml)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Server", "Microsoft-IIS/10.0")
	w.Header().Set("X-FEServer", "FAKE01")
	if compress && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(a.status)
		compressor := gzip.NewWriter(w)
		_, _ = compressor.Write(content)
		_ = compressor.Close()
		return
	}
	if !chunk {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(content)
}

// drawAnswer draws how an answer is written.
func (s *Server) drawAnswer() (d dialect, compress, chunk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Calm {
		return answerDialects[0], false, false
	}
	return answerDialects[s.random.IntN(len(answerDialects))], s.awkwardly(), s.awkwardly()
}

// answerMessage adds the header that every answer of Exchange has. A fault's own prefixes are fixed.
func (s *Server) answerMessage(d dialect, xml string) []byte {
	if strings.HasPrefix(xml, "<s:Fault>") {
		d = answerDialects[0]
	}
	build := builds[s.options.Version]
	header := fmt.Sprintf(`<h:ServerVersionInfo xmlns:h="%s" MajorVersion="%d" MinorVersion="%d" MajorBuildNumber="%d"`+
		` MinorBuildNumber="%d" Version="%s"/>`, soap.Types, build[0], build[1], build[2], build[3], s.options.Version)
	return d.message(header, xml)
}

// builds are what servers say of themselves, by the newest version that they know.
var builds = map[string][4]int{
	"Exchange2007": {8, 0, 685, 24}, "Exchange2007_SP1": {8, 3, 83, 6}, "Exchange2009": {14, 0, 639, 21},
	"Exchange2010": {14, 0, 639, 21}, "Exchange2010_SP1": {14, 1, 218, 15}, "Exchange2010_SP2": {14, 3, 123, 4},
	"Exchange2012": {15, 0, 516, 32}, "Exchange2013": {15, 0, 620, 29}, "Exchange2013_SP1": {15, 0, 1497, 48},
	"Exchange2015": {15, 1, 225, 42}, "Exchange2016": {15, 1, 2507, 6},
}

// withoutURL takes the webhook's address off an error of net/http.
func withoutURL(err error) error {
	if withURL, ok := errors.AsType[*url.Error](err); ok {
		return withURL.Err
	}
	return err
}
