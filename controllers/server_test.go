package controllers_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// exchange is a server that asks for credentials as Exchange does, and whose certificate can be replaced.
type exchange struct {
	*httptest.Server
	certificate atomic.Pointer[tls.Certificate]
	// schemes are those that it offers.
	schemes atomic.Pointer[[]string]
	// status is answered instead of 401 if it is not 0.
	status atomic.Int64
}

func newExchange(t *testing.T) *exchange {
	t.Helper()
	e := &exchange{}
	e.offer("Negotiate", "NTLM", `Basic realm="x"`)
	e.renew(t)
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if status := e.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		for _, scheme := range *e.schemes.Load() {
			w.Header().Add("WWW-Authenticate", scheme)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	e.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*e.certificate.Load()}}, nil
	}}
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

func (e *exchange) offer(schemes ...string) { e.schemes.Store(&schemes) }

// renew gives the server another certificate with another key.
func (e *exchange) renew(t *testing.T) {
	t.Helper()
	files := issue(t, time.Now().Add(100*24*time.Hour), "mail.example.com")
	pair, err := tls.X509KeyPair(files["tls.crt"], files["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	e.certificate.Store(&pair)
}

func (e *exchange) fingerprint() api.Fingerprint {
	sum := sha256.Sum256(e.certificate.Load().Certificate[0])
	return api.Fingerprint(hex.EncodeToString(sum[:]))
}

func (e *exchange) publicKey(t *testing.T) api.Fingerprint {
	t.Helper()
	certificate, err := x509.ParseCertificate(e.certificate.Load().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return api.Fingerprint(hex.EncodeToString(sum[:]))
}

func (e *exchange) endpoint(name string, pinning api.EndpointPinning) *api.EwsEndpoint {
	return &api.EwsEndpoint{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.EwsEndpointSpec{
		URL: api.HTTPSURL(e.URL + "/EWS/Exchange.asmx"), Pinning: pinning,
	}}
}

func onFirstUse() api.EndpointPinning {
	return api.EndpointPinning{TrustOnFirstUse: &api.TrustOnFirstUse{}}
}

func TestWhatAServerShowsStandsInTheStatus(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	e := newExchange(t)
	endpoint := e.endpoint("exchange", onFirstUse())
	s.create(endpoint)
	s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionTrue, "")
	s.waitCondition(endpoint, api.ConditionPinned, metav1.ConditionTrue, api.ReasonPinned)
	s.waitCondition(endpoint, api.ConditionReachable, metav1.ConditionTrue, api.ReasonReachable)
	server := endpoint.Status.Server
	if server == nil || len(server.Certificates) != 1 || server.Certificates[0].SHA256 != string(e.fingerprint()) ||
		server.Certificates[0].PublicKeySHA256 != string(e.publicKey(t)) || server.Certificates[0].NotAfter.IsZero() ||
		!slices.Equal(server.AuthenticationSchemes, []string{"Negotiate", "NTLM", "Basic"}) || !*server.AsksForCredentials || server.TLSVersion != "TLS 1.3" {
		t.Errorf("status.server is %+v", server)
	}
	if !slices.Equal(endpoint.Status.Trusted, []api.Fingerprint{e.fingerprint()}) {
		t.Errorf("trusted are %v", endpoint.Status.Trusted)
	}
}

func TestServersAreJudged(t *testing.T) {
	t.Parallel()
	s, _ := newTimedStage(t)
	e := newExchange(t)
	s.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "authorities"}, Data: map[string]string{
		"right": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.certificate.Load().Certificate[0]})),
		"wrong": string(issue(t, time.Now().Add(time.Hour), "other")["tls.crt"]),
	}})
	ntlmOnly, login, gateway := newExchange(t), newExchange(t), newExchange(t)
	ntlmOnly.offer("Negotiate", "NTLM")
	login.status.Store(http.StatusOK)
	gateway.status.Store(http.StatusBadRequest)
	pinned := func(certificates, keys []api.Fingerprint) api.EndpointPinning {
		return api.EndpointPinning{Pinned: &api.PinnedCertificates{SHA256: certificates, PublicKeySHA256: keys}}
	}
	behind := gateway.endpoint("gateway", onFirstUse())
	behind.Spec.SecureEmailGateway = &api.SecureEmailGateway{}
	away := e.endpoint("away", pinned([]api.Fingerprint{e.fingerprint()}, nil))
	away.Spec.URL = "https://127.0.0.1:1/EWS/Exchange.asmx"
	other := api.Fingerprint(strings.Repeat("0", 64))
	for _, c := range []struct {
		endpoint          *api.EwsEndpoint
		ready             metav1.ConditionStatus
		pinned, reachable string
		says              string
	}{
		{e.endpoint("pinned", pinned([]api.Fingerprint{other, e.fingerprint()}, nil)), metav1.ConditionTrue, api.ReasonPinned, api.ReasonReachable, ""},
		{e.endpoint("pinned-key", pinned(nil, []api.Fingerprint{e.publicKey(t)})), metav1.ConditionTrue, api.ReasonPinned, api.ReasonReachable, ""},
		{e.endpoint("pinned-other", pinned([]api.Fingerprint{other}, nil)), metav1.ConditionFalse, api.ReasonOtherCertificate, api.ReasonReachable, string(e.fingerprint())},
		{e.endpoint("authority-wrong", api.EndpointPinning{CertificateAuthority: &api.CertificateBundle{ConfigMap: &api.ConfigMapKeyReference{Name: "authorities", Key: "wrong"}}}),
			metav1.ConditionFalse, api.ReasonOtherCertificate, api.ReasonReachable, "put the authority that issued it into the bundle"},
		{ntlmOnly.endpoint("ntlm-only", onFirstUse()), metav1.ConditionTrue, api.ReasonPinned, api.ReasonMethodsNotOffered, "offers Negotiate, NTLM and none of"},
		{login.endpoint("login-page", onFirstUse()), metav1.ConditionTrue, api.ReasonPinned, api.ReasonUnexpectedAnswer, "login page"},
		{behind, metav1.ConditionTrue, api.ReasonPinned, api.ReasonReachable, ""},
		{away, metav1.ConditionTrue, "", api.ReasonUnreachable, "connection refused"},
	} {
		s.create(c.endpoint)
		status := map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}
		found := []string{s.waitCondition(c.endpoint, api.ConditionReachable, status[c.reachable == api.ReasonReachable], c.reachable).Message}
		if c.pinned != "" {
			found = append(found, s.waitCondition(c.endpoint, api.ConditionPinned, status[c.pinned == api.ReasonPinned], c.pinned).Message)
		}
		s.waitCondition(c.endpoint, api.ConditionReady, c.ready, "")
		if !strings.Contains(strings.Join(found, "\n"), c.says) {
			t.Errorf("%s: the conditions say %q, want %q", c.endpoint.Name, found, c.says)
		}
	}
}

func TestAnotherCertificateIsNotTrustedUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	e := newExchange(t)
	for _, object := range samples(t) {
		if object.GetName() != "exchange" {
			s.apply(object)
		}
	}
	endpoint := e.endpoint("exchange", onFirstUse())
	s.create(endpoint)
	tenant := s.acme()
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	first := e.fingerprint()
	pins := func() config.Pinning { return s.configuration().Endpoints[0].Pinning }
	if got := pins().SHA256; !slices.Equal(got, []string{string(first)}) {
		t.Fatalf("the runtime accepts %v, want the certificate that was shown first", got)
	}

	e.renew(t)
	annotate := func(key, value string) {
		t.Helper()
		change(s, endpoint, "exchange", func(o *api.EwsEndpoint) {
			metav1.SetMetaDataAnnotation(&o.ObjectMeta, key, value)
		})
	}
	clock.SetTime(clock.Now().Add(2 * time.Hour))
	annotate("look", "again")
	found := s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionFalse, api.ReasonOtherCertificate)
	if !strings.Contains(found.Message, string(e.fingerprint())) || !strings.Contains(found.Message, api.AnnotationAcceptCertificate) {
		t.Errorf("Ready says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonNotReady)
	if got := pins().SHA256; !slices.Equal(got, []string{string(first)}) {
		t.Errorf("the runtime accepts %v before anybody has accepted the other certificate", got)
	}
	annotate(api.AnnotationAcceptCertificate, string(first)) // not the one that is shown
	clock.SetTime(clock.Now().Add(2 * time.Hour))
	annotate("look", "once more")
	s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionFalse, api.ReasonOtherCertificate)

	annotate(api.AnnotationAcceptCertificate, strings.ToUpper(string(e.fingerprint())))
	s.waitCondition(endpoint, api.ConditionReady, metav1.ConditionTrue, "")
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.eventually("waiting for the runtime's pins", func() error {
		if got := pins().SHA256; !slices.Equal(got, []string{string(e.fingerprint()), string(first)}) {
			return errNotYet("the certificate that was accepted is not there")
		}
		return nil
	})
}
