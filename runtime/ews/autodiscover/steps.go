package autodiscover

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// The ports that are asked.
const (
	httpsPort = "443"
	httpPort  = "80"
)

// steps are the ways to the endpoint in the order of ews.md, section 4, with v2 first because it needs no credential.
// {domain} is that of the e-mail address. The walk ends at the first step that finds one of the tenant's endpoints.
var steps = []step{
	// Without a credential.
	{address: "https://{domain}/autodiscover/autodiscover.json", form: jsonForm},
	{address: "https://autodiscover.{domain}/autodiscover/autodiscover.json", form: jsonForm},
	// With one, if the host answers 401 without.
	{address: "https://{domain}/autodiscover/autodiscover.svc", form: soapForm},
	{address: "https://{domain}" + poxPath, form: poxForm},
	{address: "https://autodiscover.{domain}/autodiscover/autodiscover.svc", form: soapForm},
	{address: "https://autodiscover.{domain}" + poxPath, form: poxForm},
	// Asked without TLS, and so without a credential and the e-mail address. The https address of a 302 is then asked as
	// those above are.
	{address: "http://autodiscover.{domain}" + poxPath, locate: (*walk).plainRedirect, form: poxForm},
	// Asked of the hosts in the records of _autodiscover._tcp.{domain} that have port 443.
	{address: "https://{domain}" + poxPath, locate: (*walk).serviceRecords, form: poxForm},
}

const poxPath = "/autodiscover/autodiscover.xml"

// step is one way.
type step struct {
	// address is where it begins.
	address string
	// locate finds out which addresses to ask, from the one where it begins. Nil: that one itself.
	locate func(w *walk, ctx context.Context, from *url.URL) []*url.URL
	// form is what is asked there.
	form form
}

// start is the step's address for a domain.
func (s step) start(domain string) *url.URL {
	u, err := url.Parse(strings.ReplaceAll(s.address, "{domain}", domain))
	if err != nil {
		panic("the table of steps holds an address that is no URL: " + err.Error())
	}
	return u
}

// form is a form of question and answer.
type form struct {
	name   string
	method string
	// query is that of the first address; redirects bring their own. Nil: none.
	query func(address string) string
	// content is the request's body. Nil: none.
	content func(target *url.URL, address string) []byte
	parse   func(content []byte) (answer, error)
	// authenticated says whether a credential may be sent if the host wants one.
	authenticated bool
}

var (
	jsonForm = form{name: "json", method: http.MethodGet, query: jsonQuery, parse: parseJSON}
	soapForm = form{name: "soap", method: http.MethodPost, content: soapRequest, parse: parseSOAP, authenticated: true}
	poxForm  = form{
		name: "pox", method: http.MethodPost, authenticated: true, parse: parsePOX,
		content: func(_ *url.URL, address string) []byte { return poxRequest(address) },
	}
)

// jsonQuery asks for EWS. The address goes into the query and not into the path, because administrators block paths with
// an @ in them since an attack of 2021 used such.
func jsonQuery(address string) string {
	return url.Values{"Email": {address}, "Protocol": {"EWS"}, "RedirectCount": {"1"}}.Encode()
}
