package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

// logged is a tenant's option that collects all that is logged, as JSON.
func logged() (*buffer, slog.Handler) {
	logs := &buffer{}
	return logs, slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// lines are those that have been logged with this message.
func lines(t *testing.T, logs *buffer, message string) (found []map[string]any) {
	t.Helper()
	for line := range bytes.Lines([]byte(logs.String())) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("a line of the log is not JSON: %s", line)
		}
		if fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

func TestAMailThatCannotBeFetchedIsOnTheUsersTimeline(t *testing.T) {
	t.Parallel()
	logs, handler := logged()
	x := runtimetest.New(t, runtimetest.Options{Log: handler})
	x.Start(t)
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	settled(t, x)
	s := x.Exchange.Subscriptions()[0]
	x.Exchange.EndSubscriptions(alice, "") // from here on the test speaks for Exchange
	x.Exchange.OnRequest(func(operation, _ string) ewstest.Fault {
		if operation == "GetItem" {
			return ewstest.Fault{Status: http.StatusForbidden}
		}
		return ewstest.Fault{}
	})

	// More mails than are fetched in one call: each call fails, and the timeline is told once.
	var mails []string
	for n := range 60 {
		mails = append(mails, strings.Replace(mailThatIsGone, "AAMkGone=", fmt.Sprintf("AAMkMail%02d=", n), 1))
	}
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, post(s.ID, mails...)); c.Reply != "OK" {
		t.Fatalf("the post is answered %d %q: %v", c.Status, c.Reply, c.Err)
	}
	atRest(t, x)
	details := storetest.Value[[]string](t, x.Schema, `SELECT coalesce(array_agg(detail), '{}') FROM activity WHERE kind = 'mail not fetched'`)
	if len(details) != 1 || !strings.HasPrefix(details[0], "EmailFetchfailed: ") || !strings.Contains(details[0], "403") {
		t.Errorf("the timeline has %q", details)
	}
	warnings := lines(t, logs, "Mail could not be fetched")
	if len(warnings) != 2 || warnings[0]["responseCode"] != "EmailFetchfailed" {
		t.Errorf("logged is %v", warnings)
	}
}
