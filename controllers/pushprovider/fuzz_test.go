package pushprovider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/pushprovider"
	"github.com/ens-operator/ens-operator/controllers/reconciletest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
)

// The kinds of providers that there are, beyond those of the samples. Each is the first of its manifests.
const (
	amazonByKey = `
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: amazon}
spec:
  sns:
    region: eu-central-1
    url: https://sns.eu-central-1.amazonaws.com
    stsURL: https://sts.eu-central-1.amazonaws.com
    credentials:
      accessKey:
        accessKeyIDSecretRef: {name: aws, key: id}
        secretAccessKeySecretRef: {name: aws, key: secret}
    applications:
    - {platform: APNS, appID: com.example.mail, applicationARN: "arn:aws:sns:eu-central-1:123456789012:app/APNS/mail"}
  proxy:
    url: http://proxy.example.com:3128
    credentials:
      usernameSecretRef: {name: aws, key: user}
      passwordSecretRef: {name: aws, key: password}
  limits: {timeoutSeconds: 10, maxConcurrentPushes: 100}
---
apiVersion: v1
kind: Secret
metadata: {name: aws}
stringData:
  id: AKIAIOSFODNN7EXAMPLE
  secret: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
  user: proxy-user
  password: a-password-of-the-proxy-that-nobody-knows
`
	amazonByRole = `
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: amazon}
spec:
  sns:
    region: eu-central-1
    credentials:
      webIdentity: {roleARN: "arn:aws:iam::123456789012:role/ens"}
`
	vmware = `
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: vmware}
spec:
  cns:
    url: https://cns.example.com
    signingCertificate:
      pfxSecretRef: {name: cns, key: signing.pfx}
      passwordSecretRef: {name: cns, key: password}
    mutualTLS:
      certificate:
        pfxSecretRef: {name: cns, key: client.pfx}
        passwordSecretRef: {name: cns, key: password}
  caBundle:
    configMap: {name: authorities, key: ca.crt}
`
	appleByCertificate = `
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: apple}
spec:
  apns:
    certificate:
      pfxSecretRef: {name: cns, key: signing.pfx}
      passwordSecretRef: {name: cns, key: password}
    topics: [com.example.mail]
    environment: Sandbox
`
)

// variants are good providers, each with what it refers to.
func variants(tb testing.TB) [][]map[string]any {
	tb.Helper()
	sample := func(provider, secret string) []map[string]any {
		root, err := testenv.RepositoryRoot()
		if err != nil {
			tb.Fatal(err)
		}
		var objects []map[string]any
		for _, name := range []string{provider, secret} {
			text, err := os.ReadFile(filepath.Join(root, "config", "samples", name))
			if err != nil {
				tb.Fatal(err)
			}
			objects = append(objects, reconciletest.Manifests(tb, string(text))...)
		}
		return objects
	}
	authority, expiry := cnstest.NewAuthority(), time.Now().Add(time.Hour)
	certificates := reconciletest.Secret("cns", map[string]string{
		"signing.pfx": string(authority.PFX("signing", "a-password-that-is-rather-long", expiry)),
		"client.pfx":  string(authority.PFX("client", "a-password-that-is-rather-long", expiry)),
		"password":    "a-password-that-is-rather-long\n",
	})
	bundle := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "authorities"},
		"data": map[string]any{"ca.crt": sample("server_certificate.yaml", "server_certificate.yaml")[0]["stringData"].(map[string]any)["tls.crt"]}}
	return [][]map[string]any{
		sample("pushprovider_apple.yaml", "apns_key.yaml"),
		sample("pushprovider_google.yaml", "fcm_service_account.yaml"),
		reconciletest.Manifests(tb, amazonByKey),
		reconciletest.Manifests(tb, amazonByRole),
		append(reconciletest.Manifests(tb, vmware), bundle, certificates),
		append(reconciletest.Manifests(tb, appleByCertificate), certificates),
	}
}

// settle reconciles a provider until nothing is left to do; nil if an API server would have refused it.
func settle(t *testing.T, name string, objects []map[string]any) *v1alpha1.PushProvider {
	t.Helper()
	s := reconciletest.New(t, objects, noTenants)
	if s == nil {
		return nil
	}
	reconciler := &pushprovider.Reconciler{
		Client: s.Client, Foreign: foreign.Reader{Live: s.Client}, Recorder: s.Recorder,
		Clock: clocktesting.NewFakePassiveClock(time.Now()), Guard: egress.Guard{},
	}
	provider := &v1alpha1.PushProvider{}
	provider.Name = name
	err := s.Settle(t, reconciler, provider, func() []metav1.Condition { return provider.Status.Conditions })
	if err != nil {
		t.Errorf("it fails although nothing else does: %v", err)
	}
	return provider
}

func nameOf(objects []map[string]any) string {
	return objects[0]["metadata"].(map[string]any)["name"].(string)
}

// noTenants stands for the index of the tenants that use a provider: there are none.
var noTenants = reconciletest.Index{
	Object: &v1alpha1.EnsTenant{}, Field: "status.pushProviders", Values: func(client.Object) []string { return nil },
}

// Good providers with two places changed: nothing may throw the reconciler, it comes to an end, says what is wrong in
// conditions, and tells nothing of a Secret. Whether what it says is right is for other tests.
func FuzzReconcile(f *testing.F) {
	all := variants(f)
	for i := range all {
		f.Add(uint8(i), uint16(0), "ens-operator.io/v1alpha1", uint16(0), "ens-operator.io/v1alpha1")
	}
	f.Add(uint8(0), uint16(40), "", uint16(3), `{"apns":{}}`)
	f.Fuzz(func(t *testing.T, variant uint8, where uint16, what string, where2 uint16, what2 string) {
		objects := all[int(variant)%len(all)]
		settle(t, nameOf(objects), reconciletest.Apply(objects, reconciletest.Edit{Where: where, What: what}, reconciletest.Edit{Where: where2, What: what2}))
	})
}

func TestAnyOnePlaceMayBeWrong(t *testing.T) {
	t.Parallel()
	for i, objects := range variants(t) {
		provider := settle(t, nameOf(objects), objects)
		if ready := meta.FindStatusCondition(provider.Status.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionTrue {
			t.Errorf("variant %d is not good, so changes of it prove little: %+v", i, ready)
		}
		reconciletest.Each(objects, func(edit reconciletest.Edit, edited []map[string]any) {
			t.Run(fmt.Sprintf("%d with %q at %d", i, edit.What, edit.Where), func(t *testing.T) { settle(t, nameOf(objects), edited) })
		})
	}
}
