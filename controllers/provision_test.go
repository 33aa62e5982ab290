package controllers_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// children are all objects that the operator makes for acme.
func children(s *stage) []client.Object {
	return []client.Object{
		at(s, &corev1.Secret{}, "acme-keys"), at(s, &corev1.Secret{}, "acme-api-token"),
		at(s, &corev1.Secret{}, "acme-boxer"), at(s, &corev1.Secret{}, "acme-runtime"), at(s, &corev1.ConfigMap{}, "acme-runtime"),
		at(s, &corev1.ServiceAccount{}, "acme"), at(s, &corev1.Service{}, "acme"),
		at(s, &policyv1.PodDisruptionBudget{}, "acme"), at(s, &appsv1.Deployment{}, "acme"),
	}
}

func TestSamplesAreProvisionedAsTheyStand(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()

	for _, kind := range []string{api.ConditionReferencesResolved, api.ConditionSecretsReady, api.ConditionDatabaseReady, api.ConditionTLSReady} {
		s.waitCondition(tenant, kind, metav1.ConditionTrue, "")
	}
	// Nothing runs pods here.
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionUnknown, api.ReasonProgressing)
	s.waitCondition(tenant, api.ConditionReconciling, metav1.ConditionTrue, "")
	if got, want := tenant.Status.URL, "https://"+s.hostname()+"/MailNotificationService/api/ens"; got != want {
		t.Errorf("status.url is %s, want %s", got, want)
	}
	if got := tenant.Status.Database; got == nil || got.Schema != s.names().Schema || got.Version != migrations.Version {
		t.Errorf("status.database is %+v", got)
	}
	if got := tenant.Status.Certificate; got == nil || len(got.SHA256) != 64 || len(got.PublicKeySHA256) != 64 || got.NotAfter.IsZero() {
		t.Errorf("status.certificate is %+v", got)
	}
	for _, child := range children(s) {
		s.get(child)
		owner, kept := metav1.GetControllerOf(child), strings.HasSuffix(child.GetName(), "-keys") || strings.HasSuffix(child.GetName(), "-api-token")
		if kept && len(child.GetOwnerReferences()) > 0 {
			t.Errorf("%T %s has an owner, and would be lost with it", child, child.GetName())
		}
		if !kept && (owner == nil || owner.UID != tenant.UID) {
			t.Errorf("%T %s is not the tenant's: %+v", child, child.GetName(), owner)
		}
	}
}

func TestWhatTheRuntimeGetsWorks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	file := s.configuration()
	if file.Tenant.ID != s.names().Schema || len(file.Endpoints) != 1 || len(file.PushProviders) != 2 || !file.Server.TLS || file.AllowLoopback {
		t.Errorf("the configuration is %+v", file)
	}
	// Every file that the configuration names is mounted from somewhere that has it.
	want := []string{
		config.FileName, config.APITokenHashesFile, config.DatabaseURLFile, "keys/kek-1", "keys/webhook-1",
		config.TLSCertificateFile, config.TLSKeyFile, "push/apple/key.p8", "push/google/service-account.json",
	}
	files := s.mounted()
	for _, path := range want {
		if len(files[path]) == 0 {
			t.Errorf("%s is not mounted or empty", path)
		}
	}
	if len(files) != len(want) {
		t.Errorf("%d files are mounted, want %d", len(files), len(want))
	}

	token := fetch(s, &corev1.Secret{}, "acme-api-token").Data["token"]
	tokens, err := config.ParseAPITokens(string(files[config.APITokenHashesFile]))
	if err != nil || len(tokens) != 1 || tokens[0].SHA256 != sha256.Sum256(token) {
		t.Errorf("the runtime accepts %d tokens, not the tenant's (%v)", len(tokens), err)
	}
	if _, err := config.ParseKeys(fetch(s, &corev1.Secret{}, "acme-keys").Data); err != nil {
		t.Error(err)
	}
	if err := migrations.Check(t.Context(), s.connect(string(files[config.DatabaseURLFile]))); err != nil {
		t.Errorf("the runtime's database: %v", err)
	}
	boxer := fetch(s, &corev1.Secret{}, "acme-boxer").Data
	for key, want := range map[string]string{
		"ENSLinkAddress":              "https://" + s.hostname() + "/MailNotificationService/api/ens",
		"ENSAPIToken":                 string(token),
		"AccountNotifyPush":           "true",
		"EWSUrl":                      "https://mail.example.com/EWS/Exchange.asmx",
		"PolicyLimitNotificationText": "1",
	} {
		if string(boxer[key]) != want {
			t.Errorf("%s for the UEM console is %q", key, boxer[key])
		}
	}
}

// mounted is what the pod would see in its configuration's folder.
func (s *stage) mounted() map[string][]byte {
	s.t.Helper()
	files := map[string][]byte{}
	deployment := fetch(s, &appsv1.Deployment{}, "acme")
	for _, source := range deployment.Spec.Template.Spec.Volumes[0].Projected.Sources {
		if source.Secret != nil {
			for _, item := range source.Secret.Items {
				files[item.Path] = fetch(s, &corev1.Secret{}, source.Secret.Name).Data[item.Key]
			}
		}
		if source.ConfigMap != nil {
			for _, item := range source.ConfigMap.Items {
				files[item.Path] = []byte(fetch(s, &corev1.ConfigMap{}, source.ConfigMap.Name).Data[item.Key])
			}
		}
	}
	return files
}

func TestTenantIsReadyWhenItsPodsServe(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	report := func(change func(*appsv1.DeploymentStatus)) {
		t.Helper()
		deployment := fetch(s, &appsv1.Deployment{}, "acme")
		deployment.Status.ObservedGeneration = deployment.Generation
		change(&deployment.Status)
		if err := s.clients.Status().Update(t.Context(), deployment); err != nil {
			t.Fatal(err)
		}
	}
	conditions := func(available corev1.ConditionStatus, progressing corev1.ConditionStatus, reason string) []appsv1.DeploymentCondition {
		return []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: available, Reason: "x"},
			{Type: appsv1.DeploymentProgressing, Status: progressing, Reason: reason},
		}
	}
	report(func(status *appsv1.DeploymentStatus) {
		status.Replicas, status.UpdatedReplicas, status.ReadyReplicas, status.AvailableReplicas = 2, 2, 2, 2
		status.Conditions = conditions("True", "True", "NewReplicaSetAvailable")
	})
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionTrue, api.ReasonReady)
	if tenant.Status.Replicas != 2 || !strings.Contains(tenant.Status.Selector, "app.kubernetes.io/instance=acme") {
		t.Errorf("replicas %d, selector %q", tenant.Status.Replicas, tenant.Status.Selector)
	}
	for _, found := range tenant.Status.Conditions {
		if found.Type == api.ConditionReconciling || found.Type == api.ConditionStalled {
			t.Errorf("%s is there although it is not true", found.Type)
		}
	}
	s.waitEvent("Normal", api.ReasonReady)

	report(func(status *appsv1.DeploymentStatus) {
		status.ReadyReplicas, status.AvailableReplicas = 0, 0
		status.Conditions = conditions("False", "True", "NewReplicaSetAvailable")
	})
	s.waitCondition(tenant, api.ConditionReady, metav1.ConditionFalse, api.ReasonUnavailable)
	s.waitEvent("Warning", api.ReasonUnavailable)

	change(s, tenant, "acme", func(t *api.EnsTenant) { t.Spec.Runtime.Replicas = new(int32(0)) })
	s.waitCondition(tenant, api.ConditionAvailable, metav1.ConditionFalse, api.ReasonScaledToZero)
}

// waitEvent waits for an Event about the tenant.
func (s *stage) waitEvent(kind, reason string) {
	s.t.Helper()
	s.eventually("waiting for an Event "+reason, func() error {
		var events eventsv1.EventList
		if err := s.clients.List(s.t.Context(), &events, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.Type == kind && event.Reason == reason && event.Regarding.Kind == "EnsTenant" {
				return nil
			}
		}
		return fmt.Errorf("%d others", len(events.Items))
	})
}

// Helm and Argo CD apply with server-side apply: a field of the spec that the operator owned would be a conflict.
func TestOperatorOwnsNoFieldOfAnySpec(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	for _, object := range []client.Object{s.acme(), at(s, &api.EwsEndpoint{}, "exchange"), at(s, &api.PushProvider{}, "apple")} {
		s.get(object)
		for _, entry := range object.GetManagedFields() {
			if entry.Manager == "kubectl" {
				continue
			}
			var fields map[string]map[string]any
			if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
				t.Fatal(err)
			}
			for part, owned := range fields {
				if part == "f:status" || part == "f:metadata" && len(owned) == 1 && owned["f:finalizers"] != nil {
					continue
				}
				t.Errorf("%s owns %s of %T: %v", entry.Manager, part, object, owned)
			}
		}
	}
	s.applySamples(nil) // forces nothing, so that a conflict would fail it
}

// No Secret's value may be anywhere else in the cluster.
func TestNothingSecretLeavesItsSecret(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	var values []string
	for _, name := range []string{"acme-keys", "acme-api-token", "acme-runtime", "apns-key", "fcm-service-account", "acme-server-certificate"} {
		for key, value := range fetch(s, &corev1.Secret{}, name).Data {
			if key != "tls.crt" {
				values = append(values, string(value))
			}
		}
	}
	lists := []client.ObjectList{
		&api.EnsTenantList{}, &api.EwsEndpointList{}, &api.PushProviderList{}, &corev1.ConfigMapList{},
		&appsv1.DeploymentList{}, &corev1.ServiceList{}, &eventsv1.EventList{},
	}
	for _, list := range lists {
		if err := s.clients.List(t.Context(), list, client.InNamespace(s.namespace)); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			quoted, _ := json.Marshal(value)
			if strings.Contains(string(text), strings.Trim(string(quoted), `"`)) {
				t.Errorf("a Secret's value is in a %T", list)
			}
		}
	}
}

func TestSteadyStateWritesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.create(authoritiesUntil(t, time.Now().Add(time.Hour)))
	s.provisioned(discovering(inConfigMap("ca.crt")))
	s.quiet()
	objects := append(children(s), s.acme(), at(s, &api.EwsEndpoint{}, "exchange"), at(s, &api.PushProvider{}, "apple"))
	versions := s.versions(objects)
	before := len(s.written())

	// Something wakes up every reconciler, and nothing has to be done.
	for _, object := range []client.Object{
		at(s, &corev1.Secret{}, "apns-key"), at(s, &corev1.Secret{}, "acme-server-certificate"), at(s, &corev1.ConfigMap{}, "authorities"),
	} {
		change(s, object, object.GetName(), func(o client.Object) { o.SetLabels(map[string]string{"touched": "yes"}) })
	}
	tenant := s.acme()
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{"touched": "yes"} })
	s.quiet()

	for i, version := range s.versions(objects) {
		if version != versions[i] && objects[i].GetName() != tenant.Name {
			t.Errorf("%T %s has changed", objects[i], objects[i].GetName())
		}
	}
	if after := s.written(); len(after) != before {
		t.Errorf("%d writes: %v", len(after)-before, after[before:])
	}
}

func (s *stage) versions(objects []client.Object) []string {
	s.t.Helper()
	var versions []string
	for _, object := range objects {
		s.get(object)
		versions = append(versions, object.GetResourceVersion())
	}
	return versions
}

// quiet waits until the operator has dealt with everything that was written so far: a probe is a new endpoint, whose
// turn comes after what is queued, and the count of writes has to stand still around it.
func (s *stage) quiet() {
	s.t.Helper()
	const rounds, limit = 3, 100
	still, last := 0, -1
	for i := 0; still < rounds; i++ {
		if i == limit {
			s.t.Fatalf("the operator goes on writing: %v", s.written())
		}
		probe := plain(s.t, sampleOf(s.t, "EwsEndpoint"), &api.EwsEndpoint{})
		probe.Name, probe.Labels = probePrefix+strconv.Itoa(i), s.labels
		s.create(probe)
		s.waitCondition(probe, api.ConditionReady, metav1.ConditionTrue, "")
		s.remove(probe, probe.Name)
		if now := len(s.written()); now == last {
			still++
		} else {
			still, last = 0, now
		}
	}
}

const probePrefix = "probe-"

// written is what the operator has written in the namespace, without the probes of quiet.
func (s *stage) written() []string {
	return slices.DeleteFunc(s.writes.of(s.namespace), func(request string) bool { return strings.Contains(request, "/"+probePrefix) })
}
