package authn

import (
	"net/http"
	"slices"
	"strings"
)

// The schemes of HTTP authentication that an Exchange server offers.
const (
	schemeBasic     = "Basic"
	schemeBearer    = "Bearer"
	schemeDigest    = "Digest"
	schemeNegotiate = "Negotiate"
	schemeNTLM      = "NTLM"
)

// schemes are the names that may be repeated from a WWW-Authenticate header.
var schemes = []string{schemeBasic, schemeBearer, schemeDigest, schemeNegotiate, schemeNTLM}

// challenges calls yield with the scheme and parameters of every challenge. A server may send one header for each or
// join them with commas, which also stand between parameters: those come as schemes that nobody knows.
func challenges(header http.Header, yield func(scheme, parameters string)) {
	for _, value := range header.Values("WWW-Authenticate") {
		for challenge := range strings.SplitSeq(value, ",") {
			scheme, parameters, _ := strings.Cut(strings.TrimSpace(challenge), " ")
			yield(scheme, strings.TrimSpace(parameters))
		}
	}
}

// offeredSchemes are the known schemes of an answer, in the order of schemes.
func offeredSchemes(header http.Header) []string {
	var offered []string
	for _, known := range schemes {
		found := false
		challenges(header, func(scheme, _ string) { found = found || strings.EqualFold(scheme, known) })
		if found {
			offered = append(offered, known)
		}
	}
	return offered
}

// challengeFor is the base64 message that an answer carries for the scheme, or empty.
func challengeFor(scheme string, header http.Header) (message string) {
	challenges(header, func(offered, parameters string) {
		if strings.EqualFold(offered, scheme) && message == "" {
			message = parameters
		}
	})
	return message
}

func onlyNTLM(header http.Header) bool {
	offered := offeredSchemes(header)
	return (slices.Contains(offered, schemeNTLM) || slices.Contains(offered, schemeNegotiate)) && !slices.Contains(offered, schemeBasic)
}

func onlyBasic(header http.Header) bool {
	offered := offeredSchemes(header)
	return slices.Contains(offered, schemeBasic) && !slices.Contains(offered, schemeNTLM) && !slices.Contains(offered, schemeNegotiate)
}

// The word of Exchange that a token has ended (ews.md, section 5).
const (
	diagnosticsHeader    = "X-Ms-Diagnostics"
	diagnosticsExpired   = "2000002"
	diagnosticsCategory  = "error_category"
	categoryTokenExpired = "token_expired"
)

// TokenExpired reports whether the header of a 401 says that the access token has ended, e.g.
// `x-ms-diagnostics: 2000002;reason="…";error_category="token_expired"`.
func TokenExpired(header http.Header) bool {
	for _, value := range header.Values(diagnosticsHeader) {
		code, fields, _ := strings.Cut(value, ";")
		if strings.TrimSpace(code) == diagnosticsExpired {
			return true
		}
		for field := range strings.SplitSeq(fields, ";") {
			name, category, _ := strings.Cut(strings.TrimSpace(field), "=")
			if strings.EqualFold(name, diagnosticsCategory) && strings.EqualFold(strings.Trim(category, `"`), categoryTokenExpired) {
				return true
			}
		}
	}
	return false
}

// Hint says for an administrator what may be behind an answer with status 401 or 403 to a request of c. It is empty for
// other answers and where there is nothing to say. It repeats nothing that the server wrote but names of schemes.
func (c *Conn) Hint(response *http.Response) string {
	refused := response.StatusCode == http.StatusUnauthorized
	if !refused && response.StatusCode != http.StatusForbidden {
		return ""
	}
	if c.certificate != nil && !c.askedFor.Load() {
		return "the server never asked for the client certificate; its virtual directory must accept or require client certificates"
	}
	switch user := c.credential.AuthType; {
	case refused && user.HasToken():
		return c.refusedToken(response.Header)
	case refused && user.HasPassword():
		return c.refusedPassword(response.Header)
	case c.certificate != nil:
		return "the server does not accept the client certificate (it may have expired, its issuer may not be trusted there, or it is mapped to no user)," +
			" or EWS is blocked for this user"
	}
	return ""
}

func (c *Conn) refusedToken(header http.Header) string {
	if TokenExpired(header) {
		return "the access token has expired; the device has to send a new one"
	}
	if missing := notOffered(header, schemeBearer); missing != "" {
		return missing
	}
	return "the access token was refused; it must be meant for this server and permit EWS.AccessAsUser.All"
}

func (c *Conn) refusedPassword(header http.Header) string {
	if !c.byNTLM {
		if missing := notOffered(header, schemeBasic); missing != "" {
			return missing
		}
		return "the user name or password is wrong, or Basic authentication is off for this virtual directory"
	}
	if missing := notOffered(header, schemeNTLM, schemeNegotiate); missing != "" {
		return missing
	}
	return "the user name or password is wrong, or Extended Protection is set to Require for this virtual directory"
}

// notOffered is empty if one of the wanted schemes is among those offered, or if none at all is.
func notOffered(header http.Header, wanted ...string) string {
	offered := offeredSchemes(header)
	for _, scheme := range wanted {
		if slices.Contains(offered, scheme) {
			return ""
		}
	}
	if len(offered) == 0 {
		return ""
	}
	return "the server does not take " + wanted[0] + ", only " + strings.Join(offered, ", ")
}
