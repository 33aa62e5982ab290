package autodiscover

import (
	"net/url"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// The namespaces of the SOAP form. They are http:// whatever some web pages say (ews.md, section 0).
const (
	autodiscoverNamespace = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
	addressingNamespace   = "http://www.w3.org/2005/08/addressing"
	getUserSettings       = "http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettings"
)

// ewsSettings are the settings that hold the EWS address, the most preferred first.
var ewsSettings = []string{"ExternalEwsUrl", "InternalEwsUrl"}

// soapRequest is GetUserSettings as exchangelib sends it, whose form real servers take (ews.md, section 4).
func soapRequest(target *url.URL, address string) []byte {
	settings := `<a:Setting>` + strings.Join(ewsSettings, `</a:Setting><a:Setting>`) + `</a:Setting>`
	return []byte(`<?xml version="1.0" encoding="utf-8"?>` +
		`<s:Envelope xmlns:s="` + soap.Envelope + `" xmlns:a="` + autodiscoverNamespace + `" xmlns:wsa="` + addressingNamespace + `">` +
		`<s:Header><a:RequestedServerVersion>Exchange2010</a:RequestedServerVersion>` +
		`<wsa:Action>` + getUserSettings + `</wsa:Action><wsa:To>` + soap.Escape(target.String()) + `</wsa:To></s:Header>` +
		`<s:Body><a:GetUserSettingsRequestMessage><a:Request>` +
		`<a:Users><a:User><a:Mailbox>` + soap.Escape(address) + `</a:Mailbox></a:User></a:Users>` +
		`<a:RequestedSettings>` + settings + `</a:RequestedSettings>` +
		`</a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>`)
}

// parseSOAP reads the answer to GetUserSettings. The answer as a whole has an error code, and each user has one.
func parseSOAP(content []byte) (answer, error) {
	body, err := soap.ReadBody(content)
	if err != nil || !body.Is(autodiscoverNamespace, "GetUserSettingsResponseMessage") {
		return answer{}, errNotSOAP
	}
	response := soapChild(body, "Response")
	if response == nil {
		return answer{}, errNotSOAP
	}
	if err := soapError(soapChild(response, "ErrorCode").Text()); err != nil {
		return answer{}, err
	}
	user := soapChild(soapChild(response, "UserResponses"), "UserResponse")
	target := soapChild(user, "RedirectTarget").Text()
	switch code := soapChild(user, "ErrorCode").Text(); code {
	case "RedirectAddress":
		return redirected(answer{redirectAddress: target}, target)
	case "RedirectUrl":
		return redirected(answer{redirectURL: target}, target)
	default:
		if err := soapError(code); err != nil {
			return answer{}, err
		}
	}
	return soapSettings(soapChild(user, "UserSettings"))
}

// redirected is a, unless there is no target in it.
func redirected(a answer, target string) (answer, error) {
	if target == "" {
		return answer{}, errServerError
	}
	return a, nil
}

func soapChild(parent *soap.Element, name string) *soap.Element {
	return parent.Child(autodiscoverNamespace, name)
}

// soapError is nil for the codes that let the settings count: some of those that were asked for may be missing.
func soapError(code string) error {
	switch code {
	case "", "NoError", "SettingIsNotAvailable":
		return nil
	case "InvalidUser", "InvalidDomain":
		return errUnknownMailbox
	case "ServerBusy":
		return errServerBusy
	default:
		return errServerError
	}
}

func soapSettings(settings *soap.Element) (answer, error) {
	var found answer
	if settings == nil {
		return found, errNoURL
	}
	for _, name := range ewsSettings {
		for _, setting := range settings.Children {
			value := soapChild(setting, "Value").Text()
			if setting.Is(autodiscoverNamespace, "UserSetting") && soapChild(setting, "Name").Text() == name && value != "" {
				found.urls = append(found.urls, value)
			}
		}
	}
	if len(found.urls) == 0 {
		return found, errNoURL
	}
	return found, nil
}
