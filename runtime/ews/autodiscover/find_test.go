package autodiscover_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

func TestEachWayLeadsToTheEndpoint(t *testing.T) {
	t.Parallel()
	const json, soap, pox = autodiscovertest.JSON, autodiscovertest.SOAP, autodiscovertest.POX
	tests := map[string]struct {
		set func(s *scene)
		// last is the request that was answered with the address.
		last string
	}{
		"JSON at the domain":                   {func(s *scene) { s.host(bare, json) }, "example.com json"},
		"JSON at autodiscover":                 {func(s *scene) { s.host(auto, json) }, "autodiscover.example.com json"},
		"SOAP at the domain":                   {func(s *scene) { s.host(bare, soap) }, "example.com soap*"},
		"SOAP at autodiscover":                 {func(s *scene) { s.host(auto, soap) }, "autodiscover.example.com soap*"},
		"plain XML at the domain":              {func(s *scene) { s.host(bare, pox) }, "example.com pox*"},
		"plain XML at autodiscover":            {func(s *scene) { s.host(auto, pox) }, "autodiscover.example.com pox*"},
		"the domain before autodiscover":       {func(s *scene) { s.host(auto, pox, soap); s.host(bare, pox, soap) }, "example.com soap*"},
		"JSON before all that need a password": {func(s *scene) { s.host(bare, pox, soap); s.host(auto, json) }, "autodiscover.example.com json"},
		"a redirect over plain HTTP": {func(s *scene) {
			s.AddHost(auto, autodiscovertest.Host{Redirect: "https://deep.cas.example.com/autodiscover/autodiscover.xml"})
			s.host("deep.cas.example.com", pox)
		}, "deep.cas.example.com pox*"},
		"a service record": {func(s *scene) {
			s.AddSRV(domain, "CAS.example.com", 443)
			s.host("cas.example.com", pox)
		}, "cas.example.com pox*"},
		"the second of two service records": {func(s *scene) {
			s.AddSRV(domain, "gone.example.com", 443)
			s.AddSRV(domain, "cas.example.com", 443)
			s.host("cas.example.com", pox)
		}, "cas.example.com pox*"},
	}
	for name, test := range tests {
		for _, seed := range seeds {
			t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, withSeed(seed))
				test.set(s)
				endpoint, err := s.findAlice(t)
				if err != nil || endpoint != "mail" {
					t.Fatalf("got %q, %v", endpoint, err)
				}
				asked := s.asked()
				if last := asked[len(asked)-1]; last != test.last {
					t.Errorf("found by %q, want %q", last, test.last)
				}
			})
		}
	}
}

func TestAllIsAskedInTheDocumentedOrder(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(bare)
	s.AddHost(auto, autodiscovertest.Host{Redirect: "https://www.example.com/autodiscover/autodiscover.xml"})
	s.host("www.example.com")
	s.AddSRV(domain, "cas.example.com", 443)
	s.host("cas.example.com")
	_, err := s.findAlice(t)
	if !errors.Is(err, autodiscover.ErrNotLocated) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		"example.com json", "autodiscover.example.com json",
		"example.com soap", "example.com pox", "autodiscover.example.com soap", "autodiscover.example.com pox",
		"autodiscover.example.com plain", "www.example.com pox", "cas.example.com pox",
	}
	if got := s.asked(); !slices.Equal(got, want) {
		t.Errorf("asked\n%q, want\n%q", got, want)
	}
	const text = "The Autodiscover service couldn't be located. What was asked: " +
		"https://example.com (json, soap, pox) answered 404 Not Found; " +
		"https://autodiscover.example.com (json, soap, pox) answered 404 Not Found; " +
		"https://www.example.com (pox) answered 404 Not Found; https://cas.example.com (pox) answered 404 Not Found"
	if err.Error() != text {
		t.Errorf("the error says\n%s\nwant\n%s", err, text)
	}
}

func TestTheFirstAddressThatIsAnEndpointCounts(t *testing.T) {
	t.Parallel()
	const pox, soap = autodiscovertest.POX, autodiscovertest.SOAP
	protocol := func(name, element, url string) string {
		return "<Protocol><Type>" + name + "</Type><" + element + ">" + url + "</" + element + "></Protocol>"
	}
	tests := map[string]struct {
		form autodiscovertest.Form
		user autodiscovertest.User
		want string
	}{
		"the address from outside before the one from inside": {soap, autodiscovertest.User{EWSURL: mailURL, InternalEWSURL: secondURL}, "mail"},
		"the address from inside if the other is no endpoint": {soap, autodiscovertest.User{EWSURL: cloudURL, InternalEWSURL: secondURL}, "second"},
		"the address from inside if there is no other":        {soap, autodiscovertest.User{InternalEWSURL: secondURL}, "second"},
		"EXPR before EXCH":                                       {pox, autodiscovertest.User{EWSURL: mailURL, InternalEWSURL: secondURL}, "mail"},
		"EXCH if that of EXPR is no endpoint":                    {pox, autodiscovertest.User{EWSURL: cloudURL, InternalEWSURL: secondURL}, "second"},
		"EXPR before EXCH and others, wherever they stand":       {pox, autodiscovertest.User{Protocols: protocol("WEB", "EwsUrl", secondURL) + protocol("EXCH", "EwsUrl", secondURL) + protocol("EXPR", "EwsUrl", mailURL)}, "mail"},
		"another protocol if there is neither":                   {pox, autodiscovertest.User{Protocols: protocol("EXHTTP", "EwsUrl", mailURL)}, "mail"},
		"EwsUrl of any before ASUrl":                             {pox, autodiscovertest.User{Protocols: protocol("EXPR", "ASUrl", secondURL) + protocol("EXCH", "EwsUrl", mailURL)}, "mail"},
		"ASUrl if there is no EwsUrl":                            {pox, autodiscovertest.User{Protocols: protocol("EXPR", "ASUrl", mailURL)}, "mail"},
		"ASUrl of the browser's protocol as a last resort":       {pox, autodiscovertest.User{Protocols: `<Protocol><Type>WEB</Type><External>` + protocol("EXPR", "ASUrl", mailURL) + `</External></Protocol>`}, "mail"},
		"the browser's protocol from outside before from inside": {pox, autodiscovertest.User{Protocols: `<Protocol><Type>WEB</Type><Internal>` + protocol("EXCH", "ASUrl", secondURL) + `</Internal><External>` + protocol("EXPR", "ASUrl", mailURL) + `</External></Protocol>`}, "mail"},
		"a type given as an attribute":                           {pox, autodiscovertest.User{Protocols: `<Protocol Type="mapiHttp"><MailStore/></Protocol>` + protocol("EXCH", "EwsUrl", mailURL)}, "mail"},
	}
	for name, test := range tests {
		for _, seed := range seeds {
			t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, withSeed(seed))
				s.host(auto, test.form)
				user := test.user
				user.Address, user.Login, user.Password = alice, `EXAMPLE\alice`, alicePassword
				s.AddUser(user)
				if endpoint, err := s.findAlice(t); err != nil || endpoint != test.want {
					t.Errorf("got %q, %v, want %q", endpoint, err, test.want)
				}
			})
		}
	}
}

func TestAnAddressThatIsNoEndpointIsNamedByItsHost(t *testing.T) {
	t.Parallel()
	for _, form := range autodiscovertest.AllForms {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.host(auto, form)
			s.AddUser(autodiscovertest.User{Address: alice, Login: `EXAMPLE\alice`, Password: alicePassword, EWSURL: "https://Outlook.Cloud.example/EWS/alice@example.com?server's+own+words"})
			_, err := s.findAlice(t)
			if !errors.Is(err, autodiscover.ErrNoEndpoint) || errors.Is(err, autodiscover.ErrNotLocated) {
				t.Fatalf("got %v", err)
			}
			if want := "https://outlook.cloud.example:"; !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not name what was found: %v", err)
			}
		})
	}
}

func TestAfterAnAddressThatIsNoEndpointTheOthersAreAsked(t *testing.T) {
	t.Parallel()
	// In hybrid organisations v2 may name the cloud for a mailbox that is not there (ews.md, section 4).
	s := newScene(t)
	s.faulty(bare, autodiscovertest.JSON, autodiscovertest.Fault{Content: []byte(`{"Protocol":"EWS","Url":"` + cloudURL + `"}`)})
	s.host(auto, autodiscovertest.POX)
	if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
		t.Errorf("got %q, %v", endpoint, err)
	}
}

func TestAddressesOfOtherDomainsAreNotAsked(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"another domain":                    "alice@example.org",
		"a look-alike":                      "alice@evilexample.com",
		"the domain in front of another":    "alice@example.com.evil.net",
		"the parent":                        "alice@com",
		"the root's dot":                    "alice@example.com.",
		"an IP address":                     "alice@127.0.0.1",
		"an IP address in brackets":         "alice@[127.0.0.1]",
		"no domain":                         "alice@",
		"no user":                           "@example.com",
		"no @":                              "alice",
		"nothing":                           "",
		"a second @":                        "alice@example.com@evil.net",
		"a port":                            "alice@example.com:444",
		"a path":                            "alice@evil.net/example.com",
		"a control character":               "alice\r\n@example.com",
		"a label that looks like the right": "alice@exаmple.com", // the а is Cyrillic
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.host(auto, autodiscovertest.AllForms...)
			if _, err := s.find(t, address, basic(`EXAMPLE\alice`, alicePassword), false); !errors.Is(err, autodiscover.ErrNotAllowed) {
				t.Errorf("got %v", err)
			}
			if dials := s.Dials(); len(dials) > 0 {
				t.Errorf("%q were dialled", dials)
			}
		})
	}
}

func TestDomainsAreComparedAsTheyAreLookedUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ domain, address, host string }{
		"upper case":         {"EXAMPLE.com", "Alice@Example.COM", "autodiscover.example.com"},
		"a subdomain":        {"example.com", "alice@sales.example.com", "autodiscover.sales.example.com"},
		"letters with marks": {"xn--bcher-kva.example", "alice@BÜCHER.example", "autodiscover.xn--bcher-kva.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, withDomains(test.domain))
			s.host(test.host, autodiscovertest.AllForms...)
			s.AddUser(autodiscovertest.User{Address: test.address, EWSURL: mailURL})
			if endpoint, err := s.find(t, test.address, basic("x", "y"), false); err != nil || endpoint != "mail" {
				t.Errorf("got %q, %v", endpoint, err)
			}
		})
	}
}

func TestAnAccessTokenIsPresented(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.SOAP)
	user := credential.Credential{AuthType: credential.OAuth, Token: secret.FromString(aliceToken)}
	if endpoint, err := s.find(t, alice, user, false); err != nil || endpoint != "mail" {
		t.Errorf("got %q, %v", endpoint, err)
	}
}

func TestACredentialThatMayNotBePresentedIsNotSent(t *testing.T) {
	t.Parallel()
	onlyOAuth := func(_ *autodiscovertest.Options, o *autodiscover.Options) {
		o.Config.AuthenticationMethods = []config.AuthenticationMethod{config.AuthOAuth}
	}
	s := newScene(t, onlyOAuth)
	s.host(auto, autodiscovertest.SOAP, autodiscovertest.POX)
	_, err := s.findAlice(t)
	if !errors.Is(err, authn.ErrNotAvailable) || !errors.Is(err, autodiscover.ErrNotLocated) || errors.Is(err, autodiscover.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	for _, r := range s.Requests() {
		if r.HadCredential {
			t.Errorf("%s got a credential", r.Host)
		}
	}
}

// clientCertificate makes a credential that is a self-signed certificate.
func clientCertificate(t *testing.T) credential.Credential {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return credential.Credential{
		AuthType:    credential.CBA,
		Certificate: credential.Certificate{Chain: []secret.Value{secret.New(der)}, Key: secret.New(pkcs8)},
	}
}

func TestACertificateIsPresentedToWhoWantsIt(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]autodiscovertest.ClientCertificate{
		"in place of a password": autodiscovertest.ClientCertificateAccepted,
		"after 403":              autodiscovertest.ClientCertificateOrForbidden,
		"in the handshake":       autodiscovertest.ClientCertificateInHandshake,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.inHandshake = way == autodiscovertest.ClientCertificateInHandshake
			s.AddHost(auto, autodiscovertest.Host{Forms: autodiscovertest.AllForms[1:], ClientCertificate: way})
			user := clientCertificate(t)
			// Somebody else's certificate is refused, and nobody's password is of use where a certificate is wanted.
			if _, err := s.find(t, alice, user, false); !errors.Is(err, autodiscover.ErrUnauthorized) {
				t.Errorf("an unknown certificate got %v", err)
			}
			if way == autodiscovertest.ClientCertificateInHandshake {
				if _, err := s.findBob(t); !errors.Is(err, autodiscover.ErrNotLocated) {
					t.Errorf("Bob's password got %v", err)
				}
			}
			s.AddUser(autodiscovertest.User{Address: alice, Certificate: user.Certificate.Chain[0].Reveal(), EWSURL: mailURL})
			if endpoint, err := s.find(t, alice, user, false); err != nil || endpoint != "mail" {
				t.Errorf("got %q, %v", endpoint, err)
			}
		})
	}
}

func TestAnExpiredAccessTokenIsToldApart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.SOAP)
	user := credential.Credential{AuthType: credential.OAuth, Token: secret.FromString(aliceToken), Expires: time.Now().Add(-time.Minute)}
	if _, err := s.find(t, alice, user, false); !errors.Is(err, authn.ErrTokenExpired) || errors.Is(err, autodiscover.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
		t.Errorf("Bob got %q, %v", endpoint, err)
	}
}
