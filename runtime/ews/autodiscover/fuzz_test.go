package autodiscover

import (
	"net/url"
	"slices"
	"testing"
)

// The targets stand inside the package because a server and a connection around each input would make the coverage,
// which steers the fuzzer, depend on the scheduler.

// ownReasons are all the errors that a parser may give: none of them can repeat what a server wrote.
var ownReasons = []error{errNotJSON, errNotSOAP, errNotPOX, errNoURL, errUnknownMailbox, errServerBusy, errServerError}

func checkFuzzed(t *testing.T, a answer, err error) {
	t.Helper()
	if err != nil {
		if !slices.Contains(ownReasons, err) {
			t.Fatalf("another error than the parsers have: %v", err)
		}
		return
	}
	kinds := 0
	for _, is := range []bool{len(a.urls) > 0, a.redirectURL != "", a.redirectAddress != ""} {
		if is {
			kinds++
		}
	}
	if kinds != 1 || slices.Contains(a.urls, "") {
		t.Fatalf("an answer of %d kinds: %+v", kinds, a)
	}
	checkBounded(t, a)
}

// checkBounded checks that whatever an answer leads to is within the bounds or refused.
func checkBounded(t *testing.T, a answer) {
	t.Helper()
	b := newBounds([]string{"example.com"})
	from := &url.URL{Scheme: "https", Host: "autodiscover.example.com", Path: poxPath}
	if target, err := b.target(from, a.redirectURL); err == nil {
		if target.Scheme != "https" || target.User != nil || target.Port() != "" || !b.allow(target.Hostname()) {
			t.Fatalf("a target out of bounds: %v", target)
		}
		// What is dialled is what was checked.
		if again, err := url.Parse(target.String()); err != nil || again.Host != target.Host {
			t.Fatalf("the target %v is read as another", target)
		}
	}
	if address, err := b.redirectedAddress(a.redirectAddress); err == nil && !b.allow(address.domain) {
		t.Fatalf("an address of %q", address.domain)
	}
	for _, address := range a.urls {
		if place, err := origin(address); err == nil && place == "" {
			t.Fatal("an origin without a host")
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"Protocol":"EWS","Url":"https://mail.example.com/EWS/Exchange.asmx"}`))
	f.Add([]byte(`{"ErrorCode":"UserNotFound","ErrorMessage":"The given user is not found"}`))
	f.Add([]byte(`[[[{"Url":1}]]]`))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := parseJSON(content)
		checkFuzzed(t, a, err)
	})
}

func soapSeed(user string) []byte {
	return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
		`<GetUserSettingsResponseMessage xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover"><Response><ErrorCode>NoError</ErrorCode>` +
		`<UserResponses><UserResponse>` + user + `</UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>`)
}

func FuzzParseSOAP(f *testing.F) {
	f.Add(soapSeed(`<ErrorCode>NoError</ErrorCode><UserSettings><UserSetting><Name>ExternalEwsUrl</Name><Value>https://mail.example.com/EWS/Exchange.asmx</Value></UserSetting></UserSettings>`))
	f.Add(soapSeed(`<ErrorCode>RedirectUrl</ErrorCode><RedirectTarget>https://cas.example.com/autodiscover/autodiscover.svc</RedirectTarget>`))
	f.Add(soapSeed(`<ErrorCode>RedirectAddress</ErrorCode><RedirectTarget>alice@example.com</RedirectTarget>`))
	f.Add(soapSeed(`<ErrorCode>InvalidUser</ErrorCode>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := parseSOAP(content)
		checkFuzzed(t, a, err)
	})
}

func poxSeed(account string) []byte {
	return []byte(`<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006">` +
		`<Response xmlns="` + poxResponseSchema + `">` + account + `</Response></Autodiscover>`)
}

func FuzzParsePOX(f *testing.F) {
	f.Add(poxSeed(`<Account><Action>settings</Action><Protocol><Type>EXCH</Type><EwsUrl>https://mail.example.com/EWS/Exchange.asmx</EwsUrl></Protocol>` +
		`<Protocol Type="mapiHttp"/><Protocol><Type>WEB</Type><External><Protocol><Type>EXPR</Type><ASUrl>https://a.example</ASUrl></Protocol></External></Protocol></Account>`))
	f.Add(poxSeed(`<Account><Action>redirectUrl</Action><RedirectUrl>https://cas.example.com/autodiscover/autodiscover.xml</RedirectUrl></Account>`))
	f.Add(poxSeed(`<Account><Action>redirectAddr</Action><RedirectAddr>alice@example.com</RedirectAddr></Account>`))
	f.Add(poxSeed(`<Error Time="10:00" Id="1"><ErrorCode>500</ErrorCode></Error>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := parsePOX(content)
		checkFuzzed(t, a, err)
	})
}

// FuzzTarget tries what a Location may hold.
func FuzzTarget(f *testing.F) {
	for _, text := range []string{
		"https://cas.example.com/autodiscover/autodiscover.xml", "//evil.net/", "https://a@example.com:443", "/relative?Email=a%40example.com",
		`https://evil.net\.example.com`, "https://EXAMPLE。com", "https://[::1%25a]/", "https:opaque",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkBounded(t, answer{redirectURL: text, redirectAddress: text, urls: []string{text}})
	})
}
