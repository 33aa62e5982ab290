package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clocktesting "k8s.io/utils/clock/testing"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// newTimedStage is a stage with an operator, an API server and a database of its own, whose clock stands still. It may reach
// this machine.
func newTimedStage(t *testing.T) (*stage, *clocktesting.FakePassiveClock) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	kube, err := testenv.StartKube(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.Stop(); err != nil {
			t.Error(err)
		}
	})
	postgres := testenv.Postgres(t).NewDatabase(t)
	now := clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second))
	s := &stage{t: t, namespace: kube.NewNamespace(t)}
	stop := func() {}
	s.restart = func(changes ...func(*controllers.Options)) {
		t.Helper()
		stop()
		ctx, cancel := context.WithCancel(ctx)
		options := controllers.Options{RuntimeImage: runtimeImage, ClusterID: clusterID, Clock: now, AllowLoopback: true}
		for _, change := range changes {
			change(&options)
		}
		o, done, err := newOperator(ctx, kube, postgres, []string{s.namespace}, options)
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		s.operator = o
		stop = func() {
			cancel()
			<-done
		}
	}
	s.restart()
	t.Cleanup(func() {
		cancel()
		stop()
	})
	return s, now
}

// token is the API token that the UEM console is told.
func (s *stage) token() string {
	s.t.Helper()
	return string(fetch(s, &corev1.Secret{}, "acme-boxer").Data["ENSAPIToken"])
}

// wantTokens waits until the runtime accepts these tokens and no others at a time.
func (s *stage) wantTokens(now time.Time, wanted ...string) {
	s.t.Helper()
	s.eventually("waiting for the tokens", func() error {
		tokens, err := config.ParseAPITokens(string(s.mounted()["secrets/api-token-hashes"]))
		if err != nil {
			return err
		}
		if len(tokens) != len(wanted) {
			return fmt.Errorf("%d tokens are accepted, want %d", len(tokens), len(wanted))
		}
		for _, token := range wanted {
			if _, accepted := tokens.Accept(token, now); !accepted {
				return fmt.Errorf("a token is not accepted that should be")
			}
		}
		return nil
	})
}

// replaced waits until the console is told another token than before, and returns it.
func (s *stage) replaced(before string) string {
	s.t.Helper()
	s.eventually("waiting for a new token", func() error {
		if s.token() == before {
			return errNotYet("the token is the one before")
		}
		return nil
	})
	return s.token()
}

// look has the operator look at the tenant, by a change that means nothing to the token.
func (s *stage) look(tenant *api.EnsTenant) {
	s.t.Helper()
	change(s, tenant, "acme", func(o *api.EnsTenant) { o.Spec.Runtime.Replicas = new(*o.Spec.Runtime.Replicas%5 + 1) })
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
}

func TestTheAPITokenIsReplacedOnRequestAndBySchedule(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" { // a request that is as old as the tenant
			o.SetAnnotations(map[string]string{api.AnnotationRotateAPIToken: "first"})
			_ = unstructured.SetNestedField(o.Object, int64(2), "spec", "runtime", "replicas")
		}
	})
	ask := func(request string) {
		t.Helper()
		change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations[api.AnnotationRotateAPIToken] = request })
	}
	first := s.token()
	s.look(tenant)
	s.wantTokens(clock.Now(), first)
	if tenant.Status.APIToken == nil || tenant.Status.APIToken.Request != "first" {
		t.Errorf("a token that was made for the request is followed by another: %+v", tenant.Status.APIToken)
	}

	ask("ticket 17")
	second := s.replaced(first)
	s.wantTokens(clock.Now(), second, first)
	s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionTrue, api.ReasonPreviousTokenUnused)
	for range 3 { // once is once
		s.look(tenant)
	}
	s.wantTokens(clock.Now(), second, first)

	// Who uses the token before is known to the database.
	session := s.connect(s.postgres.SuperuserURL)
	tokens, err := config.ParseAPITokens(string(s.mounted()["secrets/api-token-hashes"]))
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := session.Exec(t.Context(), strings.ReplaceAll(sql, "SCHEMA", s.names().Schema), args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`WITH u AS (INSERT INTO SCHEMA.users (user_hash, key_id, public_key, private_key, created_at)
    VALUES (decode(repeat('ab', 32), 'hex'), 'k', '', '', now()) RETURNING id)
INSERT INTO SCHEMA.devices (user_id, device_id, platform, token, provider, app_id, push_environment, policy, sound, badge, locale,
    device_log_id, sync_key, app_version, os_version, registered_at, api_token)
SELECT id, d, 'iOS', 't', 'apple', '', '', 1, '', true, '', '', '', '', '', now(), a FROM u, (VALUES ('one', NULL), ('two', $1), ('three', 'other')) AS v(d, a)`,
		tokens[0].ID())
	s.look(tenant)
	found := s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionUnknown, api.ReasonPreviousTokenInUse)
	if *tenant.Status.APIToken.PreviousDevices != 2 || !strings.Contains(found.Message, "yet: 2.") {
		t.Errorf("%d devices use the token before, want 2: %s", *tenant.Status.APIToken.PreviousDevices, found.Message)
	}
	exec(`UPDATE SCHEMA.devices SET api_token = $1`, tokens[0].ID())
	s.look(tenant)
	s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionTrue, api.ReasonPreviousTokenUnused)

	clock.SetTime(clock.Now().Add(31 * 24 * time.Hour))
	s.look(tenant)
	s.wantTokens(clock.Now(), second)
	s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionTrue, api.ReasonRotated)
	if data := fetch(s, &corev1.Secret{}, "acme-api-token").Data; len(data) != 1 {
		t.Errorf("the Secret holds %d values, want the token alone", len(data))
	}

	// By schedule, and ending at once.
	change(s, tenant, "acme", func(o *api.EnsTenant) {
		o.Spec.APIToken = &api.TenantAPIToken{RotateEveryDays: 60, OverlapDays: new(int32(0))}
	})
	s.look(tenant)
	s.wantTokens(clock.Now(), second)
	clock.SetTime(clock.Now().Add(30 * 24 * time.Hour)) // 61 days after the last
	s.look(tenant)
	third := s.replaced(second)
	s.wantTokens(clock.Now(), third)

	// What is kept is taken up again, with what was carried out.
	s.remove(&api.EnsTenant{}, "acme")
	s.gone(&api.EnsTenant{}, "acme")
	s.applySamples(nil)
	ask2 := s.acme()
	s.waitCondition(ask2, api.ConditionProvisioned, metav1.ConditionTrue, "")
	change(s, ask2, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationRotateAPIToken: "ticket 17"} })
	s.waitCondition(ask2, api.ConditionProvisioned, metav1.ConditionTrue, "")
	s.wantTokens(clock.Now(), third)
	for _, text := range []string{first, second, third} {
		if strings.Contains(fmt.Sprint(ask2.Status), text) {
			t.Error("a token stands in the status")
		}
	}
}

func TestTheAPITokenIsNotReplacedAgainBeforeAllReplicasKnowIt(t *testing.T) {
	t.Parallel()
	s, clock := newTimedStage(t)
	tenant := s.provisioned()
	ask := func(request string) {
		t.Helper()
		change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations = map[string]string{api.AnnotationRotateAPIToken: request} })
	}
	first := s.token()
	ask("ticket 17")
	second := s.replaced(first)
	s.wantTokens(clock.Now(), second, first)
	ask("ticket 18")
	found := s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionUnknown, api.ReasonProgressing)
	if !strings.Contains(found.Message, "waits until all replicas know") {
		t.Errorf("it says %q", found.Message)
	}
	s.quiet()
	s.wantTokens(clock.Now(), second, first)
	clock.SetTime(clock.Now().Add(2 * time.Minute))
	s.eventually("the second rotation", func() error {
		ask("ticket 18")
		if s.token() == second {
			change(s, tenant, "acme", func(o *api.EnsTenant) { o.Annotations["look"] = "again" })
			return errNotYet("the token is the one before")
		}
		return nil
	})
	s.wantTokens(clock.Now(), s.token(), second)
	s.waitCondition(tenant, api.ConditionAPITokenRotated, metav1.ConditionTrue, api.ReasonPreviousTokenUnused)
}

func TestATokenOfTheAdministratorsOwnIsHonoured(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Data: map[string][]byte{"token": []byte("da848cc9340034843ecdjdad11048461q")}})
	tenant := s.provisioned(func(o *unstructured.Unstructured) {
		if o.GetKind() == "EnsTenant" {
			_ = unstructured.SetNestedField(o.Object, "mine", "spec", "apiToken", "secretName")
		}
	})
	s.wantTokens(time.Now(), "da848cc9340034843ecdjdad11048461q")
	if s.there(&corev1.Secret{}, "acme-api-token") || tenant.Status.Secrets.APIToken != "mine" || tenant.Status.Effective.APIToken != nil {
		t.Errorf("a token is kept that nobody asked for: %+v", tenant.Status.Secrets)
	}
	change(s, &corev1.Secret{}, "mine", func(o *corev1.Secret) {
		o.Data = map[string][]byte{
			"token": []byte("the-next-token-of-mine"), "previous-token": []byte("da848cc9340034843ecdjdad11048461q"),
			"previous-token-expires": []byte(time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
		}
	})
	s.wantTokens(time.Now(), "the-next-token-of-mine", "da848cc9340034843ecdjdad11048461q")
	for what, broken := range map[string]struct {
		data   map[string][]byte
		reason string
	}{
		"no token":              {map[string][]byte{"other": []byte("x")}, api.ReasonKeyNotFound},
		"a short token":         {map[string][]byte{"token": []byte("short")}, api.ReasonInvalid},
		"a token with a line":   {map[string][]byte{"token": []byte("the-next-token-of-mine\n")}, api.ReasonInvalid},
		"no end of the other":   {map[string][]byte{"token": []byte("the-next-token-of-mine"), "previous-token": []byte("da848cc9340034843ecdjdad11048461q")}, api.ReasonInvalid},
		"no date for the other": {map[string][]byte{"token": []byte("the-next-token-of-mine"), "previous-token": []byte("da848cc9340034843ecdjdad11048461q"), "previous-token-expires": []byte("da848cc9340034843ecdjdad11048461q")}, api.ReasonInvalid},
	} {
		change(s, &corev1.Secret{}, "mine", func(o *corev1.Secret) { o.Data = broken.data })
		found := s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionFalse, broken.reason)
		if strings.Contains(found.Message, "da848") || strings.Contains(found.Message, "of-mine") {
			t.Errorf("%s: the condition tells the token: %s", what, found.Message)
		}
		change(s, &corev1.Secret{}, "mine", func(o *corev1.Secret) { o.Data = map[string][]byte{"token": []byte("the-next-token-of-mine")} })
		s.waitCondition(tenant, api.ConditionSecretsReady, metav1.ConditionTrue, "")
	}
	s.wantTokens(time.Now(), "the-next-token-of-mine")
}
