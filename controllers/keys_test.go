package controllers_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// exec runs a statement in the tenant's schema, as the superuser.
func (s *stage) exec(sql string, args ...any) {
	s.t.Helper()
	session := s.connect(s.postgres.SuperuserURL)
	defer func() { _ = session.Close(s.t.Context()) }()
	if _, err := session.Exec(s.t.Context(), "SET search_path = "+s.names().Schema); err != nil {
		s.t.Fatal(err)
	}
	if _, err := session.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatal(err)
	}
}

// keyFiles are the names of the keys in a Secret, and keys what they hold.
func (s *stage) keyFiles(secret string) []string {
	s.t.Helper()
	return slices.Sorted(maps.Keys(fetch(s, &corev1.Secret{}, secret).Data))
}

// wantKeys waits until a Secret holds keys of these names.
func (s *stage) wantKeys(secret string, names ...string) {
	s.t.Helper()
	s.eventually("waiting for the keys in Secret "+secret, func() error {
		if got := s.keyFiles(secret); !slices.Equal(got, names) {
			return fmt.Errorf("it holds %v, want %v", got, names)
		}
		return nil
	})
}

// wantMounted waits until the pods see keys of these names, each from a Secret.
func (s *stage) wantMounted(wanted map[string]string) {
	s.t.Helper()
	s.eventually("waiting for the keys that pods mount", func() error {
		got := map[string]string{}
		for _, source := range fetch(s, &appsv1.Deployment{}, "acme").Spec.Template.Spec.Volumes[0].Projected.Sources {
			if source.Secret != nil && strings.HasPrefix(source.Secret.Items[0].Path, "keys/") {
				got[source.Secret.Items[0].Key] = source.Secret.Name
			}
		}
		if !maps.Equal(got, wanted) {
			return fmt.Errorf("they mount %v, want %v", got, wanted)
		}
		return nil
	})
}

// from says that keys are mounted from a Secret.
func from(secret string, names ...string) map[string]string {
	mounted := map[string]string{}
	for _, name := range names {
		mounted[name] = secret
	}
	return mounted
}

// wantRotation has the operator look, as it does every minute, and waits for what it says of the rotation.
func (s *stage) wantRotation(reason, tells string) *api.KeysStatus {
	s.t.Helper()
	tenant := s.acme()
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		looks, _ := strconv.Atoi(o.Annotations["looks"])
		o.Annotations["looks"] = strconv.Itoa(looks + 1)
	})
	s.eventually("waiting for "+reason+": "+tells, func() error {
		s.get(tenant)
		for _, found := range tenant.Status.Conditions {
			if found.Type == api.ConditionKeysRotated {
				if found.Reason != reason || !strings.Contains(found.Message, tells) {
					return fmt.Errorf("it says %s %s: %s", found.Status, found.Reason, found.Message)
				}
				return nil
			}
		}
		return errNotYet("nothing is said of the rotation")
	})
	return tenant.Status.Keys
}

// ask asks for a rotation of the keys.
func (s *stage) ask(request string) {
	s.t.Helper()
	change(s, s.acme(), "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationRotateKeys: request} })
}

// rolledOut says, as the Deployment's controller would, that all pods are of the latest template.
func (s *stage) rolledOut() {
	s.t.Helper()
	s.eventually("telling that the pods have been replaced", func() error {
		deployment := fetch(s, &appsv1.Deployment{}, "acme")
		replicas := *deployment.Spec.Replicas
		deployment.Status = appsv1.DeploymentStatus{
			ObservedGeneration: deployment.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "x"}},
		}
		return s.clients.Status().Update(s.t.Context(), deployment)
	})
}

// recordKEK records the key of this number as one that is sealed with, as a replica does.
func (s *stage) recordKEK(secret string, number int) {
	s.t.Helper()
	name := "kek-" + strconv.Itoa(number)
	keys, err := config.ParseSomeKeys(map[string][]byte{name: fetch(s, &corev1.Secret{}, secret).Data[name]})
	if err != nil {
		s.t.Fatal(err)
	}
	s.exec(`INSERT INTO meta VALUES ($1, $2)`, "kek/"+strconv.Itoa(number), config.CheckValue(keys.KEKs[number]))
}

const (
	aReplica = `INSERT INTO instances VALUES (gen_random_uuid(), '1', '', $1, $1, now(), now(), $2, $2)`
	aUser    = `INSERT INTO users (user_hash, key_id, public_key, private_key, created_at, registered_at)
VALUES (decode(repeat('ab', 32), 'hex'), 'k', '', int4send(1) || 'x', now(), now())`
	aDevice = `INSERT INTO devices (user_id, device_id, platform, token, provider, app_id, push_environment, policy, sound, badge, locale,
    device_log_id, sync_key, app_version, os_version, registered_at)
SELECT id, 'd', 'iOS', 't', 'apple', '', '', 1, '', true, '', '', '', '', '', now() FROM users`
	aSubscription = `INSERT INTO subscriptions (user_id, generation, state, f_hash, key_sealed, device_id, endpoint, auth_type, created_at, promoted_at, webhook_key)
SELECT id, $1, 'active', decode(repeat('cd', 32), 'hex'), int4send($2) || 'x', 'd', 'exchange', 0, now(), now(), $2 FROM users`
)

func TestKeysAreReplacedOnRequestAndTheOldOnesGoWhenNothingUsesThem(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.recordKEK("acme-keys", 1)
	s.exec(aReplica, []int{1}, 1)
	s.exec(aUser)
	s.exec(aSubscription, 1, 1)
	s.wantMounted(from("acme-keys", "kek-1", "webhook-1"))
	before := fetch(s, &corev1.Secret{}, "acme-keys")

	s.ask("ticket 1")
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")
	s.wantMounted(from("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2"))
	s.waitEvent("Normal", "KeysMade")
	for range 3 { // once is once
		s.wantRotation(api.ReasonReplicasLackKeys, "1 of 1")
	}
	after := fetch(s, &corev1.Secret{}, "acme-keys")
	if len(after.Data) != 4 || string(after.Data["kek-1"]) != string(before.Data["kek-1"]) || string(after.Data["webhook-1"]) != string(before.Data["webhook-1"]) {
		t.Error("the keys of before are others, or keys were made twice")
	}

	// The replicas go on as runtime/server/keys.go does.
	s.exec(`UPDATE instances SET kek_ids = '{1,2}', webhook_ids = '{1,2}'`)
	s.wantRotation(api.ReasonSealedUnderOlderKey, "still seal under an older key-encryption key: 1")
	s.recordKEK("acme-keys", 2)
	s.exec(`UPDATE instances SET sealing_kek = 2, sealing_webhook = 2`)
	status := s.wantRotation(api.ReasonSealedUnderOlderKey, "Rows under an older key-encryption key: 2")
	if status.Request != "ticket 1" || status.RotatedAt == nil || status.KEK != 2 || status.OldestKEK != 1 || status.WebhookKey != 2 ||
		status.OldestWebhookKey != 1 || *status.SealedUnderOlder != 2 || *status.SignedWithOlder != 1 {
		t.Errorf("the status says %+v", status)
	}
	s.exec(`UPDATE users SET private_key = int4send(2) || 'x'`)
	s.exec(`UPDATE subscriptions SET key_sealed = int4send(2) || 'x'`)
	s.wantRotation(api.ReasonSealedUnderOlderKey, "for some minutes more")

	// Nothing needs it any more, but a pod mounts it: it is not taken away under the pod.
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "acme-0"}}
	template := fetch(s, &appsv1.Deployment{}, "acme").Spec.Template
	pod.Labels, pod.Spec = template.Labels, template.Spec
	pod.Spec.ServiceAccountName = ""
	s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	s.create(pod)
	s.exec(`INSERT INTO meta VALUES ('kek-retired/1', '2026-03-01T09:00:00Z')`)
	s.wantRotation(api.ReasonOlderKeyMounted, "when no pod mounts it: kek-1. Subscriptions whose URL an older webhook key signed: 1")
	s.wantMounted(from("acme-keys", "kek-2", "webhook-1", "webhook-2"))
	s.rolledOut()
	s.quiet()
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")

	// A row that comes late, from a replica that had lost the database, keeps it.
	s.exec(`UPDATE users SET private_key = int4send(1) || 'x'`)
	s.wantRotation(api.ReasonSealedUnderOlderKey, "Rows under an older key-encryption key: 1")
	s.wantMounted(from("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2"))
	s.remove(pod, pod.Name)
	s.rolledOut()
	s.quiet()
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")
	s.exec(`UPDATE users SET private_key = int4send(2) || 'x'`)
	s.wantRotation(api.ReasonOlderKeyMounted, "kek-1")
	s.wantMounted(from("acme-keys", "kek-2", "webhook-1", "webhook-2"))
	s.quiet() // pods of the old template may still be started
	s.wantKeys("acme-keys", "kek-1", "kek-2", "webhook-1", "webhook-2")
	s.rolledOut()
	s.wantKeys("acme-keys", "kek-2", "webhook-1", "webhook-2")
	s.waitEvent("Normal", "KeysRemoved")

	// The webhook key goes when the phones have registered again, and Exchange has heard of it.
	s.wantRotation(api.ReasonOlderWebhookKeyInUse, "signed: 1")
	s.exec(`UPDATE subscriptions SET state = 'retired'`)
	s.exec(aSubscription, 2, 2)
	s.wantRotation(api.ReasonOlderWebhookKeyInUse, "within the hour: 1")
	s.exec(`UPDATE subscriptions SET promoted_at = now() - interval '2 hours'`)
	s.wantRotation(api.ReasonOlderKeyMounted, "webhook-1")
	s.wantMounted(from("acme-keys", "kek-2", "webhook-2"))
	s.rolledOut()
	s.wantKeys("acme-keys", "kek-2", "webhook-2")
	status = s.wantRotation(api.ReasonRotated, "Only the newest keys are left")
	if status.OldestKEK != 2 || status.OldestWebhookKey != 2 || status.SealedUnderOlder != nil || status.SignedWithOlder != nil {
		t.Errorf("the status says %+v", status)
	}
	s.waitCondition(tenant, api.ConditionKeysRotated, metav1.ConditionTrue, api.ReasonRotated)
	s.quiet()
	written := len(s.written())
	s.ask("ticket 1")
	s.quiet()
	if got := s.written(); len(got) != written {
		t.Errorf("a request that was carried out is written for: %v", got[written:])
	}
	for name, key := range after.Data {
		if strings.Contains(fmt.Sprint(tenant.Status), string(key)) {
			t.Errorf("%s stands in the status", name)
		}
	}
}

func TestARequestAsOldAsTheTenantMakesNoSecondKeys(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			o.SetAnnotations(map[string]string{api.AnnotationRotateKeys: "first"})
		}
	})
	s.quiet()
	s.wantKeys("acme-keys", "kek-1", "webhook-1")
	s.get(tenant)
	if status := tenant.Status.Keys; status == nil || status.Request != "first" || status.KEK != 1 || status.RotatedAt != nil {
		t.Errorf("the status says %+v", status)
	}
	s.ask(strings.Repeat("x", 254))
	found := s.waitCondition(tenant, api.ConditionKeysRotated, metav1.ConditionFalse, api.ReasonInvalid)
	if !strings.Contains(found.Message, "longer than 253") {
		t.Errorf("it says %s", found.Message)
	}
	s.wantKeys("acme-keys", "kek-1", "webhook-1")
}
