package controllers_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/desired"
	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	image := func() string {
		return fetch(s, &appsv1.Deployment{}, "acme").Spec.Template.Spec.Containers[0].Image
	}
	for name, c := range map[string]struct {
		drift    func()
		repaired func() bool
	}{
		"another image": {
			func() {
				change(s, &appsv1.Deployment{}, "acme", func(o *appsv1.Deployment) { o.Spec.Template.Spec.Containers[0].Image = "evil" })
			},
			func() bool { return image() == runtimeImage },
		},
		"another selector of the Service": {
			func() {
				change(s, &corev1.Service{}, "acme", func(o *corev1.Service) { o.Spec.Selector["app.kubernetes.io/instance"] = "other" })
			},
			func() bool {
				return fetch(s, &corev1.Service{}, "acme").Spec.Selector["app.kubernetes.io/instance"] == "acme"
			},
		},
		"a configuration that was deleted": {
			func() { s.remove(&corev1.ConfigMap{}, "acme-runtime") },
			func() bool { return s.there(&corev1.ConfigMap{}, "acme-runtime") },
		},
		"a label that was taken away": {
			func() {
				change(s, &policyv1.PodDisruptionBudget{}, "acme", func(o *policyv1.PodDisruptionBudget) { o.Labels = nil })
			},
			func() bool {
				return fetch(s, &policyv1.PodDisruptionBudget{}, "acme").Labels[desired.LabelTenant] == "acme"
			},
		},
		"a database URL that was spoilt": {
			func() {
				change(s, &corev1.Secret{}, "acme-runtime", func(o *corev1.Secret) { o.Data["database-url"] = []byte("x") })
			},
			func() bool {
				return bytes.HasPrefix(fetch(s, &corev1.Secret{}, "acme-runtime").Data["database-url"], []byte("postgres://"+s.names().Schema))
			},
		},
	} {
		c.drift()
		s.eventually(name, func() error {
			if !c.repaired() {
				return fmt.Errorf("not repaired")
			}
			return nil
		})
	}
}

// there reports whether an object exists.
func (s *stage) there(object client.Object, name string) bool {
	s.t.Helper()
	err := s.clients.Get(s.t.Context(), client.ObjectKeyFromObject(at(s, object, name)), object)
	if client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	}
	return err == nil
}

func TestKeysAreNeverMadeAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	keys := fetch(s, &corev1.Secret{}, "acme-keys")
	s.remove(&corev1.Secret{}, "acme-keys")
	found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost)
	if !strings.Contains(found.Message, "restore it from a backup") {
		t.Errorf("the condition says %q", found.Message)
	}
	s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonKeysLost)
	s.quiet()
	if s.there(&corev1.Secret{}, "acme-keys") {
		t.Fatal("new keys were made")
	}

	restore := func(data map[string][]byte) {
		s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: keys.Name, Labels: keys.Labels}, Data: data})
	}
	// The database knows its keys by a check value, which the runtime writes.
	parsed, err := config.ParseKeys(keys.Data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.connect(s.postgres.SuperuserURL).Exec(t.Context(), "INSERT INTO "+s.names().Schema+".meta VALUES ('kek/1', $1), ('webhook/1', $2)",
		config.CheckValue(parsed.KEKs[1]), config.CheckValue(parsed.Webhooks[1]))
	if err != nil {
		t.Fatal(err)
	}
	restore(config.NewKeyFiles())
	found = s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost)
	s.eventually("waiting for word of the wrong keys", func() error {
		if found = s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost); !strings.Contains(found.Message, "holds other keys") {
			return fmt.Errorf("it says %q", found.Message)
		}
		return nil
	})
	// The right KEK alone is not enough.
	s.remove(&corev1.Secret{}, "acme-keys")
	half := config.NewKeyFiles()
	half["kek-1"] = keys.Data["kek-1"]
	restore(half)
	s.eventually("waiting for word of the wrong webhook key", func() error {
		if found = s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost); !strings.Contains(found.Message, "another key as webhook-1") {
			return fmt.Errorf("it says %q", found.Message)
		}
		return nil
	})
	s.remove(&corev1.Secret{}, "acme-keys")
	restore(keys.Data)
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

func TestAKeyThatNothingIsSealedWithAnyMoreMayBeTakenAway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	secret := fetch(s, &corev1.Secret{}, "acme-keys")
	record := func(key, value string) {
		t.Helper()
		if _, err := s.connect(s.postgres.SuperuserURL).Exec(t.Context(), "INSERT INTO "+s.names().Schema+".meta VALUES ($1, $2)", key, value); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := config.ParseKeys(secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	next, err := config.ParseKeys(config.NewKeyFiles())
	if err != nil {
		t.Fatal(err)
	}
	// As the runtimes leave it after a rotation.
	record("kek/1", config.CheckValue(parsed.KEKs[1]))
	record("kek/2", config.CheckValue(next.KEKs[1]))
	record("kek-retired/1", "2026-03-01T09:00:00Z")
	secret.Data["kek-2"] = base64.StdEncoding.AppendEncode(nil, next.KEKs[1].Reveal())
	delete(secret.Data, "kek-1")
	s.remove(&corev1.Secret{}, "acme-keys")
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Labels: secret.Labels}, Data: secret.Data})
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.eventually("waiting for the pods to mount the key that is left", func() error {
		text := fmt.Sprint(fetch(s, &appsv1.Deployment{}, "acme").Spec.Template.Spec.Volumes)
		if !strings.Contains(text, "kek-2") || strings.Contains(text, "kek-1") {
			return errors.New("they do not")
		}
		return nil
	})
}

func TestTokenIsNeverMadeAnewWhilePhonesUseIt(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	hashes := fetch(s, &corev1.Secret{}, "acme-runtime").Data["api-token-hashes"]
	s.remove(&corev1.Secret{}, "acme-api-token")
	s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonTokenLost)
	s.quiet()
	if s.there(&corev1.Secret{}, "acme-api-token") {
		t.Fatal("a new token was made")
	}
	if !bytes.Equal(fetch(s, &corev1.Secret{}, "acme-runtime").Data["api-token-hashes"], hashes) {
		t.Error("the runtime no longer accepts the phones' token")
	}
	// The way out that the message tells of.
	s.remove(&corev1.Secret{}, "acme-runtime")
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if bytes.Equal(fetch(s, &corev1.Secret{}, "acme-runtime").Data["api-token-hashes"], hashes) {
		t.Error("the token is the old one, which nobody has any more")
	}
}

func TestTokenOfAnotherServiceIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	token := "da848cc9340034843ecdjdad11048461q"
	s.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "acme-api-token", Labels: map[string]string{desired.LabelManagedBy: desired.ManagedBy, desired.LabelTenant: "acme"}},
		StringData: map[string]string{"token": token},
	})
	tenant := s.provisioned()
	if got := fetch(s, &corev1.Secret{}, "acme-boxer").Data["ENSAPIToken"]; string(got) != token {
		t.Errorf("the phones' token is %q", got)
	}
	change(s, &corev1.Secret{}, "acme-api-token", func(o *corev1.Secret) { o.Data["token"] = []byte("short") })
	found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonInvalid)
	if strings.Contains(found.Message, "short") && !strings.Contains(found.Message, "5 characters") {
		t.Errorf("the condition says %q", found.Message)
	}
}

func TestObjectsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		foreign   client.Object
		condition string
	}{
		"a Service of the tenant's name": {&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "acme"},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}, api.ConditionProvisioned},
		"a Secret of the keys' name": {&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-keys"}}, api.ConditionSecretsReady},
		"a ConfigMap of the configuration's name": {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "acme-runtime"},
			Data: map[string]string{"mine": "yes"}}, api.ConditionProvisioned},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.create(c.foreign)
			version := c.foreign.GetResourceVersion()
			s.applySamples(nil)
			tenant := s.acme()
			found := s.waitCondition(tenant, c.condition, metav1.ConditionFalse, api.ReasonNotOwned)
			if !strings.Contains(found.Message, c.foreign.GetName()) {
				t.Errorf("the condition says %q", found.Message)
			}
			s.quiet()
			s.get(c.foreign)
			if c.foreign.GetResourceVersion() != version {
				t.Error("it was written to")
			}
		})
	}
}

func TestForeignAndNewerSchemasAreLeftAlone(t *testing.T) {
	t.Parallel()
	for reason, statement := range map[string]string{
		api.ReasonForeignSchema: "UPDATE $schema.meta SET value = 'elsewhere' WHERE key = 'cluster_id'",
		api.ReasonNewerSchema:   "UPDATE $schema.meta SET value = '1000' WHERE key = 'schema_version'",
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			tenant := s.provisioned()
			admin := s.connect(s.postgres.SuperuserURL)
			if _, err := admin.Exec(t.Context(), strings.ReplaceAll(statement, "$schema", s.names().Schema)); err != nil {
				t.Fatal(err)
			}
			change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(int32(3)) })
			found := s.waitCondition(tenant, api.ConditionDatabaseReady, metav1.ConditionFalse, reason)
			if !strings.Contains(found.Message, s.names().Schema) {
				t.Errorf("the condition says %q", found.Message)
			}
			s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, reason)
			if got := *fetch(s, &appsv1.Deployment{}, "acme").Spec.Replicas; got != 2 {
				t.Errorf("the Deployment was changed, it has %d replicas", got)
			}
			if !s.schemaExists() {
				t.Error("the schema is gone")
			}
		})
	}
}
