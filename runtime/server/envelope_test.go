package server_test

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
)

// rawAnswer is an answer as it came.
type rawAnswer struct {
	status int
	header http.Header
	body   string
}

// call makes one of Boxer's calls as it stands.
func call(t *testing.T, x *runtimetest.Tenant, method, path string, header http.Header, body string) rawAnswer {
	t.Helper()
	request, err := http.NewRequestWithContext(runtimetest.Context(t), method, x.Front.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rawAnswer{response.StatusCode, response.Header, string(content)}
}

func TestTheEnvelopeIsExact(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environment, method, call string
		status                    int
		want                      string
	}{
		"alive": {
			method: http.MethodGet, call: "alive", status: 200,
			want: `{"responseCode":17,"errorMessage":null,"version":"1.2.3.0","environmentType":"OnPrem"}`,
		},
		"alive of a tenant of another environment": {
			environment: "Cloud", method: http.MethodGet, call: "alive", status: 200,
			want: `{"responseCode":17,"errorMessage":null,"version":"1.2.3.0","environmentType":"Cloud"}`,
		},
		"a refusal": {
			method: http.MethodPost, call: "status", status: 401,
			want: `{"responseCode":23,"errorMessage":"the API token is missing or wrong; the console's ENSAPIToken must be the tenant's token",` +
				`"version":"1.2.3.0","environmentType":"OnPrem"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Server.EnvironmentType = test.environment }})
			x.Start(t)
			got := call(t, x, test.method, runtimetest.BasePath+"/"+test.call, nil, "")
			if got.status != test.status || got.body != test.want {
				t.Errorf("answered %d\n%s\nwant %d\n%s", got.status, got.body, test.status, test.want)
			}
			if got := got.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				t.Errorf("the Content-Type is %q", got)
			}
			if got := got.header.Get("Content-Length"); got != strconv.Itoa(len(test.want)) {
				t.Errorf("the Content-Length is %q", got)
			}
		})
	}
}

func TestAnUnknownCallIsAnsweredInTheEnvelope(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	const want = `{"responseCode":32,"errorMessage":"there is no such call","version":"1.2.3.0","environmentType":"OnPrem"}`
	for name, path := range map[string]string{
		"a call of another version": "/registerdevicev3",
		"with a slash behind it":    "/RegisterDeviceV3/",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+", "+method, func(t *testing.T) {
				t.Parallel()
				if got := call(t, x, method, runtimetest.BasePath+path, nil, "{}"); got.status != http.StatusNotFound || got.body != want {
					t.Errorf("answered %d %s", got.status, got.body)
				}
			})
		}
	}
}
