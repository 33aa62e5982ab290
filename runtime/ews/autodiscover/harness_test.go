package autodiscover_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/authn"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	domain        = "example.com"
	alice         = "alice.adams@example.com"
	alicePassword = "correct horse ünïcode"
	aliceToken    = "alices-access-token"
	bob           = "bob.baker@example.com"
	bobPassword   = "bob's"
	activityID    = "6fd9a3e0-3c0e-4d7a-9a51-3f1b0f1c2d3e"

	mailURL   = "https://mail.example.com/EWS/Exchange.asmx"
	secondURL = "https://second.example.com/EWS/Exchange.asmx"
	cloudURL  = "https://outlook.cloud.example/EWS/Exchange.asmx"

	bare = "example.com"
	auto = "autodiscover.example.com"
)

// endpoints are the tenant's.
var endpoints = map[string]string{mailURL: "mail", secondURL: "second"}

// seeds make the awkward choices of the fake differ.
var seeds = []uint64{1, 2, 3, 4, 5}

// scene is a fake service and what asks it.
type scene struct {
	*autodiscovertest.Server
	discoverer *autodiscover.Discoverer
	log        *lockedBuffer
	// inHandshake says that a host asks for certificates before there is any request.
	inHandshake bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setting changes what a scene is made of.
type setting func(*autodiscovertest.Options, *autodiscover.Options)

func withSeed(seed uint64) setting {
	return func(o *autodiscovertest.Options, _ *autodiscover.Options) { o.Seed = seed }
}

func withClock(c clock.WithTickerAndDelayedExecution) setting {
	return func(_ *autodiscovertest.Options, o *autodiscover.Options) { o.Clock = c }
}

func withDomains(domains ...string) setting {
	return func(_ *autodiscovertest.Options, o *autodiscover.Options) { o.Config.Domains = domains }
}

// newScene makes a service that knows Alice and Bob at the endpoint mail, with hosts yet to be added. When the test ends
// it checks what holds in every scene.
func newScene(t *testing.T, settings ...setting) *scene {
	t.Helper()
	s := &scene{log: &lockedBuffer{}}
	serviceOptions := autodiscovertest.Options{Bearer: func(token string) string {
		if token == aliceToken {
			return alice
		}
		return ""
	}}
	options := autodiscover.Options{
		Config: *config.Config{Autodiscover: &config.Autodiscover{
			Domains: []string{domain}, AuthenticationMethods: []config.AuthenticationMethod{config.AuthBasic, config.AuthOAuth, config.AuthClientCertificate},
		}}.Effective().Autodiscover,
		Endpoint:  func(ewsURL string) string { return endpoints[ewsURL] },
		UserAgent: "MailNotificationService/v2",
		Logger:    slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, set := range settings {
		set(&serviceOptions, &options)
	}
	s.Server = autodiscovertest.StartT(t, serviceOptions)
	options.LookupSRV = s.LookupSRV
	methods := options.Config.AuthenticationMethods
	options.Connect = func(hostPort string) *authn.Authenticator {
		return authn.New(authn.Options{
			Name: "the Autodiscover host " + hostPort, Methods: methods,
			TLS: &tls.Config{RootCAs: s.Roots(), MinVersion: tls.VersionTLS12}, DialContext: s.DialContext,
		})
	}
	s.discoverer = autodiscover.New(options)
	s.AddUser(autodiscovertest.User{Address: alice, Login: `EXAMPLE\alice`, Password: alicePassword, EWSURL: mailURL})
	s.AddUser(autodiscovertest.User{Address: bob, Password: bobPassword, EWSURL: mailURL})
	t.Cleanup(func() {
		s.discoverer.Close()
		s.check(t, options.Config.Domains)
	})
	return s
}

// check checks what holds whatever happens: only allowed hosts are reached, credentials go over TLS and after a 401, and
// nothing of a user is logged.
func (s *scene) check(t *testing.T, domains []string) {
	t.Helper()
	s.checkDials(t, domains)
	s.checkRequests(t)
	checkText(t, s.log.String())
}

func (s *scene) checkDials(t *testing.T, domains []string) {
	t.Helper()
	for _, address := range s.Dials() {
		host, port, err := net.SplitHostPort(address)
		allowed := false
		for _, domain := range domains {
			domain = strings.ToLower(domain)
			allowed = allowed || host == domain || strings.HasSuffix(host, "."+domain)
		}
		wellFormed := err == nil && !strings.Contains("."+host+".", "..")
		plain := port == "80" && strings.HasPrefix(host, "autodiscover.")
		if !wellFormed || !allowed || port != "443" && !plain {
			t.Errorf("%s was dialled", address)
		}
	}
}

func (s *scene) checkRequests(t *testing.T) {
	t.Helper()
	challenged := make(map[string]bool)
	for _, r := range s.Requests() {
		question := r.Host + string(r.Form)
		if r.HadCredential && (!r.TLS || !challenged[question] && !s.inHandshake || r.Form == autodiscovertest.JSON) {
			t.Errorf("request %d to %s (%s) had a credential that nobody asked for", r.Number, r.Host, r.Form)
		}
		challenged[question] = challenged[question] || r.Status == 401 || r.Status == 403
		if r.Problem != "" || r.HadCookie || r.TLS && r.ClientRequestID != activityID || r.UserAgent != "MailNotificationService/v2" {
			t.Errorf("request %d is not as it should be: %+v", r.Number, r)
		}
	}
}

// checkText checks that a log or an error tells nothing of a user.
func checkText(t *testing.T, text string) {
	t.Helper()
	lower := strings.ToLower(text)
	for _, private := range []string{"alice", "bob", "adams", "baker", "horse", "@", "server's own words"} {
		if strings.Contains(lower, private) {
			t.Errorf("a text holds %q: %s", private, text)
		}
	}
}

// host adds a host that has some forms and is otherwise in order.
func (s *scene) host(name string, forms ...autodiscovertest.Form) {
	s.AddHost(name, autodiscovertest.Host{Forms: forms})
}

// faulty adds a host with all forms, of which one has a fault.
func (s *scene) faulty(name string, form autodiscovertest.Form, fault autodiscovertest.Fault) {
	s.AddHost(name, autodiscovertest.Host{
		Forms:  []autodiscovertest.Form{form},
		Faults: map[autodiscovertest.Form]autodiscovertest.Fault{form: fault},
	})
}

func basic(login, password string) credential.Credential {
	return credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(login), Password: secret.FromString(password),
	}
}

func (s *scene) findAlice(t *testing.T) (string, error) {
	t.Helper()
	return s.find(t, alice, basic(`EXAMPLE\alice`, alicePassword), false)
}

func (s *scene) findBob(t *testing.T) (string, error) {
	t.Helper()
	return s.find(t, bob, basic(bob, bobPassword), false)
}

// find asks, and checks that an error is fit to be told.
func (s *scene) find(t *testing.T, address string, user credential.Credential, fresh bool) (string, error) {
	t.Helper()
	endpoint, err := s.discoverer.Find(testContext(t), secret.FromString(address), user, activityID, fresh)
	if err != nil {
		checkText(t, err.Error())
		if endpoint != "" {
			t.Errorf("an endpoint %q beside the error %v", endpoint, err)
		}
	}
	return endpoint, err
}

// asked lists the requests as `host form`, with a star where there was a credential.
func (s *scene) asked() []string {
	var list []string
	for _, r := range s.Requests() {
		text := fmt.Sprintf("%s %s", r.Host, r.Form)
		if !r.TLS {
			text = fmt.Sprintf("%s plain", r.Host)
		}
		if r.HadCredential {
			text += "*"
		}
		list = append(list, text)
	}
	return list
}

// testContext ends before the test does, so that a wait for something that never comes says what it waited for.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
