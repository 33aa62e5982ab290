package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

// milestones are a replica's counters.
type milestones map[string]float64

func milestonesOf(t *testing.T, r *runtimetest.Replica) milestones {
	t.Helper()
	m := milestones{}
	for line := range strings.Lines(get(t, "http://"+r.Metrics+"/metrics")) {
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		m[line[:at]] = value
	}
	return m
}

// sum adds the series of a family up that have all the labels, written as name="value".
func (m milestones) sum(family string, labels ...string) (sum float64) {
series:
	for series, value := range m {
		name, rest, _ := strings.Cut(series, "{")
		if name != family {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue series
			}
		}
		sum += value
	}
	return sum
}

// unbalanced says which sums of a replica at rest do not balance, empty if all do (docs/metrics.md).
func (m milestones) unbalanced() string {
	var wrong []string
	compare := func(what string, begun, ended float64) {
		if begun != ended {
			wrong = append(wrong, fmt.Sprintf("%s: %g begun, %g ended", what, begun, ended))
		}
	}
	compare("posts", m.sum("ens_callbacks_received_total"), m.sum("ens_callback_answers_total"))
	compare("intents", m.sum("ens_journal_intents_total", `result="claimed"`), m.sum("ens_journal_claimed_total", `source="post"`))
	for _, kind := range []string{"new_mail", "badge", "resubscribe", "catch_up"} {
		label := `kind="` + kind + `"`
		compare(kind, m.sum("ens_journal_claimed_total", label), m.sum("ens_journal_released_total", label))
	}
	for _, provider := range []string{"apple", "google"} {
		label := `provider="` + provider + `"`
		compare("pushes to "+provider, m.sum("ens_pushes_begun_total", label), m.sum("ens_pushes_total", label))
	}
	return strings.Join(wrong, "; ")
}

func TestTheSumsOfTheMilestonesBalance(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{
		Clock: clock, Exchange: ewstest.Options{Compression: 0.001},
		Configure: func(c *config.Config) { c.PushProviders[0].TimeoutSeconds = 1 },
	})
	replicas := []*runtimetest.Replica{x.Start(t), x.Start(t)}
	requests := make(chan int, 1)
	requests <- 0
	x.Front.Route(func(*http.Request) string {
		n := <-requests
		requests <- n + 1
		return replicas[n%len(replicas)].Address
	})
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)

	// What can happen to a mail: it is told; it is read before it is fetched; it comes again; Apple fails for a moment;
	// a user goes; a subscription is lost; posts are forged.
	item := deliver(t, x, lunch)
	shown(t, x, iphone, 1)
	answered(t, x, item)
	for _, c := range x.Exchange.Callbacks() {
		x.Exchange.Post(runtimetest.Context(t), c.URL, c.Body)
		x.Exchange.Post(runtimetest.Context(t), strings.Replace(c.URL, "m=", "m=x", 1), c.Body)
	}
	failing := make(chan struct{}, 1)
	failing <- struct{}{}
	x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault {
		select {
		case <-failing:
			return &apnstest.Fault{Status: http.StatusInternalServerError, Reason: "InternalServerError"}
		default:
			return nil
		}
	})
	read := deliver(t, x, ewstest.Mail{FromName: "Carol"})
	if err := x.Exchange.MarkRead(read); err != nil {
		t.Fatal(err)
	}
	settled(t, x)
	unregister(t, android, 25)
	x.Exchange.EndSubscriptions(alice, "ErrorReadEventsFailed")
	settled(t, x)
	clock.Advance(10 * time.Minute)
	deliver(t, x, ewstest.Mail{FromName: "Dan"})
	runtimetest.MustRegister(t, iphone, 7)
	settled(t, x)

	runtimetest.Eventually(t, func() string { // the last counts are made after the journal's
		var wrong []string
		for i, r := range replicas {
			if w := milestonesOf(t, r).unbalanced(); w != "" {
				wrong = append(wrong, fmt.Sprintf("replica %d: %s", i+1, w))
			}
		}
		return strings.Join(wrong, "\n")
	})
	total := milestones{}
	for _, r := range replicas {
		for series, value := range milestonesOf(t, r) {
			total[series] += value
		}
	}
	for what, n := range map[string]float64{
		"mails told":         total.sum("ens_journal_released_total", `kind="new_mail"`, `outcome="told"`),
		"repeats":            total.sum("ens_journal_intents_total", `result="repeat"`),
		"gaps looked at":     total.sum("ens_journal_released_total", `kind="catch_up"`),
		"phones nudged":      total.sum("ens_journal_released_total", `kind="resubscribe"`, `outcome="told"`),
		"posts turned down":  total.sum("ens_callback_answers_total", `answer="unsubscribe"`),
		"mails of the gap":   total.sum("ens_journal_claimed_total", `source="gap"`),
		"pushes to Google":   total.sum("ens_pushes_total", `provider="google"`),
		"replicas that work": min(milestonesOf(t, replicas[0]).sum("ens_callbacks_received_total"), milestonesOf(t, replicas[1]).sum("ens_callbacks_received_total")),
	} {
		if n < 1 {
			t.Errorf("%s: none; the test shows less than it says", what)
		}
	}
}

func TestWhatIsOwedIsMeasured(t *testing.T) {
	t.Parallel()
	clock := &runtimetest.Clock{}
	x := runtimetest.New(t, runtimetest.Options{Clock: clock, Exchange: ewstest.Options{Compression: 0.001}})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	settled(t, x)
	x.Exchange.OnRequest(func(string, string) ewstest.Fault {
		return ewstest.Fault{Code: "ErrorServerBusy", BackOff: 5 * time.Minute}
	})
	deliver(t, x, lunch)
	atRest(t, x)
	measured := func(want func(owed, age float64) bool) {
		t.Helper()
		clock.Advance(time.Minute)
		runtimetest.Eventually(t, func() string {
			m := milestonesOf(t, replica)
			owed, age := m.sum("ens_journal_owed"), m.sum("ens_journal_oldest_owed_seconds")
			if !want(owed, age) {
				clock.Advance(time.Second) // the look that the minute was for may have begun before
				return fmt.Sprintf("%g rows are owed, the oldest for %g s", owed, age)
			}
			return ""
		})
	}
	measured(func(owed, age float64) bool { return owed > 0 && age > 0 })
	x.Exchange.OnRequest(nil)
	clock.Advance(6 * time.Minute)
	heartbeatUntil(t, x, func() bool { return len(alertsOf(x, phone)) > 0 })
	settled(t, x)
	measured(func(owed, age float64) bool { return owed == 0 && age == 0 })
}
