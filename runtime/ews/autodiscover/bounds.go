package autodiscover

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/ens-operator/ens-operator/runtime/secret"
)

// maxAddressLength is that of an e-mail address on the wire (RFC 5321, section 4.5.3.1.3, without the brackets).
const maxAddressLength = 254

// hostNames converts host names as browsers do, and refuses empty and overlong labels too.
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true))

// Why an address may not be asked. None of them repeats what a server wrote.
var (
	errNotURL       = errors.New("leads to something that is no absolute URL")
	errNotHTTPS     = errors.New("leads to an address that is not https")
	errUserinfo     = errors.New("leads to an address with a user name in it")
	errPort         = errors.New("leads to another port than 443")
	errIPAddress    = errors.New("leads to an IP address instead of a host name")
	errHostName     = errors.New("leads to something that is no host name")
	errOutside      = errors.New("leads to a host outside autodiscover.domains")
	errMailAddress  = errors.New("redirects to something that is no e-mail address")
	errMailOutside  = errors.New("redirects to an e-mail address outside autodiscover.domains")
	errWebAddress   = errors.New("answered with something that is no https address of EWS")
	errAskedAlready = errors.New("leads in a circle: that address was asked already")
	// errAddressCircle is about e-mail addresses.
	errAddressCircle = errors.New("was led in a circle: that e-mail address was asked about already")
)

// bounds are the domains that may be asked (Config.Domains), as canonicalHost returns them.
type bounds []string

func newBounds(domains []string) bounds {
	var b bounds
	for _, domain := range domains {
		if host, err := canonicalHost(domain); err == nil {
			b = append(b, host)
		}
	}
	return b
}

// allow reports whether a host in canonical form is one of the domains or a subdomain of one. The dot before the suffix
// makes it a comparison of whole labels: evilexample.com is none of example.com's.
func (b bounds) allow(host string) bool {
	for _, domain := range b {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

// canonicalHost returns a host name as it is looked up: lower-case A-labels. IP addresses, a root's dot at the end, and
// whatever cannot be a host name are refused.
func canonicalHost(text string) (string, error) {
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return "", errIPAddress
	}
	host, err := hostNames.ToASCII(text)
	if err != nil || host == "" || strings.HasSuffix(host, ".") {
		return "", errHostName
	}
	host = strings.ToLower(host)
	// What ends in a number is an IPv4 address in one of its old spellings (127.1), or nothing (RFC 1123, section 2.1).
	if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", errIPAddress
	}
	return host, nil
}

// target checks the address that a redirect leads to, resolved against the one that was asked, and returns it as it may
// be asked.
func (b bounds) target(from *url.URL, text string) (*url.URL, error) {
	reference, err := url.Parse(text)
	if err != nil || text == "" {
		return nil, errNotURL
	}
	u := from.ResolveReference(reference)
	switch {
	case u.Scheme != "https":
		return nil, errNotHTTPS
	case u.User != nil:
		return nil, errUserinfo
	case u.Host == "" || u.Opaque != "":
		return nil, errNotURL
	case u.Port() != "" && u.Port() != httpsPort:
		return nil, errPort
	}
	host, err := canonicalHost(u.Hostname())
	if err != nil {
		return nil, err
	}
	if !b.allow(host) {
		return nil, errOutside
	}
	return &url.URL{Scheme: u.Scheme, Host: host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}, nil
}

// mailAddress is an e-mail address that is asked about.
type mailAddress struct {
	text secret.Value
	// domain is what stands after the @, in canonical form.
	domain string
}

// split finds the domain of an e-mail address.
func split(text string) (mailAddress, error) {
	at := strings.LastIndexByte(text, '@')
	unfit := func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }
	if at < 1 || strings.Count(text, "@") > 1 || len(text) > maxAddressLength || strings.ContainsFunc(text, unfit) {
		return mailAddress{}, errMailAddress
	}
	domain, err := canonicalHost(text[at+1:])
	if err != nil {
		return mailAddress{}, errMailAddress
	}
	return mailAddress{text: secret.FromString(text), domain: domain}, nil
}

// address checks the e-mail address that Find is asked for.
func (b bounds) address(text string) (mailAddress, error) {
	asked, err := split(text)
	if err != nil {
		return mailAddress{}, fmt.Errorf("%w: what the device sent is no e-mail address", ErrNotAllowed)
	}
	if !b.allow(asked.domain) {
		return mailAddress{}, fmt.Errorf("%w: add %s to autodiscover.domains if its mailboxes are yours", ErrNotAllowed, asked.domain)
	}
	return asked, nil
}

// redirectedAddress checks the e-mail address that a server wants to be asked about instead.
func (b bounds) redirectedAddress(text string) (mailAddress, error) {
	asked, err := split(text)
	if err != nil {
		return mailAddress{}, err
	}
	if !b.allow(asked.domain) {
		return mailAddress{}, errMailOutside
	}
	return asked, nil
}

// origin is scheme and host of an EWS address, which is all that an error may repeat of it.
func origin(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", errWebAddress
	}
	host, err := canonicalHost(u.Hostname())
	if err != nil {
		return "", errWebAddress
	}
	return u.Scheme + "://" + host, nil
}
