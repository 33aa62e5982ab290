package server_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// discovering is a tenant with two Exchange servers, among which Autodiscover chooses for the users of example.com.
type discovering struct {
	*runtimetest.Tenant
	service *autodiscovertest.Server
	// other is the second Exchange; the first one is the tenant's own.
	other *ewstest.Server
}

func newDiscovering(t *testing.T, change ...func(*runtimetest.Options)) *discovering {
	t.Helper()
	d := &discovering{service: autodiscovertest.StartT(t, autodiscovertest.Options{}), other: ewstest.StartT(t, ewstest.Options{})}
	options := runtimetest.Options{
		LookupSRV: d.service.LookupSRV,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(address); net.ParseIP(host) != nil { // a simulated server under its address
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			return d.service.DialContext(ctx, network, address)
		},
		Configure: func(c *config.Config) {
			c.Endpoints = append(c.Endpoints, config.Endpoint{
				Name: "branch", URL: d.other.URL(), Pinning: config.Pinning{SHA256: []string{d.other.Fingerprint()}},
			})
			c.Autodiscover = &config.Autodiscover{Domains: []string{"example.com"}, CABundle: true}
		},
	}
	for _, c := range change {
		c(&options)
	}
	d.Tenant = runtimetest.New(t, options)
	d.Write(t, filepath.Join(config.AutodiscoverFolder, config.CABundleFile), d.service.AuthorityPEM())
	d.Start(t)
	return d
}

// phone is a phone that does not know its Exchange server.
func (d *discovering) phone() *boxertest.Phone {
	phone := d.Phone(alice, push.IOS)
	phone.EWSURL = ""
	return phone
}

// serve makes the service tell alice's server in one form.
func (d *discovering) serve(host string, form autodiscovertest.Form, ewsURL string) {
	d.service.AddHost(host, autodiscovertest.Host{Forms: []autodiscovertest.Form{form}})
	d.service.AddUser(autodiscovertest.User{Address: alice, Password: runtimetest.Password, EWSURL: ewsURL})
}

func TestADeviceThatKnowsNoServerIsLedToItsOwn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange   func(*discovering)
		withEmail bool
	}{
		"by JSON": {func(d *discovering) { d.serve("autodiscover.example.com", autodiscovertest.JSON, d.other.URL()) }, false},
		"by SOAP": {func(d *discovering) { d.serve("autodiscover.example.com", autodiscovertest.SOAP, d.other.URL()) }, true},
		"by POX":  {func(d *discovering) { d.serve("example.com", autodiscovertest.POX, d.other.URL()) }, false},
		"by a redirect of plain http": {func(d *discovering) {
			d.serve("mail.example.com", autodiscovertest.POX, d.other.URL())
			d.service.AddHost("autodiscover.example.com", autodiscovertest.Host{Redirect: "https://mail.example.com/autodiscover/autodiscover.xml"})
		}, false},
		"by a service record": {func(d *discovering) {
			d.serve("mail.example.com", autodiscovertest.POX, d.other.URL())
			d.service.AddSRV("example.com", "mail.example.com", 443)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiscovering(t)
			phone := d.phone()
			phone.WithEmail = test.withEmail
			d.other.AddMailbox(ewstest.Mailbox{Address: alice, Password: runtimetest.Password})
			test.arrange(d)
			runtimetest.MustRegister(t, phone, 7)
			if n, m := len(d.other.Subscriptions()), len(d.Exchange.Subscriptions()); n != 1 || m != 0 {
				t.Errorf("%d subscriptions were made at the right server and %d at the other", n, m)
			}
			if n := len(d.Exchange.Requests()); n != 0 {
				t.Errorf("the other server was asked %d times", n)
			}
			if _, err := d.other.Deliver(alice, lunch); err != nil {
				t.Fatal(err)
			}
			if titles := shown(t, d.Tenant, phone, 1); titles[0] != lunch.FromName {
				t.Errorf("shown are %q", titles)
			}
			for _, request := range d.service.Requests() {
				if request.HadCredential && !request.TLS || request.Problem != "" {
					t.Errorf("a request to %s: over TLS %t, %s", request.Host, request.TLS, request.Problem)
				}
			}
		})
	}
}

func TestAutodiscoverThatLeadsNowhereIsAnsweredWithTheContractsCode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange func(*discovering, *boxertest.Phone)
		code    int
		message string
	}{
		"there is none": {func(*discovering, *boxertest.Phone) {}, 14, "The Autodiscover service couldn't be located."},
		"it tells a server that is not the tenant's": {func(d *discovering, _ *boxertest.Phone) {
			d.serve("autodiscover.example.com", autodiscovertest.JSON, "https://evil.example.net/EWS/Exchange.asmx")
		}, 16, "evil.example.net"},
		"the domain may not be asked": {func(d *discovering, phone *boxertest.Phone) {
			phone.Address, phone.Username = "alice@example.net", "alice@example.net"
		}, 16, "domain"},
		"the address is not known": {func(d *discovering, phone *boxertest.Phone) {
			d.serve("autodiscover.example.com", autodiscovertest.JSON, d.Exchange.URL())
			phone.Username = `CORP\alice`
		}, 16, "e-mail address"},
		"it lies about its name": {func(d *discovering, _ *boxertest.Phone) {
			d.serve("autodiscover.example.com", autodiscovertest.JSON, d.Exchange.URL())
			d.service.AddHost("autodiscover.example.com", autodiscovertest.Host{
				Forms: autodiscovertest.AllForms, Certificate: autodiscovertest.CertificateOfOtherName,
			})
		}, 14, "couldn't be located"},
		"it refuses the credential": {func(d *discovering, phone *boxertest.Phone) {
			d.serve("autodiscover.example.com", autodiscovertest.POX, d.Exchange.URL())
			phone.Password = "not the password"
		}, 14, "refused"},
		"it leads outside of the domain": {func(d *discovering, _ *boxertest.Phone) {
			d.service.AddHost("evilexample.com", autodiscovertest.Host{Forms: autodiscovertest.AllForms})
			d.service.AddHost("autodiscover.example.com", autodiscovertest.Host{
				Redirect: "https://evilexample.com/autodiscover/autodiscover.xml",
				Faults: map[autodiscovertest.Form]autodiscovertest.Fault{
					autodiscovertest.POX: {Status: http.StatusFound, Location: "https://evilexample.com/autodiscover/autodiscover.xml"},
				},
			})
		}, 14, "couldn't be located"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiscovering(t)
			phone := d.phone()
			test.arrange(d, phone)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusConflict, test.code, test.message)
			for _, secret := range []string{phone.Address, phone.Password} {
				if strings.Contains(answer.Message, secret) {
					t.Errorf("the errorMessage carries what it must not: %q", answer.Message)
				}
			}
			for _, request := range d.service.Requests() {
				if request.Host == "evilexample.com" || request.HadCredential && !request.TLS {
					t.Errorf("%s was asked, with a credential: %t", request.Host, request.HadCredential)
				}
			}
			if n := storetest.Value[int](t, d.Schema, `SELECT count(*) FROM devices`); n != 0 {
				t.Errorf("%d devices got in", n)
			}
		})
	}
}

func TestAutodiscoverIsAskedAgainWhenExchangeSaysWrongServer(t *testing.T) {
	t.Parallel()
	d := newDiscovering(t)
	const bob = "bob@example.com"
	d.serve("autodiscover.example.com", autodiscovertest.JSON, d.other.URL())
	d.service.AddUser(autodiscovertest.User{Address: bob, Password: runtimetest.Password, EWSURL: d.Exchange.URL()})
	colleague := d.Phone(bob, push.IOS)
	colleague.EWSURL = ""
	runtimetest.MustRegister(t, colleague, 7)
	asked := len(d.service.Requests())
	runtimetest.MustRegister(t, colleague, 7)
	if n := len(d.service.Requests()); n != asked {
		t.Errorf("Autodiscover was asked %d times more, though the answer holds for an hour", n-asked)
	}

	// Alice is of the same domain, but her mailbox is elsewhere.
	phone := d.phone()
	d.other.AddMailbox(ewstest.Mailbox{Address: alice, Password: runtimetest.Password})
	d.Exchange.OnRequest(func(_, user string) ewstest.Fault {
		if user == alice {
			return ewstest.Fault{Code: "ErrorProxyRequestNotAllowed"}
		}
		return ewstest.Fault{}
	})
	runtimetest.MustRegister(t, phone, 7)
	if n := len(d.other.Subscriptions()); n != 1 {
		t.Errorf("%d subscriptions were made at the server where the mailbox is", n)
	}
	runtimetest.MustRegister(t, colleague, 7) // is where he was
}
