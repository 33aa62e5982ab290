package controllers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	api "github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// replicaSays writes what one of the tenant's replicas reports of its push providers, and has the operator look.
func (s *stage) replicaSays(replica byte, seen time.Time, reports any) {
	s.t.Helper()
	said, err := json.Marshal(reports)
	if err != nil {
		s.t.Fatal(err)
	}
	const upsert = `INSERT INTO %s.instances (id, version, config_hash, kek_ids, webhook_ids, started_at, seen_at, push_providers)
VALUES ($1, 'test', '', '{}', '{}', now(), $2, $3) ON CONFLICT (id) DO UPDATE SET seen_at = $2, push_providers = $3`
	schema := pgx.Identifier{s.names().Schema}.Sanitize()
	if _, err := s.connect(s.postgres.SuperuserURL).Exec(s.t.Context(), fmt.Sprintf(upsert, schema), [16]byte{replica}, seen, said); err != nil {
		s.t.Fatal(err)
	}
	change(s, s.acme(), "acme", func(tenant *api.EnsTenant) {
		metav1.SetMetaDataAnnotation(&tenant.ObjectMeta, "example.com/look", time.Now().String())
	})
}

// fares waits until the tenant's status tells so of a provider.
func (s *stage) fares(name string, state api.PushState, reason string) api.TenantPushProvider {
	s.t.Helper()
	var found api.TenantPushProvider
	s.eventually(fmt.Sprintf("waiting for %s %s of %s", state, reason, name), func() error {
		told := fetch(s, &api.EnsTenant{}, "acme").Status.PushProviders
		for _, found = range told {
			if found.Name == name && found.State == state && found.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("status.pushProviders is %+v", told)
	})
	return found
}

func TestWhatAPushServiceMakesOfNotificationsIsSeenAtTheProvider(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	apple, google := at(s, &api.PushProvider{}, "apple"), at(s, &api.PushProvider{}, "google")
	s.fares("apple", api.PushUntried, "")
	s.waitCondition(apple, api.ConditionDelivering, metav1.ConditionUnknown, api.ReasonUntried)
	s.waitCondition(apple, api.ConditionReady, metav1.ConditionTrue, "")

	now := time.Now()
	began := now.Add(-time.Hour)
	s.replicaSays(1, now, []standing.Report{
		{Name: "apple", State: standing.Delivering, Since: began, At: now},
		{Name: "google", State: standing.Failing, Since: began, At: now, Reason: "UNAVAILABLE"},
	})
	if got := s.fares("apple", api.PushDelivering, "").Since; got == nil || !got.Time.Equal(began.Truncate(time.Minute)) {
		t.Errorf("it delivers since %v, want %v to the minute", got, began)
	}
	s.waitCondition(apple, api.ConditionDelivering, metav1.ConditionTrue, api.ReasonDelivering)
	// It may be the service's outage, for which nobody here has to do anything.
	outage := s.waitCondition(google, api.ConditionDelivering, metav1.ConditionFalse, api.ReasonFailing)
	if !strings.Contains(outage.Message, "acme") || !strings.Contains(outage.Message, "UNAVAILABLE") {
		t.Errorf("it does not say whom it fails, and how: %s", outage.Message)
	}
	s.waitCondition(google, api.ConditionReady, metav1.ConditionTrue, "")

	// One replica that is refused is enough.
	s.replicaSays(2, now, []standing.Report{{Name: "apple", State: standing.Refused, Since: now, At: now, Reason: "InvalidProviderToken"}})
	refused := s.waitCondition(apple, api.ConditionReady, metav1.ConditionFalse, api.ReasonRefused)
	for _, says := range []string{"acme", "InvalidProviderToken", "Replace the credential"} {
		if !strings.Contains(refused.Message, says) {
			t.Errorf("it does not say %q: %s", says, refused.Message)
		}
	}
	s.waitCondition(apple, api.ConditionStalled, metav1.ConditionTrue, "")
	// The tenant goes on with the provider, so that a corrected one reaches the pods.
	s.waitCondition(tenant, api.ConditionProvisioned, metav1.ConditionTrue, "")
	change(s, &api.PushProvider{}, "apple", func(p *api.PushProvider) { p.Spec.APNs.KeyID = "NEWKEY4567" })
	s.eventually("waiting for the corrected key id", func() error {
		for _, p := range s.configuration().PushProviders {
			if p.Name == "apple" && p.APNs.KeyID == "NEWKEY4567" {
				return nil
			}
		}
		return fmt.Errorf("it is not rendered")
	})

	s.replicaSays(2, now, []standing.Report{{Name: "apple", State: standing.Untried}})
	s.waitCondition(apple, api.ConditionReady, metav1.ConditionTrue, "")
	s.waitCondition(apple, api.ConditionDelivering, metav1.ConditionTrue, api.ReasonDelivering)
}

func TestAReplicasWordIsBoundedAndAStateThatLastsIsWrittenOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tenant := s.provisioned()
	now := time.Now()
	refused := func(at time.Time) []standing.Report {
		return []standing.Report{{Name: "apple", State: standing.Refused, Since: at, At: now, Reason: "the text of a mail"}}
	}
	// Words that cannot be read, are too long, or are of a replica that is gone, say nothing.
	s.replicaSays(2, now, "no list")
	s.replicaSays(3, now, []standing.Report{{Name: "apple", State: standing.Delivering, At: now, Reason: strings.Repeat("x", 20_000)}})
	s.replicaSays(4, now.Add(-time.Hour), []standing.Report{{Name: "apple", State: standing.Failing, At: now}})
	s.replicaSays(5, now, []standing.Report{{Name: "stranger", State: standing.Failing, At: now}, {Name: "google", State: "dancing", At: now}})
	s.replicaSays(1, now, refused(now.Add(time.Hour))) // by a clock that is ahead
	told := s.fares("apple", api.PushRefused, "Other")
	if told.Since == nil || told.Since.After(time.Now()) {
		t.Errorf("it is refused since %v, want a time that has been", told.Since)
	}
	s.get(tenant)
	if n := len(tenant.Status.PushProviders); n != 2 {
		t.Errorf("status.pushProviders has %d entries: %+v", n, tenant.Status.PushProviders)
	}
	s.fares("google", api.PushUntried, "")
	s.waitCondition(at(s, &api.PushProvider{}, "apple"), api.ConditionReady, metav1.ConditionFalse, api.ReasonRefused)
	s.quiet()
	written := len(s.written())
	for hours := range 3 {
		s.replicaSays(1, now, refused(now.Add(-time.Duration(hours)*time.Hour)))
		s.quiet()
	}
	if more := s.written()[written:]; len(more) > 0 {
		t.Errorf("a state that lasts was written again: %v", more)
	}
}

// gauge is a metric of the operator about an object of the stage, -1 if there is none.
func (s *stage) gauge(metric, object string) float64 {
	s.t.Helper()
	families, err := crmetrics.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			is := map[string]string{}
			for _, label := range m.GetLabel() {
				is[label.GetName()] = label.GetValue()
			}
			if family.GetName() == metric && is["namespace"] == s.namespace && is["name"] == object {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func TestMetricsTellWhichObjectsNeedSomebody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.provisioned()
	wait := func(metric, object string, want func(float64) bool) {
		t.Helper()
		s.eventually("waiting for "+metric, func() error {
			if got := s.gauge(metric, object); !want(got) {
				return fmt.Errorf("it is %g", got)
			}
			return nil
		})
	}
	is := func(want float64) func(float64) bool { return func(got float64) bool { return got == want } }
	wait("ens_operator_provider_refused", "apple", is(0))
	wait("ens_operator_tenant_certificate_not_after_timestamp_seconds", "acme", func(at float64) bool { return at > float64(time.Now().Unix()) })
	now := time.Now()
	s.replicaSays(1, now, []standing.Report{{Name: "apple", State: standing.Refused, Since: now, At: now}})
	wait("ens_operator_provider_refused", "apple", is(1))
	s.remove(&api.EwsEndpoint{}, "exchange")
	wait("ens_operator_tenant_ready", "acme", is(0))
	s.remove(&api.PushProvider{}, "apple")
	wait("ens_operator_provider_refused", "apple", is(-1))
	s.remove(&api.EnsTenant{}, "acme")
	wait("ens_operator_tenant_ready", "acme", is(-1))
	wait("ens_operator_tenant_certificate_not_after_timestamp_seconds", "acme", is(-1))
}
