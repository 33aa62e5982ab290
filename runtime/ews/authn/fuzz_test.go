package authn

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// FuzzChallenge takes what it makes up as a server's WWW-Authenticate header and answers the NTLM challenge in it. It
// stands inside the package because a server and a connection around each input would make the coverage, which steers
// the fuzzer, depend on the scheduler.
func FuzzChallenge(f *testing.F) {
	f.Add("Negotiate, NTLM")
	f.Add(`Basic realm="a, NTLM b"`)
	f.Add("NTLM TlRMTVNTUAACAAAADgAOADgAAAAFgomiASNFZ4mrze8AAAAAAAAAAAAAAAA=")
	message := []byte("NTLMSSP\x00\x02\x00\x00\x00\x00\x00\x00\x00\x38\x00\x00\x00\x05\x82\x89\xa2\x01\x02\x03\x04\x05\x06\x07\x08" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x08\x00\x38\x00\x00\x00\x0a\x00\x63\x45\x00\x00\x00\x0f" + "\x02\x00\x00\x00\x00\x00\x00\x00")
	f.Add("NTLM " + base64.StdEncoding.EncodeToString(message))
	conn := &Conn{credential: credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(`EXAMPLE\alice`), Password: secret.FromString("secret"),
	}}
	f.Fuzz(func(t *testing.T, value string) {
		header := http.Header{"Www-Authenticate": {value}}
		for _, scheme := range offeredSchemes(header) {
			if !slices.Contains(schemes, scheme) {
				t.Errorf("the scheme %q", scheme)
			}
		}
		if onlyNTLM(header) && onlyBasic(header) {
			t.Error("only this and only that")
		}
		answer, err := conn.answerTo(challengeFor(schemeNTLM, header))
		if err == nil && !strings.HasPrefix(string(answer), "NTLMSSP\x00\x03") {
			t.Errorf("the answer is no authenticate message: %q", answer)
		}
	})
}

func FuzzTokenExpired(f *testing.F) {
	f.Add(`2000002;reason="The token has expired.";error_category="token_expired"`)
	f.Add(`2000003;reason="a;b";error_category="invalid_token"`)
	f.Fuzz(func(t *testing.T, value string) {
		if TokenExpired(http.Header{diagnosticsHeader: {value}}) && !strings.Contains(value, diagnosticsExpired) &&
			!strings.Contains(strings.ToLower(value), categoryTokenExpired) {
			t.Errorf("%q says that a token has expired", value)
		}
		if !TokenExpired(http.Header{diagnosticsHeader: {value, diagnosticsExpired + ";" + value}}) {
			t.Errorf("the code is not found beside %q", value)
		}
	})
}
