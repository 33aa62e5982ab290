package ewstest_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-ntlmssp"
	clocktesting "k8s.io/utils/clock/testing"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
)

// askWith asks for the Inbox with these headers and returns the answer's status and header.
func askWith(t *testing.T, through *http.Client, url string, headers map[string]string) (int, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodPost, url, strings.NewReader(envelope("Exchange2010", getInbox)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := through.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, response.Header
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

func TestTokensAreCheckedAsExchangeChecksThem(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	exchange := start(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}, Clock: clock})
	good := exchange.IssueToken(alice, time.Hour)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	other := start(t, ewstest.Options{}).IssueToken(alice, time.Hour)
	for name, c := range map[string]struct {
		token, diagnostics string
		status             int
	}{
		"a good one":                 {good, "", 200},
		"one that has ended":         {exchange.IssueToken(alice, 0), `error_category="token_expired"`, 401},
		"one without a signature":    {none, `error_category="invalid_token"`, 401},
		"one with another signature": {parts[0] + "." + parts[1] + "." + strings.Split(other, ".")[2], `error_category="invalid_token"`, 401},
		"one of another provider":    {other, `error_category="invalid_token"`, 401},
		"none":                       {"", `error_category="invalid_token"`, 401},
	} {
		status, header := askWith(t, client(t, exchange), exchange.URL(), bearer(c.token))
		if status != c.status || !strings.Contains(header.Get("X-Ms-Diagnostics"), c.diagnostics) {
			t.Errorf("%s: status %d, diagnostics %q", name, status, header.Get("X-Ms-Diagnostics"))
		}
		if status == http.StatusUnauthorized && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: the challenge is %q", name, header.Get("WWW-Authenticate"))
		}
	}
	exchange.RevokeTokens(alice)
	if status, _ := askWith(t, client(t, exchange), exchange.URL(), bearer(good)); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: status %d", status)
	}
	withoutOAuth := start(t, ewstest.Options{})
	if status, header := askWith(t, client(t, withoutOAuth), withoutOAuth.URL(), bearer(withoutOAuth.IssueToken(alice, time.Hour))); status != 401 || header.Get("X-Ms-Diagnostics") != "" {
		t.Errorf("a token where OAuth is off: status %d", status)
	}
}

func TestOnlyTheTrustedProxyNamesUsers(t *testing.T) {
	t.Parallel()
	trusting, distrustful := start(t, ewstest.Options{TrustedProxy: "secret"}), start(t, ewstest.Options{})
	for name, c := range map[string]struct {
		exchange *ewstest.Server
		login    string
		status   int
	}{
		"the proxy":                      {trusting, "secret " + alice, 200},
		"another secret":                 {trusting, "Secret " + alice, 401},
		"no secret":                      {trusting, " " + alice, 401},
		"a user who is not there":        {trusting, "secret eve@example.com", 401},
		"a proxy that nobody trusts":     {distrustful, "secret " + alice, 401},
		"no secret where there is none":  {distrustful, " " + alice, 401},
		"a user where there is no proxy": {distrustful, alice, 401},
	} {
		if status, _ := askWith(t, client(t, c.exchange), c.exchange.URL(), map[string]string{ewstest.TrustedLoginHeader: c.login}); status != c.status {
			t.Errorf("%s: status %d, want %d", name, status, c.status)
		}
	}
}

func TestAnNTLMHandshakeIsBoundToItsConnection(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}})
	negotiate, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		t.Fatal(err)
	}
	ntlm := func(message []byte) map[string]string {
		return map[string]string{"Authorization": "NTLM " + base64.StdEncoding.EncodeToString(message)}
	}
	first, second := client(t, exchange), client(t, exchange)
	status, header := askWith(t, first, exchange.URL(), ntlm(negotiate))
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header.Get("WWW-Authenticate"), "NTLM "))
	if status != http.StatusUnauthorized || err != nil {
		t.Fatalf("status %d, challenge %q, error %v", status, header.Get("WWW-Authenticate"), err)
	}
	authenticate, err := ntlmssp.NewAuthenticateMessage(challenge, alice, password, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := askWith(t, second, exchange.URL(), ntlm(authenticate)); status != http.StatusUnauthorized {
		t.Errorf("on another connection: status %d", status)
	}
	if exchange.AuthFailures(alice) != 0 {
		t.Error("a message on another connection counted as a wrong password")
	}
	if status, _ := askWith(t, second, exchange.URL(), map[string]string{"Authorization": "NTLM !"}); status != http.StatusUnauthorized {
		t.Errorf("a message that is none: status %d", status)
	}
	altered := append([]byte(nil), authenticate...)
	altered[len(altered)-1] ^= 1 // a letter of the user's name
	if status, _ := askWith(t, second, exchange.URL(), ntlm(altered)); status != http.StatusUnauthorized {
		t.Errorf("an altered message: status %d", status)
	}
}

func TestCertificatesAreIssuedInOldAndNewFilesWithTheUPN(t *testing.T) {
	t.Parallel()
	lengths := map[string]bool{}
	for seed := range uint64(8) {
		exchange := start(t, ewstest.Options{Seed: seed + 1, ClientCertificates: ewstest.ClientCertificatesRequire})
		pfx, secret, err := exchange.IssueCertificate(alice)
		if err != nil {
			t.Fatal(err)
		}
		key, leaf, chain, err := pkcs12.DecodeChain(pfx, secret)
		if err != nil || ewstest.CertificateUPN(leaf) != alice {
			t.Fatalf("seed %d: the UPN is %q, error %v", seed, ewstest.CertificateUPN(leaf), err)
		}
		lengths[fmt.Sprint(len(chain))] = true
		through := client(t, exchange)
		through.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
		if status, _ := askWith(t, through, exchange.URL(), nil); status != http.StatusOK {
			t.Errorf("seed %d: status %d", seed, status)
		}
	}
	if len(lengths) != 2 {
		t.Error("all files were alike")
	}
}

func TestARequiredCertificateIsAskedForBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{ClientCertificates: ewstest.ClientCertificatesRequire})
	headers := map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(alice+":"+password))}
	if status, header := askWith(t, client(t, exchange), exchange.URL(), headers); status != http.StatusForbidden || header.Get("WWW-Authenticate") != "" {
		t.Errorf("status %d", status)
	}
}

func TestAnOutageIsForEverybodyAndHasAnEnd(t *testing.T) {
	t.Parallel()
	exchange := start(t, ewstest.Options{})
	for _, out := range []bool{true, false} {
		exchange.Outage(out)
		if status, _ := ask(t, exchange, envelope("Exchange2010", getInbox)); (status == http.StatusUnauthorized) != out {
			t.Errorf("outage %v: status %d", out, status)
		}
	}
	if exchange.AuthFailures(alice) != 0 {
		t.Error("the outage counted as a wrong password")
	}
}

func TestServersSayWhichVersionTheyAre(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"Exchange2010_SP1": `MajorVersion="14" MinorVersion="1"`, "Exchange2010_SP2": `MajorVersion="14" MinorVersion="3"`,
		"Exchange2013": `MajorVersion="15" MinorVersion="0"`, "": `MajorVersion="15" MinorVersion="1"`,
	} {
		exchange := start(t, ewstest.Options{Version: version})
		if _, answer := ask(t, exchange, envelope("Exchange2010", getInbox)); !strings.Contains(answer, want) {
			t.Errorf("%s: %s", version, answer)
		}
	}
}
