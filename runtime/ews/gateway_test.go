package ews_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	phone  = "6C30D0304E7A4EE795494DEB0F465B72"
	tablet = "A1b2C3d4E5f60718293A4B5C6D7E8F90"
	// trusted is by which the fake SEG presents the users of certificates.
	trusted = "kerberos"
)

// newGateway starts a SEG with an Exchange behind it. Both devices are compliant.
func newGateway(t *testing.T, options segtest.Options) *segtest.Server {
	t.Helper()
	if options.Exchange == nil {
		options.Exchange = newExchange(t, ewstest.Options{
			Authentication: []ewstest.Scheme{ewstest.Negotiate, ewstest.NTLM, ewstest.Basic, ewstest.OAuth}, TrustedProxy: trusted,
		})
	}
	options.TrustedProxy = trusted
	gateway := segtest.StartT(t, options)
	gateway.SetCompliant(phone, true)
	gateway.SetCompliant(tablet, true)
	return gateway
}

// throughGateway is an endpoint that is a SEG and takes every kind of credential.
func throughGateway(url string) config.Endpoint {
	return config.Config{Endpoints: []config.Endpoint{{
		Name: "mail", URL: url, SecureEmailGateway: new(config.SecureEmailGateway{}),
		AuthenticationMethods: []config.AuthenticationMethod{config.AuthBasic, config.AuthNTLM, config.AuthOAuth, config.AuthClientCertificate},
	}}}.Effective().Endpoints[0]
}

func gatewayClient(t *testing.T, gateway *segtest.Server) *ews.Client {
	t.Helper()
	return newClient(t, ews.Options{Endpoint: throughGateway(gateway.URL()), TLS: trust(gateway.CertificatePEM())})
}

// cba is the credential of a client certificate that the exchange issued for the address.
func cba(t *testing.T, exchange *ewstest.Server, address string) credential.Credential {
	t.Helper()
	pfx, password, err := exchange.IssueCertificate(address)
	if err != nil {
		t.Fatal(err)
	}
	key, leaf, _, err := pkcs12.DecodeChain(pfx, password)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return credential.Credential{
		AuthType:    credential.CBA,
		Certificate: credential.Certificate{Key: secret.New(der), Chain: []secret.Value{secret.New(leaf.Raw)}},
	}
}

func TestEveryKindOfCredentialPassesThroughASEG(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{
		Authentication: []ewstest.Scheme{ewstest.NTLM, ewstest.Basic, ewstest.OAuth}, TrustedProxy: trusted,
	})
	gateway := newGateway(t, segtest.Options{Exchange: exchange})
	client := gatewayClient(t, gateway)
	password := basic(alice, alicePassword)
	password.AuthType, password.Certificate = credential.BasicCBA, cba(t, exchange, alice).Certificate
	for name, user := range map[string]credential.Credential{
		"a password":                      basic(alice, alicePassword),
		"a token":                         oauth(exchange.IssueToken(alice, time.Hour)),
		"a certificate":                   cba(t, exchange, alice),
		"a certificate beside a password": password,
	} {
		session := client.Session(user, activityID)
		defer session.Close()
		session.SetDevices(phone)
		if inbox, err := session.Inbox(testContext(t), ""); err != nil || inbox.ID != exchange.InboxID(alice) {
			t.Errorf("%s: the Inbox is %+v, error %v", name, inbox, err)
		}
	}
}

func TestACertificateOfAnotherAuthorityDoesNotGetThroughASEG(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, segtest.Options{})
	session := gatewayClient(t, gateway).Session(cba(t, newExchange(t, ewstest.Options{}), alice), activityID)
	defer session.Close()
	session.SetDevices(phone)
	_, err := session.Inbox(testContext(t), "")
	// Whether the alert arrives before the end of the connection is up to TCP.
	if err == nil || !strings.Contains(err.Error(), "EWS could not be reached at") || len(gateway.Requests()) != 0 {
		t.Errorf("error %v", err)
	}
}

func TestNTLMIsNotForASEG(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, segtest.Options{})
	endpoint := throughGateway(gateway.URL())
	endpoint.AuthenticationMethods = []config.AuthenticationMethod{config.AuthNTLM}
	session := newClient(t, ews.Options{Endpoint: endpoint, TLS: trust(gateway.CertificatePEM())}).Session(basic(alice, alicePassword), activityID)
	defer session.Close()
	session.SetDevices(phone)
	_, err := session.Inbox(testContext(t), "")
	wantError(t, err, ews.ErrUnauthorized, false, 0, "the server does not take NTLM, only Basic")
}

func TestEveryCallThroughASEGNamesTheDevices(t *testing.T) {
	t.Parallel()
	exchange := newExchange(t, ewstest.Options{})
	gateway := newGateway(t, segtest.Options{Exchange: exchange})
	session := gatewayClient(t, gateway).Session(basic(alice, alicePassword), activityID)
	ctx := testContext(t)
	calls := map[string]func(context.Context) error{
		"Inbox":        func(ctx context.Context) error { _, err := session.Inbox(ctx, ""); return err },
		"ResolveNames": func(ctx context.Context) error { _, err := session.ResolveNames(ctx, "alice"); return err },
		"Messages": func(ctx context.Context) error {
			_, err := session.Messages(ctx, []string{"AAMk"}, ews.Fields{})
			return err
		},
		"Subscribe": func(ctx context.Context) error {
			_, err := session.Subscribe(ctx, ews.SubscribeRequest{URL: "http://127.0.0.1:1/", StatusFrequency: time.Minute})
			return err
		},
	}
	session.SetDevices(tablet, "with,comma", "with blank", "", "with\r\nline", phone)
	for name, call := range calls {
		if err := call(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	requests := gateway.Requests()
	if len(requests) != len(calls) {
		t.Errorf("%d calls through the SEG, want %d", len(requests), len(calls))
	}
	for _, request := range requests {
		if request.DeviceID != tablet || !slices.Equal(request.Devices, []string{tablet, phone}) || request.ClientRequestID != activityID {
			t.Errorf("call %+v", request)
		}
	}
}

func TestWithoutASEGNobodyIsToldAboutDevices(t *testing.T) {
	t.Parallel()
	var headers http.Header
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers = r.Header
		w.Header().Set(segtest.TransactionHeader, "544ef2b7-9ca3-4009-b116-8a9f6513f2c7")
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	session := sessionAt(t, server)
	session.SetDevices(phone)
	_, err := session.Inbox(testContext(t), "")
	wantError(t, err, ews.ErrForbidden, false, 0, "EWS is blocked there")
	if headers.Get(segtest.DeviceIDHeader) != "" || headers.Get(segtest.DevicesHeader) != "" {
		t.Errorf("the devices were named in %v", headers)
	}
	if session.GatewayTransaction() != "" || strings.Contains(err.Error(), "544ef2b7") {
		t.Errorf("there is a transaction of a SEG that is not there: %v", err)
	}
	if permitted, known := session.Verdict(phone); !permitted || !known {
		t.Errorf("the verdict is %v, known %v", permitted, known)
	}
}

func TestASEGsRefusalsAreNoneOfExchange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change    func(gateway *segtest.Server)
		devices   []string
		kind      error
		transient bool
		text      string
	}{
		"no policies yet": {
			func(g *segtest.Server) { g.SetPolicyLoaded(false) }, []string{phone}, ews.ErrGatewayNotReady, true, "204 No Content at",
		},
		"no device is known": {
			func(g *segtest.Server) { g.Forget(phone) }, []string{phone}, ews.ErrDevicesUnknown, false, "knows none of the user's devices",
		},
		"no device is named": {func(*segtest.Server) {}, nil, ews.ErrDevicesUnknown, false, "400 Bad Request at"},
		"no device is compliant": {
			func(g *segtest.Server) { g.SetCompliant(phone, false); g.Forget(tablet) }, []string{phone, tablet}, ews.ErrNotCompliant, false, "none of the user's devices is compliant",
		},
		"the proxy is off": {
			func(g *segtest.Server) { g.SetProxyEnabled(false) }, []string{phone}, ews.ErrNotFound, false, "enable.boxer.ens.ews.proxy=true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange := newExchange(t, ewstest.Options{})
			gateway := newGateway(t, segtest.Options{Exchange: exchange})
			c.change(gateway)
			session := gatewayClient(t, gateway).Session(basic(alice, alicePassword), activityID)
			session.SetDevices(c.devices...)
			_, err := session.Inbox(testContext(t), "")
			wantError(t, err, c.kind, c.transient, 0, c.text)
			transaction := gateway.Requests()[0].Transaction
			if !strings.HasSuffix(err.Error(), ", SEG transaction "+transaction) || session.GatewayTransaction() != transaction {
				t.Errorf("the transaction %s is not in %v", transaction, err)
			}
			if len(exchange.Requests()) != 0 {
				t.Error("Exchange was called")
			}
			if permitted, known := session.Verdict(phone); permitted || known {
				t.Errorf("the verdict is %v, known %v, though the call failed", permitted, known)
			}
		})
	}
}

func TestADeviceIsPermittedOnlyByAnAnswerThatIsAboutIt(t *testing.T) {
	t.Parallel()
	type verdict struct{ permitted, known bool }
	for name, c := range map[string]struct {
		names   bool
		change  func(gateway *segtest.Server)
		devices []string
		phone   verdict
		tablet  verdict
	}{
		"the call is for one device": {devices: []string{phone}, phone: verdict{true, true}},
		"the call is for two":        {devices: []string{phone, tablet}},
		"the answer names both": {
			names: true, devices: []string{phone, tablet}, phone: verdict{true, true}, tablet: verdict{true, true},
		},
		"the answer names one that is not compliant": {
			names: true, devices: []string{tablet, phone}, phone: verdict{true, true}, tablet: verdict{false, true},
			change: func(g *segtest.Server) { g.SetCompliant(tablet, false) },
		},
		"the answer names one that is unknown": {
			names: true, devices: []string{tablet, phone}, phone: verdict{true, true}, tablet: verdict{false, true},
			change: func(g *segtest.Server) { g.Forget(tablet) },
		},
	} {
		for _, seed := range seeds {
			gateway := newGateway(t, segtest.Options{NameDevices: c.names, Seed: seed})
			if c.change != nil {
				c.change(gateway)
			}
			session := gatewayClient(t, gateway).Session(basic(alice, alicePassword), activityID)
			session.SetDevices(c.devices...)
			if _, err := session.Inbox(testContext(t), ""); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for device, want := range map[string]verdict{phone: c.phone, strings.ToLower(tablet): c.tablet} {
				if permitted, known := session.Verdict(device); permitted != want.permitted || known != want.known {
					t.Errorf("%s, seed %d: device %s: permitted %v, known %v, want %v", name, seed, device, permitted, known, want)
				}
			}
		}
	}
}

func TestAVerdictIsForgottenWithTheNextCall(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, segtest.Options{})
	session := gatewayClient(t, gateway).Session(basic(alice, alicePassword), activityID)
	session.SetDevices(phone)
	if _, err := session.Inbox(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	session.SetDevices(tablet)
	if permitted, known := session.Verdict(phone); !permitted || !known {
		t.Error("the verdict went with the devices of a call that was not made")
	}
	gateway.SetPolicyLoaded(false)
	if _, err := session.Inbox(testContext(t), ""); err == nil {
		t.Fatal("the call succeeded")
	}
	for _, device := range []string{phone, tablet} {
		if permitted, known := session.Verdict(device); permitted || known {
			t.Errorf("device %s: permitted %v, known %v", device, permitted, known)
		}
	}
}

func TestTheTransactionOfASEGIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	gateway := newGateway(t, segtest.Options{})
	client := newClient(t, ews.Options{
		Endpoint: throughGateway(gateway.URL()), TLS: trust(gateway.CertificatePEM()),
		Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	session := client.Session(basic(alice, alicePassword), activityID)
	session.SetDevices(phone)
	if _, err := session.Inbox(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	if want := `"gatewayTransaction":"` + gateway.Requests()[0].Transaction + `"`; !strings.Contains(out.String(), want) || strings.Contains(out.String(), phone) {
		t.Errorf("want %s and no device id in %s", want, out.String())
	}
}

func TestATransactionThatIsNoUUIDIsDropped(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"alice@example.com", "", "544ef2b7-9ca3-4009-b116-8a9f6513f2c7-alice", "{544ef2b7-9ca3-4009-b116-8a9f6513f2c7}"} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(segtest.TransactionHeader, text)
			w.WriteHeader(http.StatusNoContent)
		}))
		t.Cleanup(server.Close)
		session := sessionWith(t, server, func(e *config.Endpoint) { *e = throughGateway(e.URL) })
		_, err := session.Inbox(testContext(t), "")
		wantError(t, err, ews.ErrGatewayNotReady, true, 0, "has not loaded its policy data yet)")
		if strings.Contains(err.Error(), "transaction") || session.GatewayTransaction() != "" {
			t.Errorf("%q is repeated: %v", text, err)
		}
	}
}
