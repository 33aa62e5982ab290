package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// backup is what docs/backup.md says to keep of a tenant.
type backup struct {
	dump    []byte
	secrets []*corev1.Secret
}

// backUp makes a backup of acme, with the Secrets first.
func (s *stage) backUp() backup {
	s.t.Helper()
	var kept backup
	for _, name := range []string{"acme-keys", "acme-api-token"} {
		secret := fetch(s, &corev1.Secret{}, name)
		secret.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: secret.Labels, Annotations: secret.Annotations}
		kept.secrets = append(kept.secrets, secret)
	}
	var err error
	if kept.dump, err = testenv.Postgres(s.t).Dump(s.t.Context(), s.postgres.URL, s.names().Schema); err != nil {
		s.t.Fatal(err)
	}
	return kept
}

// users counts the users as the runtime sees them: by the login that its pods are given.
func (s *stage) users() int {
	s.t.Helper()
	var count int
	err := s.connect(string(s.mounted()[config.DatabaseURLFile])).QueryRow(s.t.Context(), "SELECT count(*) FROM users").Scan(&count)
	if err != nil {
		s.t.Fatal(err)
	}
	return count
}

func TestADumpIsRestoredInPlace(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	s.recordKEK("acme-keys", 1)
	s.exec(aUser)
	kept := s.backUp()

	pause := func(value string) {
		change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationPaused: value} })
	}
	pause("true")
	s.eventually("waiting for the pause", func() error {
		s.get(tenant)
		for _, found := range tenant.Status.Conditions {
			if found.Type == api.ConditionPaused {
				return nil
			}
		}
		return errNotYet("the operator has not paused")
	})
	s.exec("DROP SCHEMA " + s.names().Schema + " CASCADE")
	if err := testenv.Postgres(t).Restore(t.Context(), s.postgres.URL, kept.dump); err != nil {
		t.Fatal(err)
	}
	pause("false")
	s.eventually("waiting for the end of the pause", func() error {
		s.get(tenant)
		for _, found := range tenant.Status.Conditions {
			if found.Type == api.ConditionPaused {
				return errNotYet("the operator pauses")
			}
		}
		return nil
	})
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if users := s.users(); users != 1 {
		t.Errorf("the runtime sees %d users, want the one of the dump", users)
	}
}

// elsewhere is a cluster of its own with a Postgres server of its own, whose operator was given the same cluster id.
func (s *stage) elsewhere() (*stage, *testenv.PostgresServer) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	kube, err := testenv.StartKube(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			s.t.Error(err)
		}
	})
	server, err := testenv.StartPostgres(ctx, testenv.WithoutFsync())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			s.t.Error(err)
		}
	})
	postgres, err := server.CreateDatabase(ctx, "restored")
	if err != nil {
		s.t.Fatal(err)
	}
	o, done, err := newOperator(ctx, kube, postgres, []string{s.namespace}, controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		<-done
	})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	if err := o.clients.Create(ctx, namespace); err != nil {
		s.t.Fatal(err)
	}
	return &stage{operator: o, t: s.t, namespace: s.namespace}, server
}

func TestADumpIsRestoredInAnotherClusterWithItsKeysOnly(t *testing.T) {
	t.Parallel()
	first := newStage(t)
	first.provisioned()
	first.recordKEK("acme-keys", 1)
	first.exec(aUser)
	first.exec(aDevice)
	kept := first.backUp()
	token := fetch(first, &corev1.Secret{}, "acme-api-token").Data["token"]

	s, server := first.elsewhere()
	if err := server.Restore(t.Context(), s.postgres.URL, kept.dump); err != nil {
		t.Fatal(err)
	}
	s.applySamples(nil)
	tenant := s.acme()
	wantRefused := func(what, tells string) {
		t.Helper()
		s.eventually("waiting for word of "+what, func() error {
			found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonKeysLost)
			if !strings.Contains(found.Message, tells) {
				return errors.New(found.Message)
			}
			return nil
		})
		s.waitCondition(tenant, api.ConditionStalled, metav1.ConditionTrue, api.ReasonKeysLost)
		err := s.clients.Get(t.Context(), client.ObjectKeyFromObject(at(s, &appsv1.Deployment{}, "acme")), &appsv1.Deployment{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("with %s pods are run (%v)", what, err)
		}
	}
	wantRefused("no keys", "Secret acme-keys is gone, and the data in schema "+s.names().Schema+" are sealed with its keys: restore it from a backup")
	if s.there(&corev1.Secret{}, "acme-keys") {
		t.Fatal("keys were made that open nothing")
	}
	other := kept.secrets[0].DeepCopy()
	other.Data = config.NewKeyFiles()
	s.create(other)
	wantRefused("other keys", "(kek-1 differs): restore the right ones from the backup that was made with the data")
	change(s, &corev1.Secret{}, "acme-keys", func(o *corev1.Secret) {
		o.Data["kek-2"] = o.Data["kek-1"]
		delete(o.Data, "kek-1")
	})
	wantRefused("later keys", "kek-1 is missing, and data in schema "+s.names().Schema+" are sealed under it: add it from the backup")

	// Nor is there a new token, which the phones in the dump would not know.
	s.remove(&corev1.Secret{}, "acme-keys")
	s.create(kept.secrets[0].DeepCopy())
	found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, api.ReasonTokenLost)
	if !strings.Contains(found.Message, "1 devices in schema "+s.names().Schema+" hold the API token in it: restore it from a backup") {
		t.Errorf("it says %q", found.Message)
	}

	// With both everything is taken up again.
	s.create(kept.secrets[1].DeepCopy())
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	if users := s.users(); users != 1 {
		t.Errorf("the runtime sees %d users, want the one of the dump", users)
	}
	s.eventually("waiting for the token of before", func() error {
		if !bytes.Equal([]byte(s.token()), token) {
			return errNotYet("the phones' token is another")
		}
		return nil
	})
}
