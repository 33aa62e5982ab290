package autodiscovertest

import (
	"net/http"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

func xmlAnswer(content string) answer {
	return answer{status: http.StatusOK, contentType: "text/xml; charset=utf-8", content: []byte(content)}
}

// userSettings is the answer to GetUserSettings.
func (s *Server) userSettings(q *question, user User, known bool) answer {
	code, target, settings := "NoError", "", ""
	switch {
	case q.fault.RedirectURL != "":
		code, target = "RedirectUrl", q.fault.RedirectURL
	case q.fault.RedirectAddress != "":
		code, target = "RedirectAddress", q.fault.RedirectAddress
	case !known:
		code = "InvalidUser"
	default:
		settings = s.settings(user)
	}
	message := `<s:Envelope xmlns:s="` + soap.Envelope + `" xmlns:wsa="` + wsaNamespace + `"><s:Header>` +
		`<wsa:Action s:mustUnderstand="1">` + soapAction + `Response</wsa:Action></s:Header><s:Body>` +
		`<p:GetUserSettingsResponseMessage xmlns:p="` + soapNamespace + `" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">` +
		`<p:Response><p:ErrorCode>NoError</p:ErrorCode><p:ErrorMessage/><p:UserResponses><p:UserResponse>` +
		`<p:ErrorCode>` + code + `</p:ErrorCode><p:ErrorMessage>Geht nicht: ` + soap.Escape(q.entry.Address) + `</p:ErrorMessage>` +
		`<p:RedirectTarget>` + soap.Escape(target) + `</p:RedirectTarget><p:UserSettingErrors/>` +
		`<p:UserSettings>` + settings + `</p:UserSettings></p:UserResponse></p:UserResponses></p:Response>` +
		`</p:GetUserSettingsResponseMessage></s:Body></s:Envelope>`
	if s.draws() {
		// WCF declares the namespace as the default one.
		message = strings.NewReplacer("<p:", "<", "</p:", "</", `"p:`, `"`, "xmlns:p=", "xmlns=").Replace(message)
	}
	if s.draws() {
		message = "\ufeff" + message
	}
	return xmlAnswer(message)
}

// settings are a user's, in no particular order, and with others.
func (s *Server) settings(user User) string {
	external, internal := setting("ExternalEwsUrl", user.EWSURL), setting("InternalEwsUrl", user.InternalEWSURL)
	if s.draws() {
		external, internal = internal, external
	}
	if s.draws() {
		external = setting("EwsSupportedSchemas", "Exchange2007, Exchange2007_SP1, Exchange2010") + external
	}
	return external + internal
}

func setting(name, value string) string {
	if value == "" {
		return ""
	}
	return `<p:UserSetting i:type="p:StringSetting"><p:Name>` + name + `</p:Name><p:Value>` + soap.Escape(value) + `</p:Value></p:UserSetting>`
}

// account is the answer of the plain XML form.
func (s *Server) account(q *question, user User, known bool) answer {
	switch {
	case q.fault.RedirectURL != "":
		return poxAccount("redirectUrl", "<RedirectUrl>"+soap.Escape(q.fault.RedirectURL)+"</RedirectUrl>")
	case q.fault.RedirectAddress != "":
		return poxAccount("redirectAddr", "<RedirectAddr>"+soap.Escape(q.fault.RedirectAddress)+"</RedirectAddr>")
	case !known:
		return poxFailure("500", "The email address can't be found.")
	case user.Protocols != "":
		return poxAccount("settings", user.Protocols)
	}
	external, internal := protocol("EXPR", user.EWSURL), protocol("EXCH", user.InternalEWSURL)
	if s.draws() {
		external, internal = internal, external
	}
	return poxAccount("settings", external+internal+
		`<Protocol><Type>WEB</Type><External><OWAUrl AuthenticationMethod="Fba">https://mail.example.com/owa/</OWAUrl></External></Protocol>`)
}

func protocol(name, url string) string {
	if url == "" {
		return ""
	}
	return `<Protocol><Type>` + name + `</Type><Server>fake</Server><SSL>On</SSL><ASUrl>` + soap.Escape(url) + `</ASUrl>` +
		`<EwsUrl>` + soap.Escape(url) + `</EwsUrl></Protocol>`
}

func poxAccount(action, content string) answer {
	return xmlAnswer(`<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="` + poxEnvelopeSchema + `">` +
		`<Response xmlns="` + poxResponseSchema + `"><User><DisplayName>A user</DisplayName></User><Account>` +
		`<AccountType>email</AccountType><Action>` + action + `</Action>` + content + `</Account></Response></Autodiscover>`)
}

func poxFailure(code, text string) answer {
	return xmlAnswer(`<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="` + poxEnvelopeSchema + `"><Response>` +
		`<Error Time="10:00:00.0000000" Id="1054084152"><ErrorCode>` + code + `</ErrorCode><Message>` + text + `</Message><DebugData/></Error>` +
		`</Response></Autodiscover>`)
}
