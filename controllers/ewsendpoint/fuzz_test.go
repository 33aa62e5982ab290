package ewsendpoint

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/probe"
	"github.com/ens-operator/ens-operator/controllers/reconciletest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

// What endpoints there are beyond that of the samples. The bundle is put in by sampleBundle.
const (
	byAuthority = `
apiVersion: ens-operator.io/v1alpha1
kind: EwsEndpoint
metadata: {name: exchange}
spec:
  url: https://mail.example.com/EWS/Exchange.asmx
  pinning:
    certificateAuthority: {configMap: {name: authorities, key: ca.crt}}
  authenticationMethods: [Basic, NTLM, OAuth, Certificate]
  minTLSVersion: VersionTLS10
  serverVersion: Exchange2013
  userAgent: ens
  limits: {timeoutSeconds: 30, maxConcurrentRequests: 20}
`
	byFirstUse = `
apiVersion: ens-operator.io/v1alpha1
kind: EwsEndpoint
metadata:
  name: exchange
  annotations:
    ens-operator.io/accept-certificate: "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00"
spec:
  url: https://seg.example.com/EWS/Exchange.asmx
  pinning:
    trustOnFirstUse: {}
  secureEmailGateway: {deviceIDHeader: X-Device, devicesHeader: X-Devices}
status:
  trusted: ["11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11"]
`
)

func sampleFile(tb testing.TB, name string) []map[string]any {
	tb.Helper()
	root, err := testenv.RepositoryRoot()
	if err != nil {
		tb.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "config", "samples", name))
	if err != nil {
		tb.Fatal(err)
	}
	return reconciletest.Manifests(tb, string(text))
}

// endpointVariants are good endpoints with what they refer to, and the certificate that their server shows.
func endpointVariants(tb testing.TB) ([][]map[string]any, *x509.Certificate) {
	tb.Helper()
	chain := sampleFile(tb, "server_certificate.yaml")[0]["stringData"].(map[string]any)["tls.crt"].(string)
	block, _ := pem.Decode([]byte(chain))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	bundle := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "authorities"},
		"data": map[string]any{"ca.crt": chain}}
	return [][]map[string]any{
		sampleFile(tb, "ewsendpoint.yaml"),
		append(reconciletest.Manifests(tb, byAuthority), bundle),
		reconciletest.Manifests(tb, byFirstUse),
	}, certificate
}

// settle reconciles an endpoint until nothing is left to do. shown is what its server showed, nil if it was not looked at.
func settle(t *testing.T, objects []map[string]any, shown *probe.Result) {
	t.Helper()
	s := reconciletest.New(t, objects)
	if s == nil {
		return
	}
	now := clocktesting.NewFakePassiveClock(time.Now())
	reconciler := &Reconciler{
		Client: s.Client, Foreign: foreign.Reader{Live: s.Client}, Recorder: s.Recorder, Clock: now, looks: newLooks(probe.Prober{}, now),
	}
	endpoint := &v1alpha1.EwsEndpoint{}
	endpoint.Name, endpoint.Namespace = "exchange", reconciletest.Namespace
	if shown != nil && s.Client.Get(t.Context(), client.ObjectKeyFromObject(endpoint), endpoint) == nil {
		reconciler.show(t, endpoint, *shown)
	}
	err := s.Settle(t, reconciler, endpoint, func() []metav1.Condition { return endpoint.Status.Conditions })
	if err != nil {
		t.Errorf("it fails although nothing else does: %v", err)
	}
}

// Good endpoints with two places changed, and a server that shows this or that: nothing may throw the reconciler, it comes
// to an end, says what is wrong in conditions, and tells nothing of a Secret.
func FuzzReconcile(f *testing.F) {
	all, certificate := endpointVariants(f)
	for i := range all {
		f.Add(uint8(i), uint16(0), "ens-operator.io/v1alpha1", uint16(0), "ens-operator.io/v1alpha1", uint16(0), "", "")
		f.Add(uint8(i), uint16(0), "ens-operator.io/v1alpha1", uint16(0), "ens-operator.io/v1alpha1", uint16(401), "NTLM", "15.2.1544.4")
	}
	f.Add(uint8(1), uint16(9), "", uint16(3), `{"pinned":{}}`, uint16(204), "", "")
	f.Fuzz(func(t *testing.T, variant uint8, where uint16, what string, where2 uint16, what2 string, status uint16, scheme, version string) {
		var shown *probe.Result
		switch {
		case status >= 1000:
			shown = &probe.Result{Err: errors.New(version)}
		case status > 0:
			shown = &probe.Result{Status: int(status), Schemes: []string{scheme}, Version: version, TLSVersion: "TLS 1.2", Certificates: []*x509.Certificate{certificate}}
			if status%2 == 0 {
				shown.Verification = &egress.PinError{Seen: egress.Fingerprint(certificate)}
			}
		}
		settle(t, reconciletest.Apply(all[int(variant)%len(all)], reconciletest.Edit{Where: where, What: what}, reconciletest.Edit{Where: where2, What: what2}), shown)
	})
}

func TestAnyOnePlaceMayBeWrong(t *testing.T) {
	t.Parallel()
	all, certificate := endpointVariants(t)
	for i, objects := range all {
		reconciletest.Each(objects, func(edit reconciletest.Edit, edited []map[string]any) {
			t.Run(fmt.Sprintf("%d with %q at %d", i, edit.What, edit.Where), func(t *testing.T) {
				settle(t, edited, &probe.Result{Status: http.StatusUnauthorized, Schemes: []string{"NTLM"}, Certificates: []*x509.Certificate{certificate}})
			})
		})
	}
}

// show has the server looked at already, and show this.
func (r *Reconciler) show(t *testing.T, endpoint *v1alpha1.EwsEndpoint, shown probe.Result) {
	t.Helper()
	bundle, err := r.gather(t.Context(), endpoint)
	if err != nil || !bundle.Good() || !acceptedFinding(endpoint, r.Guard).Good() {
		return
	}
	q, err := r.question(t.Context(), endpoint)
	if err != nil {
		return
	}
	r.looks.known[client.ObjectKeyFromObject(endpoint)] = &known{question: q, result: &shown, next: r.Clock.Now().Add(time.Hour)}
}
