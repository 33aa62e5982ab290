// Package rules_test shows, with Prometheus' own engine, which samples make the chart's alerts fire. It is a module of its own:
// Prometheus would bring more into go.mod than the project needs.
package rules_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// The samples are a minute apart, from the epoch on; alerts are looked at after three hours.
const (
	interval = time.Minute
	hours    = 3 * time.Hour
	day      = 86400
)

// sample is a series of three hours, in promtool's words: "1x180" is 1 all the time, "0+2x180" rises by 2 each minute.
type sample struct{ series, values string }

// scene is what makes an alert fire, and what resembles it and does not.
type scene struct{ fires, silent [][]sample }

func one(series, values string) []sample { return []sample{{series, values}} }

const (
	operator = `{namespace="ens-operator-system",pod="a",controller="enstenant"}`
	object   = `{namespace="mail",name="acme"}`
	pod      = `{namespace="mail",tenant="acme",pod="a"}`
	other    = `{namespace="mail",tenant="other",pod="b"}`
	apple    = `{namespace="mail",tenant="acme",pod="a",provider="apple"}`
)

func with(labels, more string) string { return labels[:len(labels)-1] + "," + more + "}" }

// ends is a time that is days after the three hours.
func ends(days float64) string { return fmt.Sprintf("%gx180", hours.Seconds()+days*day) }

// subscriptions are some that Exchange posts to.
var subscriptions = sample{"ens_webhook_key_subscriptions" + with(pod, `key="1"`), "5x180"}

// certificate is a tenant's that ends so many days after the three hours.
func certificate(days float64, overdue bool) []sample {
	late := "0x180"
	if overdue {
		late = "1x180"
	}
	return []sample{
		{"ens_operator_tenant_certificate_not_after_timestamp_seconds" + object, ends(days)},
		{"ens_operator_tenant_certificate_overdue" + object, late},
	}
}

// rollouts are tenants that wait for another image, and tenants that get it.
func rollouts(wait, get string) []sample {
	const labels = `{namespace="ens-operator-system",pod="a"}`
	return []sample{
		{"ens_operator_tenants" + with(labels, `rollout="WaitingForTurn"`), wait},
		{"ens_operator_tenants" + with(labels, `rollout="RollingOut"`), get},
	}
}

var scenes = map[string]scene{
	"EnsOperatorAbsent": {
		fires: [][]sample{nil, one(`leader_election_master_status{name="ens-operator.ens-operator.io"}`, "0x180"),
			one(`leader_election_master_status{name="another"}`, "1x180")},
		silent: [][]sample{one(`leader_election_master_status{name="ens-operator.ens-operator.io"}`, "1x180"),
			one(`leader_election_master_status{name="north.ens-operator.ens-operator.io"}`, "1x180")},
	},
	"EnsOperatorPanics": {
		fires: [][]sample{one("controller_runtime_reconcile_panics_total"+operator, "0x170 1x9")},
		silent: [][]sample{one("controller_runtime_reconcile_panics_total"+operator, "0x10 1x170"),
			one(`controller_runtime_reconcile_panics_total{controller="another"}`, "0+1x180")},
	},
	"EnsOperatorFails": {
		fires:  [][]sample{one("controller_runtime_reconcile_errors_total"+operator, "0+10x180")},
		silent: [][]sample{one("controller_runtime_reconcile_errors_total"+operator, "0+1x180"), one("controller_runtime_reconcile_errors_total"+operator, "0x170 0+10x9")},
	},
	"EnsTenantNotReady": {
		fires:  [][]sample{one("ens_operator_tenant_ready"+object, "0x180")},
		silent: [][]sample{one("ens_operator_tenant_ready"+object, "1x180"), one("ens_operator_tenant_ready"+object, "1x170 0x9")},
	},
	"EnsPushProviderRefused": {
		fires:  [][]sample{one("ens_operator_provider_refused"+object, "1x180")},
		silent: [][]sample{one("ens_operator_provider_refused"+object, "0x180")},
	},
	"EnsRolloutHeldBack": {
		fires:  [][]sample{one(`ens_operator_tenants{namespace="ens-operator-system",pod="a",rollout="RolloutFailed"}`, "1x180")},
		silent: [][]sample{one(`ens_operator_tenants{namespace="ens-operator-system",pod="a",rollout="WaitingForTurn"}`, "9x180")},
	},
	"EnsRolloutStalls": {
		fires:  [][]sample{rollouts("3x180", "0x180")},
		silent: [][]sample{rollouts("3x180", "1x180"), rollouts("0x180", "0x180"), rollouts("3x180", "1x170 0x9")},
	},
	"EnsTenantCertificateExpires": {
		fires:  [][]sample{certificate(13, true), certificate(-1, true)},
		silent: [][]sample{certificate(15, false), certificate(1, false)},
	},
	"EnsTenantCertificateExpiresSoon": {
		fires:  [][]sample{certificate(1, true)},
		silent: [][]sample{certificate(3, true), certificate(1, false)}, // such as one that lives for a day
	},
	"EnsExchangeCertificateExpires": {
		fires:  [][]sample{one("ens_operator_endpoint_certificate_not_after_timestamp_seconds"+object, ends(13))},
		silent: [][]sample{one("ens_operator_endpoint_certificate_not_after_timestamp_seconds"+object, ends(15))},
	},
	"EnsExchangeCertificateChanged": {
		fires:  [][]sample{one("ens_operator_endpoint_pinned"+object, "1x170 0x9")},
		silent: [][]sample{one("ens_operator_endpoint_pinned"+object, "1x180"), nil},
	},
	"EnsExchangeUnreachable": {
		fires:  [][]sample{one("ens_operator_endpoint_reachable"+object, "1x100 0x80")},
		silent: [][]sample{one("ens_operator_endpoint_reachable"+object, "1x170 0x9")},
	},
	"EnsConfigurationRefused": {
		fires:  [][]sample{one("ens_config_valid"+pod, "0x180")},
		silent: [][]sample{one("ens_config_valid"+pod, "1x180"), one("ens_config_valid"+pod, "1x175 0x4")},
	},
	"EnsNoCallbacks": {
		fires: [][]sample{{{"ens_callbacks_received_total" + pod, "0+2x90 180x90"}, subscriptions, {"ens_callbacks_received_total" + other, "0+2x180"}}},
		silent: [][]sample{{{"ens_callbacks_received_total" + pod, "0+1x180"}, subscriptions}, {{"ens_callbacks_received_total" + pod, "0x180"}, subscriptions},
			// One of two pods gets all.
			{{"ens_callbacks_received_total" + pod, "0+2x90 180x90"}, {`ens_callbacks_received_total{namespace="mail",tenant="acme",pod="c"}`, "0+2x180"}, subscriptions},
			// The last phone has left.
			{{"ens_callbacks_received_total" + pod, "0+2x90 180x90"}, {"ens_webhook_key_subscriptions" + with(pod, `key="1"`), "5x90 0x90"}}},
	},
	"EnsCallbackFaults": {
		fires:  [][]sample{one("ens_callback_faults_total"+pod, "0x170 1x9")},
		silent: [][]sample{one("ens_callback_faults_total"+pod, "0x180")},
	},
	"EnsExchangeDoesNotReachUs": {
		fires:  [][]sample{one("ens_subscriptions_unheard"+pod, "2x180")},
		silent: [][]sample{one("ens_subscriptions_unheard"+pod, "0x180"), one("ens_subscriptions_unheard"+pod, "0x170 1x9")},
	},
	"EnsSubscriptionsUnwatched": {
		fires: [][]sample{one("ens_subscriptions_watched_timestamp_seconds"+pod, "0+60x120 7200x60")},
		silent: [][]sample{one("ens_subscriptions_watched_timestamp_seconds"+pod, "0+60x180"),
			{{"ens_subscriptions_watched_timestamp_seconds" + pod, "0+60x120 7200x60"}, {`ens_subscriptions_watched_timestamp_seconds{namespace="mail",tenant="acme",pod="c"}`, "0+60x180"}}},
	},
	"EnsKeyPoolLow": {
		fires:  [][]sample{one("ens_key_pool_pairs"+pod, "0x180")},
		silent: [][]sample{one("ens_key_pool_pairs"+pod, "249x180"), one("ens_key_pool_pairs"+pod, "300x170 10x9")},
	},
	"EnsMailCannotBeFetched": {
		fires: [][]sample{{{"ens_mail_fetches_total" + with(pod, `outcome="failed"`), "0+6x180"}, {"ens_mail_fetches_total" + with(pod, `outcome="ok"`), "0+4x180"}}},
		silent: [][]sample{{{"ens_mail_fetches_total" + with(pod, `outcome="failed"`), "0+1x180"}, {"ens_mail_fetches_total" + with(pod, `outcome="ok"`), "0+4x180"}},
			one("ens_mail_fetches_total"+with(pod, `outcome="failed"`), "5x180")},
	},
	"EnsJournalGrows": {
		fires:  [][]sample{one("ens_journal_owed"+pod, "0x60 0+10x120")},
		silent: [][]sample{one("ens_journal_owed"+pod, "500x180"), one("ens_journal_owed"+pod, "1x60 1+0.5x120")},
	},
	"EnsMailWaits": {
		fires:  [][]sample{one("ens_journal_oldest_owed_seconds"+pod, "15000x180")},
		silent: [][]sample{one("ens_journal_oldest_owed_seconds"+pod, "14000x180")},
	},
	"EnsPushProviderFailing": {
		fires:  [][]sample{one("ens_push_provider_open"+apple, "1x180")},
		silent: [][]sample{one("ens_push_provider_open"+apple, "0x180"), one("ens_push_provider_open"+apple, "0x170 1x9")},
	},
	"EnsPushMisconfigured": {
		fires:  [][]sample{one("ens_pushes_total"+with(apple, `outcome="misconfigured"`), "0+1x180")},
		silent: [][]sample{one("ens_pushes_total"+with(apple, `outcome="accepted"`), "0+1x180"), one("ens_pushes_total"+with(apple, `outcome="misconfigured"`), "7x180")},
	},
	"EnsPushCredentialExpires": {
		fires:  [][]sample{one("ens_push_credential_expiry_timestamp_seconds"+apple, ends(29))},
		silent: [][]sample{one("ens_push_credential_expiry_timestamp_seconds"+apple, ends(31)), nil},
	},
}

func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	file := filepath.Join("..", "..", "..", "charts", "ens-operator", "files", "alerts.yaml")
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	found := map[string]rulefmt.Rule{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			found[rule.Alert] = rule
		}
	}
	return found
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	found := rules(t)
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(scenes)); !slices.Equal(got, want) {
		t.Errorf("there are the alerts %q, and scenes for %q", got, want)
	}
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, samples := range s.fires {
				if got := firing(t, found[name], samples); got != 1 {
					t.Errorf("%d alerts for scene %d, want one", got, i)
				}
			}
			for i, samples := range s.silent {
				if got := firing(t, found[name], samples); got != 0 {
					t.Errorf("%d alerts for silent scene %d", got, i)
				}
			}
		})
	}
}

// firing is how many alerts fire after three hours: those whose expression has held for as long as the rule wants.
func firing(t *testing.T, rule rulefmt.Rule, samples []sample) int {
	t.Helper()
	input := "load 1m\n"
	for _, s := range samples {
		input += "  " + s.series + " " + s.values + "\n"
	}
	if len(samples) == 0 {
		input += "  nothing 0x180\n"
	}
	storage := promqltest.LoadedStorage(t, input)
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	held := map[string]int{}
	looks := 0
	for at := hours - time.Duration(rule.For); at <= hours; at += interval {
		looks++
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, rule.Expr, time.Unix(0, 0).Add(at))
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(t.Context())
		vector, err := result.Vector()
		if err != nil {
			t.Fatal(err)
		}
		for _, alert := range vector {
			held[alert.Metric.String()]++
		}
		query.Close()
	}
	firing := 0
	for _, times := range held {
		if times == looks {
			firing++
		}
	}
	return firing
}

// What dashboards read is PromQL, once Grafana has put its variables in.
func TestDashboardsReadPromQL(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "charts", "ens-operator", "files", "dashboard_*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	variables := strings.NewReplacer("$__rate_interval", "2m", "$namespace", "mail|.+", "$tenant", "acme")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(target.Expr)); err != nil {
					t.Errorf("%s, %s: %v", filepath.Base(file), panel.Title, err)
				}
			}
		}
	}
}
