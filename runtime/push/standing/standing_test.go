package standing_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// at is a time some minutes after the test's beginning.
func at(minutes float64) time.Time {
	return time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC).Add(time.Duration(minutes * float64(time.Minute)))
}

func TestAStateIsWhatPushesCameTo(t *testing.T) {
	t.Parallel()
	accepted := func(minutes ...float64) func(*standing.Record) {
		return func(r *standing.Record) {
			for _, m := range minutes {
				r.Accepted(at(m))
			}
		}
	}
	refused := func(minutes float64) func(*standing.Record) {
		return func(r *standing.Record) { r.Wrong(at(minutes), standing.Refused, "InvalidProviderToken") }
	}
	failing := func(minutes float64) func(*standing.Record) {
		return func(r *standing.Record) { r.Wrong(at(minutes), standing.Failing, "NoAnswer") }
	}
	untried := standing.Report{Name: "apple", State: standing.Untried}
	for name, c := range map[string]struct {
		happened []func(*standing.Record)
		look     float64
		want     standing.Report
	}{
		"nothing was pushed": {nil, 1, untried},
		"all is well since the first": {[]func(*standing.Record){accepted(1, 2, 3)}, 4,
			standing.Report{Name: "apple", State: standing.Delivering, Since: at(1), At: at(3)}},
		"the credential is refused": {[]func(*standing.Record){accepted(1), refused(2), refused(3)}, 4,
			standing.Report{Name: "apple", State: standing.Refused, Since: at(2), At: at(3), Reason: "InvalidProviderToken"}},
		"nothing was pushed for long after a failure": {[]func(*standing.Record){failing(1)}, 600,
			standing.Report{Name: "apple", State: standing.Failing, Since: at(1), At: at(1), Reason: "NoAnswer"}},
		"one app is refused and the other not": {[]func(*standing.Record){refused(1), accepted(1.1), refused(1.2), accepted(1.3)}, 1.4,
			standing.Report{Name: "apple", State: standing.Refused, Since: at(1.2), At: at(1.2), Reason: "InvalidProviderToken"}},
		"it is well again, for half a minute": {[]func(*standing.Record){failing(1), accepted(1.1)}, 1.5,
			standing.Report{Name: "apple", State: standing.Failing, Since: at(1), At: at(1), Reason: "NoAnswer"}},
		"it is well again": {[]func(*standing.Record){failing(1), accepted(1.1)}, 2,
			standing.Report{Name: "apple", State: standing.Delivering, Since: at(1.1), At: at(1.1)}},
		"what was an outage is a refusal": {[]func(*standing.Record){failing(1), refused(2)}, 3,
			standing.Report{Name: "apple", State: standing.Refused, Since: at(2), At: at(2), Reason: "InvalidProviderToken"}},
	} {
		var record standing.Record
		for _, happens := range c.happened {
			happens(&record)
		}
		if got := record.Report("apple", at(c.look)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestTheWorstOfWhatReplicasHaveSeenLatelyCounts(t *testing.T) {
	t.Parallel()
	report := func(state standing.State, since, seen float64) standing.Report {
		return standing.Report{Name: "apple", State: state, Since: at(since), At: at(seen)}
	}
	untried := standing.Report{Name: "apple", State: standing.Untried}
	for name, c := range map[string]struct {
		reports []standing.Report
		want    standing.Report
	}{
		"no replica":               {nil, untried},
		"none has tried":           {[]standing.Report{untried, untried}, untried},
		"one has tried":            {[]standing.Report{untried, report(standing.Delivering, 1, 2)}, report(standing.Delivering, 1, 2)},
		"another provider's":       {[]standing.Report{{Name: "google", State: standing.Refused, At: at(1)}}, untried},
		"a state that is unknown":  {[]standing.Report{report("dancing", 1, 2)}, untried},
		"the earliest of several":  {[]standing.Report{report(standing.Delivering, 5, 6), report(standing.Delivering, 1, 3)}, report(standing.Delivering, 1, 3)},
		"one cannot reach it":      {[]standing.Report{report(standing.Delivering, 1, 30), report(standing.Failing, 20, 29)}, report(standing.Failing, 20, 29)},
		"one is of yesterday":      {[]standing.Report{report(standing.Delivering, 1, 30), report(standing.Refused, 2, 10)}, report(standing.Delivering, 1, 30)},
		"a refusal and an outage":  {[]standing.Report{report(standing.Failing, 1, 30), report(standing.Refused, 28, 29)}, report(standing.Refused, 28, 29)},
		"all of them of yesterday": {[]standing.Report{report(standing.Refused, 1, 2), untried}, report(standing.Refused, 1, 2)},
	} {
		if got := standing.Sum("apple", c.reports); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
