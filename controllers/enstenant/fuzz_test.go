package enstenant

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/apply"
	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/controllers/foreign"
	"github.com/ens-operator/ens-operator/controllers/reconciletest"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The variants of tenants beyond that of the samples.
const (
	everything = `
apiVersion: ens-operator.io/v1alpha1
kind: EnsTenant
metadata:
  name: acme
  annotations: {ens-operator.io/rotate-api-token: ticket 17}
spec:
  hostname: ens.example.com
  hostnames: [ens2.example.com]
  callbackURL: https://inside.example.com:8443/MailNotificationService/api/ens
  environmentType: test
  endpoints: [exchange]
  pushProviders: [apple]
  autodiscover:
    domains: [example.com]
    authenticationMethods: [Basic]
    caBundle: {configMap: {name: authorities, key: ca.crt}}
    cacheSeconds: 600
  apiToken: {rotateEveryDays: 90, overlapDays: 14}
  notifications: {policyCeiling: 4, statusFrequencyMinutes: 10}
  limits: {maxUsers: 1000, maxDevicesPerUser: 5, requestsPerSecond: 100, userRequestsPerMinute: 60, newUsersPerMinute: 60}
  tls: {certManager: {issuerRef: {name: letsencrypt, kind: ClusterIssuer}}}
  exposure:
    ingress: {className: traefik, annotations: {example.com/a: b}}
  networkPolicy: {enabled: true, egressPorts: [8443]}
  runtime:
    image: registry.example.com/ens-runtime:1
    autoscaling: {minReplicas: 2, maxReplicas: 10}
    drainDelaySeconds: 5
    podTemplate:
      labels: {team: mail}
      annotations: {example.com/a: b}
      resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}}
      nodeSelector: {disk: ssd}
      tolerations: [{key: a, operator: Exists, effect: NoSchedule}]
      affinity: {nodeAffinity: {}}
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
      extraEnv: [{name: TZ, value: UTC}]
      priorityClassName: high
      imagePullSecrets: [pull]
  deletionPolicy: Delete
`
	behindGateway = `
apiVersion: ens-operator.io/v1alpha1
kind: EnsTenant
metadata: {name: acme}
spec:
  hostname: ens.example.com
  endpoints: [exchange]
  pushProviders: [apple]
  apiToken: {secretName: mine}
  tls: {terminatedElsewhere: {}}
  exposure:
    gateway: {parentRefs: [{name: edge, namespace: infra, sectionName: https}]}
---
apiVersion: v1
kind: Secret
metadata: {name: mine}
stringData: {token: a-token-that-the-administrator-brought, previous-token: another-token-that-was-there-before, previous-token-expires: "2031-01-01T00:00:00Z"}
`
	leaving = `
apiVersion: ens-operator.io/v1alpha1
kind: EnsTenant
metadata: {name: acme, deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: [ens-operator.io/tenant-data]}
spec:
  hostname: ens.example.com
  endpoints: [exchange]
  pushProviders: [apple]
  tls: {secretName: acme-server-certificate}
  exposure: {loadBalancer: {class: metal, sourceRanges: [192.0.2.0/24]}}
`
	// What a tenant has of the operator, and what it refers to. Endpoint and provider are ready.
	kept = `
apiVersion: v1
kind: Secret
metadata: {name: acme-keys, labels: {app.kubernetes.io/managed-by: ens-operator, ens-operator.io/tenant: acme}}
stringData: {kek-1: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=, webhook-1: MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=}
---
apiVersion: v1
kind: Secret
metadata: {name: acme-api-token, labels: {app.kubernetes.io/managed-by: ens-operator, ens-operator.io/tenant: acme}}
stringData: {token: ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGH}
---
apiVersion: ens-operator.io/v1alpha1
kind: EwsEndpoint
metadata: {name: exchange}
spec:
  url: https://mail.example.com/EWS/Exchange.asmx
  pinning: {trustOnFirstUse: {}}
status:
  observedGeneration: 1
  conditions: [{type: Ready, status: "True", reason: Ready, message: "", observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z"}]
  trusted: ["11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11"]
---
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: google}
spec:
  fcm: {projectID: ens-operator-sample, serviceAccountSecretRef: {name: fcm, key: service-account.json}}
status:
  observedGeneration: 1
  conditions: [{type: Ready, status: "True", reason: Ready, message: "", observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z"}]
---
apiVersion: ens-operator.io/v1alpha1
kind: PushProvider
metadata: {name: apple}
spec:
  apns: {teamID: TEAM000000, keyID: KEY0000000, keySecretRef: {name: apns-key, key: key.p8}, topics: [com.example.mail], environment: Production}
status:
  observedGeneration: 1
  conditions: [{type: Ready, status: "True", reason: Ready, message: "", observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z"}]
`
)

// fuzzDatabase is where the process that leads the fuzzing tells the others of the database; each has a schema of its own
// in it.
const fuzzDatabase = "ENS_FUZZ_DATABASE"

// openFuzzDatabase opens a real database, with the schema of the tenant that is fuzzed in this process.
func openFuzzDatabase(f testing.TB) (*database.Server, string) {
	f.Helper()
	address := os.Getenv(fuzzDatabase)
	if address == "" {
		address = testenv.Postgres(f).NewDatabase(f).URL
		if _, leads := f.(*testing.F); leads {
			f.Setenv(fuzzDatabase, address)
		}
	}
	server, err := database.Open(f.Context(), database.Options{URL: func() (secret.Value, error) { return secret.FromString(address), nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(server.Close)
	cluster := strconv.Itoa(os.Getpid())
	identity := migrations.Identity{ClusterID: cluster, Namespace: reconciletest.Namespace, Name: "acme"}
	if _, err := server.Provision(f.Context(), identity); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := server.Drop(context.WithoutCancel(f.Context()), identity); err != nil {
			f.Error(err)
		}
	})
	return server, cluster
}

func tenantVariants(tb testing.TB) [][]map[string]any {
	tb.Helper()
	sample := func(name string) []map[string]any {
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
	certificate := sample("server_certificate.yaml")
	bundle := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "authorities"},
		"data": map[string]any{"ca.crt": certificate[0]["stringData"].(map[string]any)["tls.crt"]}}
	own := slices.Concat(certificate, []map[string]any{bundle}, reconciletest.Manifests(tb, kept))
	var all [][]map[string]any
	for _, first := range [][]map[string]any{
		sample("enstenant.yaml"), reconciletest.Manifests(tb, everything), reconciletest.Manifests(tb, behindGateway), reconciletest.Manifests(tb, leaving),
	} {
		all = append(all, slices.Concat(first, own))
	}
	return all
}

// settle reconciles a variant with some edits until nothing is left to do; nil if an API server would have refused it.
func settle(t *testing.T, server *database.Server, cluster string, objects []map[string]any) *v1alpha1.EnsTenant {
	t.Helper()
	s := reconciletest.New(t, objects, reconciletest.Index{Object: &v1alpha1.EnsTenant{}, Field: indexHostnames, Values: func(o client.Object) []string {
		return desired.Hostnames(o.(*v1alpha1.EnsTenant))
	}})
	if s == nil {
		return nil
	}
	reconciler := &Reconciler{
		Client: s.Client, Live: s.Client, Foreign: foreign.Reader{Live: s.Client}, Applier: &apply.Applier{Client: s.Client, Live: s.Client},
		Recorder: s.Recorder, Clock: clocktesting.NewFakePassiveClock(time.Now()), Database: server, ClusterID: cluster, Image: "registry.example.com/ens-runtime:1",
	}
	reconciler.certificates.started, reconciler.routes.started = true, true
	tenant := &v1alpha1.EnsTenant{}
	tenant.Name = "acme"
	err := s.Settle(t, reconciler, tenant, func() []metav1.Condition { return tenant.Status.Conditions })
	if err != nil {
		t.Errorf("it fails although nothing else does: %v", err)
	}
	return tenant
}

// Good tenants with two places changed, in themselves, in what they refer to, or in what was kept of them; the database is
// real. Nothing may throw the reconciler, it comes to an end, says what is wrong in conditions, and tells nothing of a
// Secret. Whether what it makes is right is for other tests.
func FuzzReconcile(f *testing.F) {
	all := tenantVariants(f)
	server, cluster := openFuzzDatabase(f)
	for i := range all {
		f.Add(uint8(i), uint16(0), "ens-operator.io/v1alpha1", uint16(0), "ens-operator.io/v1alpha1")
	}
	f.Add(uint8(1), uint16(30), "", uint16(20), `{"terminatedElsewhere":{}}`)
	f.Fuzz(func(t *testing.T, variant uint8, where uint16, what string, where2 uint16, what2 string) {
		objects := all[int(variant)%len(all)]
		tenant := settle(t, server, cluster, reconciletest.Apply(objects, reconciletest.Edit{Where: where, What: what}, reconciletest.Edit{Where: where2, What: what2}))
		const unchanged = "ens-operator.io/v1alpha1" // what stands in the first place of all
		if where != 0 || where2 != 0 || what != unchanged || what2 != unchanged || objects[0]["metadata"].(map[string]any)["deletionTimestamp"] != nil {
			return
		}
		if found := meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionProvisioned); found.Status == metav1.ConditionFalse {
			t.Errorf("the variant is not good, so changes of it prove little: %+v", found)
		}
	})
}

func TestAnyOnePlaceMayBeWrong(t *testing.T) {
	t.Parallel()
	server, cluster := openFuzzDatabase(t)
	for i, objects := range tenantVariants(t) {
		changed, rest := objects, []map[string]any(nil)
		if i > 0 { // what it refers to is the same in all
			changed, rest = objects[:1], objects[1:]
		}
		reconciletest.Each(changed, func(edit reconciletest.Edit, edited []map[string]any) {
			t.Run(fmt.Sprintf("%d with %q at %d", i, edit.What, edit.Where), func(t *testing.T) {
				settle(t, server, cluster, slices.Concat(edited, rest))
			})
		})
	}
}
