package server_test

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// allow makes the tenant's endpoint allow these methods.
func allow(methods ...config.AuthenticationMethod) func(*config.Config) {
	return func(c *config.Config) { c.Endpoints[0].AuthenticationMethods = methods }
}

// withToken gives the phone an access token that holds for an hour.
func withToken(x *runtimetest.Tenant, phone *boxertest.Phone) {
	phone.AuthType, phone.Encryption = boxertest.AuthOAuth, boxertest.RSAPKCS1Chunked
	phone.Token, phone.Password = x.Exchange.IssueToken(phone.Address, time.Hour), ""
}

// withCertificate gives the phone its user's certificate.
func withCertificate(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
	t.Helper()
	withCertificateAs(t, x, phone, func(*x509.Certificate) {})
}

// withCertificateAs gives the phone a certificate of its user's that change has made another one.
func withCertificateAs(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone, change func(*x509.Certificate)) {
	t.Helper()
	pfx, password, err := x.Exchange.IssueCertificate(phone.Address, change)
	if err != nil {
		t.Fatal(err)
	}
	phone.AuthType, phone.Encryption, phone.PFX, phone.PFXPassword = boxertest.AuthCBA, boxertest.RSAPKCS1Chunked, pfx, password
}

func TestEveryWayOfAuthenticatingBringsMailToThePhone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		exchange ewstest.Options
		methods  []config.AuthenticationMethod
		arrange  func(*testing.T, *runtimetest.Tenant, *boxertest.Phone)
	}{
		"Basic": {methods: []config.AuthenticationMethod{config.AuthBasic}},
		"a long password in blocks": {
			methods: []config.AuthenticationMethod{config.AuthBasic},
			arrange: func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				phone.Password, phone.Encryption = strings.Repeat("correct horse ", 30), boxertest.RSAPKCS1Chunked
				x.Exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: phone.Password})
			},
		},
		"NTLM": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Negotiate, ewstest.NTLM}},
			methods:  []config.AuthenticationMethod{config.AuthNTLM},
		},
		"NTLM where Basic is allowed but not offered": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}},
			methods:  []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM},
		},
		"OAuth": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			methods:  []config.AuthenticationMethod{config.AuthOAuth},
			arrange:  func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) { withToken(x, phone) },
		},
		"OAuth by rsa-split": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			methods:  []config.AuthenticationMethod{config.AuthOAuth},
			arrange: func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withToken(x, phone)
				phone.Encryption = boxertest.RSASplit
			},
		},
		"a certificate": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}, ClientCertificates: ewstest.ClientCertificatesAccept},
			methods:  []config.AuthenticationMethod{config.AuthClientCertificate},
			arrange:  withCertificate,
		},
		"Basic and a certificate": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}, ClientCertificates: ewstest.ClientCertificatesRequire},
			methods:  []config.AuthenticationMethod{config.AuthBasic, config.AuthClientCertificate},
			arrange: func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withCertificate(t, x, phone)
				phone.AuthType = boxertest.AuthBasicCBA
			},
		},
		"OAuth and a certificate, by rsa-split": {
			exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}, ClientCertificates: ewstest.ClientCertificatesRequire},
			methods:  []config.AuthenticationMethod{config.AuthOAuth, config.AuthClientCertificate},
			arrange: func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withToken(x, phone)
				withCertificate(t, x, phone)
				phone.AuthType, phone.Encryption = boxertest.AuthOAuthCBA, boxertest.RSASplit
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Exchange: test.exchange, Configure: allow(test.methods...)})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			if test.arrange != nil {
				test.arrange(t, x, phone)
			}
			runtimetest.MustRegister(t, phone, 7)
			heard(t, x, "OK")
			deliver(t, x, lunch)
			got, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1)
			if err != nil {
				t.Fatal(err)
			}
			if alert := got[0].APS.Alert; alert == nil || alert.Title != lunch.FromName || alert.Subtitle != lunch.Subject {
				t.Errorf("the phone shows %+v", alert)
			}
			for _, request := range x.Exchange.Requests() {
				if request.User != "" && request.User != alice || request.HadCookie {
					t.Errorf("a request ran as %s, with a cookie: %t", request.User, request.HadCookie)
				}
			}
			nothingRests(t, x, phone)
		})
	}
}

// nothingRests looks for the credential in the database.
func nothingRests(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
	t.Helper()
	dump := storetest.Value[string](t, x.Schema, `SELECT coalesce(string_agg(s::text, E'\n'), '') || coalesce((SELECT string_agg(a::text, E'\n') FROM activity a), '') FROM subscriptions s`)
	for _, secret := range []string{phone.Password, phone.Token, phone.PFXPassword, phone.Address} {
		if secret != "" && strings.Contains(dump, secret) {
			t.Error("a part of the credential rests in the database as it is")
		}
	}
}

func TestACredentialTheEndpointDoesNotAllowIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		methods []config.AuthenticationMethod
		arrange func(*testing.T, *runtimetest.Tenant, *boxertest.Phone)
	}{
		"a token":       {[]config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM, config.AuthClientCertificate}, func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) { withToken(x, phone) }},
		"a password":    {[]config.AuthenticationMethod{config.AuthOAuth, config.AuthClientCertificate}, func(*testing.T, *runtimetest.Tenant, *boxertest.Phone) {}},
		"a certificate": {[]config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM, config.AuthOAuth}, withCertificate},
		"a certificate beside a password that would do": {[]config.AuthenticationMethod{config.AuthBasic}, func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
			withCertificate(t, x, phone)
			phone.AuthType = boxertest.AuthBasicCBA
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: allow(test.methods...)})
			x.Start(t)
			phone := x.Phone(alice, push.IOS)
			test.arrange(t, x, phone)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusBadRequest, 36, "does not allow")
			if n := len(x.Exchange.Requests()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestTokensAndCertificatesOpenOnlyTheirOwnUser(t *testing.T) {
	t.Parallel()
	const mallory = "mallory@example.com"
	for name, test := range map[string]struct {
		exchange ewstest.Options
		attack   func(*testing.T, *runtimetest.Tenant, *boxertest.Phone)
	}{
		"another user's token": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withToken(x, phone)
				phone.Token = x.Exchange.IssueToken(mallory, time.Hour)
			},
		},
		"another user's token with the victim's address": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withToken(x, phone)
				phone.Token, phone.WithEmail = x.Exchange.IssueToken(mallory, time.Hour), true
			},
		},
		"a token that was altered": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}},
			func(_ *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				withToken(x, phone)
				other := strings.Split(x.Exchange.IssueToken(mallory, time.Hour), ".")
				other[1] = strings.Split(phone.Token, ".")[1] // the victim's claims under another signature
				phone.Token = strings.Join(other, ".")
			},
		},
		"another user's certificate": {
			ewstest.Options{Authentication: []ewstest.Scheme{ewstest.Basic}, ClientCertificates: ewstest.ClientCertificatesAccept},
			func(t *testing.T, x *runtimetest.Tenant, phone *boxertest.Phone) {
				pfx, password, err := x.Exchange.IssueCertificate(mallory)
				if err != nil {
					t.Fatal(err)
				}
				phone.AuthType, phone.Encryption, phone.PFX, phone.PFXPassword = boxertest.AuthCBA, boxertest.RSAPKCS1Chunked, pfx, password
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Exchange: test.exchange, Configure: allow(config.AuthOAuth, config.AuthClientCertificate)})
			x.Start(t)
			x.Exchange.AddMailbox(ewstest.Mailbox{Address: mallory, Password: runtimetest.Password})
			phone := x.Phone(alice, push.IOS)
			test.attack(t, x, phone)
			if _, err := phone.PublicKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			answer, err := phone.Register(t.Context())
			wantAnswer(t, answer, err, http.StatusConflict, 14, "")
			if n := storetest.Value[int](t, x.Schema, `SELECT count(*) FROM devices`); n != 0 {
				t.Errorf("%d devices got in", n)
			}
		})
	}
}

func TestATokenThatHasExpiredIsNotSent(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{
		Exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth}}, Configure: allow(config.AuthOAuth),
	})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	withToken(x, phone)
	phone.TokenExpires = time.Now().Add(-time.Minute)
	if _, err := phone.PublicKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := phone.Register(t.Context())
	wantAnswer(t, answer, err, http.StatusConflict, 14, "expired")
	if n := len(x.Exchange.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestUsersOfNTLMNeverRunAsEachOther(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{
		Exchange: ewstest.Options{Authentication: []ewstest.Scheme{ewstest.NTLM}}, Configure: allow(config.AuthNTLM),
	})
	x.Start(t)
	ctx := runtimetest.Context(t)
	var phones []*boxertest.Phone
	for _, address := range []string{alice, "bob@example.com", "carol@example.com", "dave@example.com"} {
		phone := x.Phone(address, push.IOS)
		runtimetest.MustRegister(t, phone, 7)
		phones = append(phones, phone)
	}
	for range 3 {
		for _, phone := range phones {
			if _, err := x.Exchange.Deliver(phone.Address, ewstest.Mail{FromName: "To " + phone.Address, Subject: "Hello"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, phone := range phones {
		if _, err := x.APNs.Wait(ctx, phone.DeviceToken, 3); err != nil {
			t.Fatal(err)
		}
		for _, title := range alertsOf(x, phone) {
			if title != "To "+phone.Address {
				t.Errorf("the phone of %s shows %q", phone.Address, title)
			}
		}
	}
	for _, request := range x.Exchange.Requests() {
		if request.Status == http.StatusOK && request.Presented != "" && request.Presented != request.User {
			t.Errorf("a request of %s ran as %s", request.Presented, request.User)
		}
	}
}

func TestADeviceThatAsksForANewSubscriptionGetsOne(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	first, second := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, first, 7)
	heard(t, x, "OK")
	waitFresh(t, first)
	runtimetest.MustRegister(t, second, 6)
	second.Extra = map[string]any{"forceSubscription": true}
	runtimetest.MustRegister(t, second, 7)
	if n := len(x.Exchange.Subscriptions()); n != 2 {
		t.Errorf("Exchange has made %d subscriptions, want 2", n)
	}
	second.Extra = nil
	runtimetest.MustRegister(t, first, 6) // it is the second one's credential that the subscription carries now
	runtimetest.MustRegister(t, second, 7)
}

func TestWhenTheDeviceGoesWhoseTokenCarriesTheSubscriptionTheOthersAreAskedToRegister(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange func(*runtimetest.Tenant, *boxertest.Phone)
		nudged  bool
		code    int
	}{
		"a token":    {withToken, true, 7},
		"a password": {func(*runtimetest.Tenant, *boxertest.Phone) {}, false, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{
				Exchange:  ewstest.Options{Authentication: []ewstest.Scheme{ewstest.OAuth, ewstest.Basic}},
				Configure: allow(config.AuthOAuth, config.AuthBasic),
			})
			x.Start(t)
			carrier, other, third := x.Phone(alice, push.IOS), x.Phone(alice, push.IOS), x.Phone(alice, push.IOS)
			test.arrange(x, carrier)
			test.arrange(x, other)
			test.arrange(x, third)
			runtimetest.MustRegister(t, carrier, 7)
			heard(t, x, "OK")
			waitFresh(t, carrier)
			runtimetest.MustRegister(t, other, 6)
			unregister(t, carrier, 25)
			if test.nudged {
				if _, err := x.APNs.Wait(runtimetest.Context(t), other.DeviceToken, 1); err != nil {
					t.Fatal(err)
				}
			}
			deliver(t, x, lunch) // until one registers, the subscription goes on
			runtimetest.Eventually(t, func() string {
				if !slices.Contains(alertsOf(x, other), lunch.FromName) {
					return "the mail was not shown"
				}
				return ""
			})
			if silent := silentPushes(x, other); (silent > 0) != test.nudged {
				t.Errorf("%d silent pushes came", silent)
			}
			runtimetest.MustRegister(t, third, test.code)
		})
	}
}
