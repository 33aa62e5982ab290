package autodiscovertest_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
)

const (
	host     = "autodiscover.example.com"
	alice    = "alice@example.com"
	password = "correct horse"
	ewsURL   = "https://mail.example.com/EWS/Exchange.asmx"

	jsonURL = "https://" + host + "/autodiscover/autodiscover.json"
	soapURL = "https://" + host + "/autodiscover/autodiscover.svc"
	poxURL  = "https://" + host + "/autodiscover/autodiscover.xml"

	goodSOAP = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:a="http://schemas.microsoft.com/exchange/2010/Autodiscover" xmlns:wsa="http://www.w3.org/2005/08/addressing">` +
		`<s:Header><a:RequestedServerVersion>Exchange2010</a:RequestedServerVersion>` +
		`<wsa:Action>http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettings</wsa:Action><wsa:To>` + soapURL + `</wsa:To></s:Header>` +
		`<s:Body><a:GetUserSettingsRequestMessage><a:Request><a:Users><a:User><a:Mailbox>` + alice + `</a:Mailbox></a:User></a:Users>` +
		`<a:RequestedSettings><a:Setting>ExternalEwsUrl</a:Setting></a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>`
	goodPOX = `<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>` + alice + `</EMailAddress>` +
		`<AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>`
)

func newService(t *testing.T) (*autodiscovertest.Server, *http.Transport) {
	t.Helper()
	service := autodiscovertest.StartT(t, autodiscovertest.Options{})
	service.AddHost(host, autodiscovertest.Host{Forms: autodiscovertest.AllForms, Redirect: poxURL})
	service.AddUser(autodiscovertest.User{Address: alice, Password: password, EWSURL: ewsURL})
	transport := &http.Transport{
		DialContext: service.DialContext, TLSClientConfig: &tls.Config{RootCAs: service.Roots(), MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return service, transport
}

// question is a request. Its fields are changed by what a test gets wrong.
type question struct {
	method, url, contentType, content string
	// login is for Basic; empty is none.
	login, password string
	// host replaces the Host header.
	host string
}

func (q question) send(t *testing.T, transport *http.Transport) (status int, content string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), q.method, q.url, strings.NewReader(q.content))
	if err != nil {
		t.Fatal(err)
	}
	if q.contentType != "" {
		request.Header.Set("Content-Type", q.contentType)
	}
	if q.login != "" {
		request.SetBasicAuth(q.login, q.password)
	}
	request.Host = q.host
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(read)
}

func good(form autodiscovertest.Form) question {
	switch form {
	case autodiscovertest.JSON:
		return question{method: http.MethodGet, url: jsonURL + "?Email=alice%40example.com&Protocol=EWS"}
	case autodiscovertest.SOAP:
		return question{method: http.MethodPost, url: soapURL, contentType: "text/xml; charset=utf-8", content: goodSOAP, login: alice, password: password}
	default:
		return question{method: http.MethodPost, url: poxURL, contentType: "text/xml; charset=utf-8", content: goodPOX, login: alice, password: password}
	}
}

func TestWhatIsWrongIsRefusedAndRecorded(t *testing.T) {
	t.Parallel()
	const json, soap, pox = autodiscovertest.JSON, autodiscovertest.SOAP, autodiscovertest.POX
	replace := func(old, replacement string) func(*question) {
		return func(q *question) {
			if !strings.Contains(q.content+q.url, old) {
				panic("the good question does not hold " + old)
			}
			q.content, q.url = strings.ReplaceAll(q.content, old, replacement), strings.ReplaceAll(q.url, old, replacement)
		}
	}
	tests := map[string]struct {
		form    autodiscovertest.Form
		spoil   func(*question)
		problem string
	}{
		"a post to JSON":                  {json, func(q *question) { q.method = http.MethodPost }, "instead of GET"},
		"a credential to JSON":            {json, func(q *question) { q.login = alice }, "none is needed"},
		"another protocol":                {json, replace("Protocol=EWS", "Protocol=IMAP"), "not EWS"},
		"no address to JSON":              {json, replace("Email=alice%40example.com", "Email="), "no e-mail address"},
		"another Host header":             {json, func(q *question) { q.host = "evil.net" }, "names another host"},
		"a get of SOAP":                   {soap, func(q *question) { q.method = http.MethodGet }, "instead of POST"},
		"SOAP 1.2's content type":         {soap, func(q *question) { q.contentType = "application/soap+xml; charset=utf-8" }, "content type"},
		"no character set":                {soap, func(q *question) { q.contentType = "text/xml" }, "content type"},
		"no envelope":                     {soap, func(q *question) { q.content = goodPOX }, "no SOAP envelope"},
		"SOAP in the docs' namespace":     {soap, replace(`xmlns:a="http://`, `xmlns:a="https://`), "RequestedServerVersion"},
		"no version":                      {soap, replace("Exchange2010<", "<"), "RequestedServerVersion"},
		"another action":                  {soap, replace("/GetUserSettings<", "/GetDomainSettings<"), "Action"},
		"another address in To":           {soap, replace("<wsa:To>https://autodiscover.", "<wsa:To>https://"), "To is not"},
		"another message":                 {soap, replace("GetUserSettingsRequestMessage", "GetDomainSettingsRequestMessage"), "GetUserSettingsRequestMessage"},
		"two users":                       {soap, replace("<a:Users>", "<a:Users><a:User><a:Mailbox>b@example.com</a:Mailbox></a:User>"), "one User"},
		"no setting for EWS":              {soap, replace("ExternalEwsUrl", "UserDN"), "ExternalEwsUrl"},
		"no mailbox":                      {soap, replace(alice, "alice"), "Mailbox"},
		"no XML":                          {pox, func(q *question) { q.content = "{}" }, "no XML"},
		"plain XML in the docs namespace": {pox, replace(`xmlns="http://`, `xmlns="https://`), "namespace"},
		"another response schema":         {pox, replace("2006a", "2006"), "AcceptableResponseSchema"},
		"no address in plain XML":         {pox, replace(alice, ""), "EMailAddress"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service, transport := newService(t)
			q := good(test.form)
			test.spoil(&q)
			_, content := q.send(t, transport)
			if strings.Contains(content, ewsURL) {
				t.Error("the answer holds the address all the same")
			}
			if requests := service.Requests(); len(requests) != 1 || !strings.Contains(requests[0].Problem, test.problem) {
				t.Errorf("recorded %+v, want a problem with %q", requests, test.problem)
			}
		})
	}
}

func TestGoodQuestionsAreAnswered(t *testing.T) {
	t.Parallel()
	for _, form := range autodiscovertest.AllForms {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			service, transport := newService(t)
			status, content := good(form).send(t, transport)
			if status != http.StatusOK || !strings.Contains(content, ewsURL) {
				t.Errorf("status %d: %s", status, content)
			}
			r := service.Requests()[0]
			if r.Problem != "" || r.Address != alice || r.Form != form || r.HadCredential != (form != autodiscovertest.JSON) {
				t.Errorf("recorded %+v", r)
			}
		})
	}
	t.Run("JSON with the address in the path", func(t *testing.T) {
		t.Parallel()
		_, transport := newService(t)
		q := question{method: http.MethodGet, url: jsonURL + "/v1.0/" + alice + "?Protocol=ews"}
		if status, content := q.send(t, transport); status != http.StatusOK || !strings.Contains(content, ewsURL) {
			t.Errorf("status %d: %s", status, content)
		}
	})
}

func TestCredentialsAreCheckedBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*question){
		"none":           func(q *question) { q.login = "" },
		"wrong password": func(q *question) { q.password = "wrong" },
		"no password":    func(q *question) { q.password = "" },
		"unknown user":   func(q *question) { q.login = "mallory@example.com" },
	} {
		for _, form := range []autodiscovertest.Form{autodiscovertest.SOAP, autodiscovertest.POX} {
			t.Run(name+" by "+string(form), func(t *testing.T) {
				t.Parallel()
				_, transport := newService(t)
				q := good(form)
				spoil(&q)
				q.content = "not looked at"
				if status, _ := q.send(t, transport); status != http.StatusUnauthorized {
					t.Errorf("status %d", status)
				}
			})
		}
	}
}

func TestOnlyWhatWasAddedIsReached(t *testing.T) {
	t.Parallel()
	service, _ := newService(t)
	for _, address := range []string{"evil.net:443", "127.0.0.1:443", host + ":8443", "[::1]:443"} {
		if conn, err := service.DialContext(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s was reached", address)
		}
	}
	if dials := service.Dials(); len(dials) != 4 {
		t.Errorf("recorded %q", dials)
	}
	_, _, err := service.LookupSRV(t.Context(), "autodiscover", "tcp", "example.com")
	if unknown, ok := errors.AsType[*net.DNSError](err); !ok || !unknown.IsNotFound {
		t.Errorf("looking up records that were not added: %v", err)
	}
}
