package authn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	alice         = "alice@example.com"
	aliceLogin    = `EXAMPLE\alice`
	alicePassword = "correct horse ünïcode 😀"
	bob           = "bob@example.com"
	bobPassword   = "bob's"
)

// getInbox is what every request of these tests asks for, as one line.
const getInbox = `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"` +
	` xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">` +
	`<soap:Body><m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>` +
	`<m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder></soap:Body></soap:Envelope>` + "\n"

// newExchange starts a fake with Alice and Bob.
func newExchange(t *testing.T, options ewstest.Options) *ewstest.Server {
	t.Helper()
	exchange := ewstest.StartT(t, options)
	exchange.AddMailbox(ewstest.Mailbox{Address: alice, Logins: []string{alice, aliceLogin}, Password: alicePassword})
	exchange.AddMailbox(ewstest.Mailbox{Address: bob, Password: bobPassword})
	return exchange
}

func trust(exchanges ...*ewstest.Server) *tls.Config {
	roots := x509.NewCertPool()
	for _, exchange := range exchanges {
		roots.AppendCertsFromPEM(exchange.CertificatePEM())
	}
	return &tls.Config{RootCAs: roots}
}

// newAuthenticator allows the methods at the exchange; o may say more.
func newAuthenticator(t *testing.T, exchange *ewstest.Server, o authn.Options, methods ...config.AuthenticationMethod) *authn.Authenticator {
	t.Helper()
	o.Name, o.Methods = `the endpoint "mail"`, methods
	if o.TLS == nil {
		o.TLS = trust(exchange)
	}
	if o.DialContext == nil {
		o.DialContext = new(net.Dialer).DialContext
	}
	authenticator := authn.New(o)
	t.Cleanup(authenticator.Close)
	return authenticator
}

func connect(t *testing.T, authenticator *authn.Authenticator, user credential.Credential) *authn.Conn {
	t.Helper()
	conn, err := authenticator.Conn(user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// answer is what came back, read to its end.
type answer struct {
	response *http.Response
	body     string
}

// ask asks for the Inbox through any round-tripper. change may be nil.
func ask(t *testing.T, through http.RoundTripper, url string, change func(*http.Request)) (answer, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodPost, url, strings.NewReader(getInbox))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	if change != nil {
		change(request)
	}
	response, err := through.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response: response, body: string(body)}, nil
}

// inboxOf asks for the Inbox and checks that it is that of the address.
func inboxOf(t *testing.T, exchange *ewstest.Server, through http.RoundTripper, address string) {
	t.Helper()
	got, err := ask(t, through, exchange.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.response.StatusCode != http.StatusOK || !strings.Contains(got.body, exchange.InboxID(address)) {
		t.Fatalf("answered %d, and it is not the Inbox of %s", got.response.StatusCode, address)
	}
}

func basic(username, password string) credential.Credential {
	return credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(username), Password: secret.FromString(password),
	}
}

func oauth(token string) credential.Credential {
	return credential.Credential{AuthType: credential.OAuth, Token: secret.FromString(token)}
}

// cba is the credential of a client certificate that the exchange issued for the address.
func cba(t *testing.T, exchange *ewstest.Server, address string) credential.Credential {
	t.Helper()
	pfx, password, err := exchange.IssueCertificate(address)
	if err != nil {
		t.Fatal(err)
	}
	key, leaf, authorities, err := pkcs12.DecodeChain(pfx, password)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := credential.Certificate{Key: secret.New(der), Chain: []secret.Value{secret.New(leaf.Raw)}}
	for _, authority := range authorities {
		certificate.Chain = append(certificate.Chain, secret.New(authority.Raw))
	}
	return credential.Credential{AuthType: credential.CBA, Certificate: certificate}
}

// beside is the certificate of one credential beside the password or token of another.
func beside(certificate, other credential.Credential) credential.Credential {
	other.Certificate = certificate.Certificate
	other.AuthType = map[credential.AuthType]credential.AuthType{
		credential.Basic: credential.BasicCBA, credential.OAuth: credential.OAuthCBA,
	}[other.AuthType]
	return other
}
