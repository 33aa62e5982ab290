package condition_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/controllers/condition"
	"github.com/ens-operator/ens-operator/runtime/egress"
)

func TestSummarizeTakesTheWorst(t *testing.T) {
	t.Parallel()
	good, waits := condition.OK("Fine", "fine"), condition.Waiting("waits")
	failed, stuck := condition.Failed("Broken", "broken"), condition.Stuck("Stuck", "stuck")
	for name, c := range map[string]struct {
		findings []condition.Finding
		want     string
	}{
		"nothing":                   {nil, "all"},
		"all good":                  {[]condition.Finding{good, good}, "all"},
		"one waits":                 {[]condition.Finding{good, waits}, "waits"},
		"a failure after waiting":   {[]condition.Finding{waits, failed}, "broken"},
		"stuck after a failure":     {[]condition.Finding{failed, stuck, waits}, "stuck"},
		"the first of two failures": {[]condition.Finding{failed, condition.Failed("Other", "other")}, "broken"},
	} {
		if got := condition.Summarize("All", "all", c.findings...); got.Message != c.want {
			t.Errorf("%s: %q, want %q", name, got.Message, c.want)
		}
	}
}

// kstatus is what Helm, Flux and cli-utils make of conditions, in the order in which they look.
func kstatus(conditions []metav1.Condition, observed, generation int64) string {
	if observed != generation {
		return "InProgress"
	}
	for _, c := range conditions {
		if c.Type == v1alpha1.ConditionReconciling && c.Status == metav1.ConditionTrue {
			return "InProgress"
		}
		if c.Type == v1alpha1.ConditionStalled && c.Status == metav1.ConditionTrue {
			return "Failed"
		}
	}
	if ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady); ready != nil && ready.Status != metav1.ConditionTrue {
		return "InProgress"
	}
	return "Current"
}

func TestReadyDecidesWhatToolsSee(t *testing.T) {
	t.Parallel()
	var conditions []metav1.Condition
	at := metav1.NewTime(time.Unix(1_000_000_000, 0))
	for _, step := range []struct {
		finding condition.Finding
		want    string
	}{
		{condition.Waiting("waits"), "InProgress"},
		{condition.Stuck("Wrong", "wrong"), "Failed"},
		{condition.Failed("Missing", "missing"), "InProgress"},
		{condition.OK("Ready", "fine"), "Current"},
		{condition.Waiting("waits again"), "InProgress"},
	} {
		before := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
		at = metav1.NewTime(at.Add(time.Minute))
		conditions = condition.Set(conditions, 7, at, condition.Typed{Type: v1alpha1.ConditionReady, Finding: step.finding})
		if got := kstatus(conditions, 7, 7); got != step.want {
			t.Errorf("%q: tools see %s, want %s", step.finding.Message, got, step.want)
		}
		after := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
		if moved := before == nil || before.Status != after.Status; moved != after.LastTransitionTime.Equal(&at) {
			t.Errorf("%q: lastTransitionTime %v at %v", step.finding.Message, after.LastTransitionTime, at)
		}
	}
	if got := kstatus(conditions, -1, 1); got != "InProgress" {
		t.Errorf("a fresh object looks %s", got)
	}
}

func TestLongMessagesAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	const most = 1024 // bytes, of an Event's note
	for name, c := range map[string]struct{ message, want string }{
		"as long as may be":          {strings.Repeat("a", most), strings.Repeat("a", most)},
		"a letter too long":          {strings.Repeat("a", most+1), strings.Repeat("a", most-3) + "…"},
		"of letters of two bytes":    {strings.Repeat("ä", 5000), strings.Repeat("ä", 510) + "…"},
		"two bytes that just fit":    {strings.Repeat("ä", most/2), strings.Repeat("ä", most/2)},
		"few letters but many bytes": {strings.Repeat("😀", 300), strings.Repeat("😀", 255) + "…"},
	} {
		conditions := condition.Set(nil, 1, metav1.Now(), condition.Typed{Type: "X", Finding: condition.Failed("Y", c.message)})
		if got := conditions[0].Message; got != c.want {
			t.Errorf("%s: %d bytes, ending in %q, want %d", name, len(got), got[len(got)-10:], len(c.want))
		}
	}
}

func TestAddressIsJudgedByTheGuard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		address string
		allow   bool
		reason  string
	}{
		"none":                       {"", false, v1alpha1.ReasonAccepted},
		"a host":                     {"https://mail.example.com/x", false, v1alpha1.ReasonAccepted},
		"a private address":          {"https://10.0.0.1/x", false, v1alpha1.ReasonAccepted},
		"loopback":                   {"https://127.0.0.1/x", false, v1alpha1.ReasonLoopbackRefused},
		"loopback that is permitted": {"https://127.0.0.1:1/x", true, v1alpha1.ReasonAccepted},
		"a cloud's metadata":         {"https://169.254.169.254/x", true, v1alpha1.ReasonInvalid},
		"no address":                 {"https://%zz", false, v1alpha1.ReasonInvalid},
	} {
		got := condition.Address("url", c.address, egress.Guard{AllowLoopback: c.allow})
		if got.Reason != c.reason || got.Good() != (c.reason == v1alpha1.ReasonAccepted) {
			t.Errorf("%s: %+v, want %s", name, got, c.reason)
		}
	}
}
