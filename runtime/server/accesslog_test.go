package server_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/push"
)

func TestEveryRequestIsInTheAccessLogWithoutItsQuery(t *testing.T) {
	t.Parallel()
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: func(c *config.Config) { c.Logging.Level = config.LogDebug }})
	x.Start(t)
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	get(t, x.Front.URL+runtimetest.BasePath+"/alive?x=in-the-query")
	response, err := http.Get(x.Front.URL + "/elsewhere?x=in-the-query")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Fatalf("a path that is not served was answered %s", response.Status)
	}
	runtimetest.Eventually(t, func() string {
		served := map[string]bool{}
		for text := range strings.Lines(logs.String()) {
			var line struct {
				Level                         slog.Level
				Msg, Method, Path, ActivityID string
				Status                        int
			}
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
			if line.Msg == "Request served" {
				if line.ActivityID == "" || line.Level != slog.LevelDebug {
					t.Fatalf("a line is without its id or level: %s", text)
				}
				served[fmt.Sprint(line.Method, " ", line.Path, " ", line.Status)] = true
			}
		}
		for _, want := range []string{
			"GET " + runtimetest.BasePath + "/alive 200", "POST " + runtimetest.BasePath + "/pushnotificationlistener 200",
			"POST " + runtimetest.BasePath + "/registerdevicev2 200", "GET /elsewhere 404",
		} {
			if !served[want] {
				return fmt.Sprintf("%s was not logged, only %v", want, served)
			}
		}
		return ""
	})
	if subscription := x.Exchange.Subscriptions()[0]; strings.Contains(logs.String(), "in-the-query") ||
		strings.Contains(logs.String(), subscription.URL[strings.Index(subscription.URL, "&f=")+3:][:20]) {
		t.Error("a query is in the log")
	}
}
