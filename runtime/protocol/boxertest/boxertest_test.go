package boxertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
)

func TestThePhoneTakesNoAnswerThatTheContractDoesNotHave(t *testing.T) {
	t.Parallel()
	const good = `{"responseCode":17,"errorMessage":null,"version":"1.2.3.0","environmentType":"OnPrem"}`
	for name, test := range map[string]struct {
		body, contentType string
		// complaint is a part of the error, empty if the answer is taken.
		complaint string
	}{
		"a good one":               {body: good},
		"a further field":          {body: strings.Replace(good, `"}`, `","keyId":"x"}`, 1)},
		"a code that nobody knows": {body: strings.Replace(good, "17", "18", 1), complaint: "responseCode 18"},
		"a code that is only logged": {
			body: strings.Replace(good, "17", "21", 1), complaint: "responseCode 21"},
		"a code between two":     {body: strings.Replace(good, "17", "17.5", 1), complaint: "responseCode 17.5"},
		"a code in words":        {body: strings.Replace(good, "17", `"Success"`, 1), complaint: "not a number"},
		"another order":          {body: `{"errorMessage":null,"responseCode":17,"version":"1.2.3.0","environmentType":"OnPrem"}`, complaint: "begins with"},
		"a field too few":        {body: `{"responseCode":17,"errorMessage":null,"version":"1.2.3.0"}`, complaint: "begins with"},
		"no JSON":                {body: "404 page not found", complaint: "not JSON"},
		"another type of answer": {body: good, contentType: "application/json", complaint: "Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			phone := boxertest.Phone{BaseURL: server.URL, Address: "alice@example.com"}
			_, err := phone.Status(t.Context())
			switch {
			case test.complaint == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.complaint != "" && (err == nil || !strings.Contains(err.Error(), test.complaint)):
				t.Errorf("the error is %v, want one about %q", err, test.complaint)
			}
		})
	}
}
