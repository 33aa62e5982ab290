package fcmtest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

const phone, gone = "fcm:phone", "fcm:gone"

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// account is one service account for all tests, because making its key takes long.
var account = sync.OnceValue(func() []byte { return fcmtest.NewServiceAccountJSON(fcmtest.DefaultProject) })

// google is a fake with a client for it.
type google struct {
	*fcmtest.Server
	client *http.Client
}

func start(t *testing.T) google {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(now)
	server := fcmtest.Start(fcmtest.Options{Clock: clock, Logf: t.Logf})
	t.Cleanup(server.Close)
	if err := server.TrustServiceAccount(account()); err != nil {
		t.Fatal(err)
	}
	server.AddDevice(phone)
	server.AddDevice(gone)
	server.Unregister(gone)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()}}
	t.Cleanup(transport.CloseIdleConnections)
	return google{Server: server, client: &http.Client{Transport: transport}}
}

// claims are a valid assertion's.
func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss":   "firebase-adminsdk@" + fcmtest.DefaultProject + ".iam.gserviceaccount.com",
		"scope": "https://www.googleapis.com/auth/firebase.messaging", "aud": "https://oauth2.googleapis.com/token",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

// login signs in with an assertion and returns the status and the answer's fields.
func (g google) login(t *testing.T, content jwt.MapClaims, keyID string) (int, map[string]any) {
	t.Helper()
	var file struct {
		Key string `json:"private_key"`
		ID  string `json:"private_key_id"`
	}
	if err := json.Unmarshal(account(), &file); err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(file.Key))
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, content)
	token.Header["kid"] = file.ID + keyID
	assertion, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	response, err := g.client.PostForm(g.TokenURL(), url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func TestALoginIsChecked(t *testing.T) {
	t.Parallel()
	with := func(name string, value any) jwt.MapClaims {
		content := claims()
		content[name] = value
		return content
	}
	tests := map[string]struct {
		content jwt.MapClaims
		keyID   string
		status  int
	}{
		"a valid one":                {claims(), "", 200},
		"another key":                {claims(), "x", 400},
		"another account":            {with("iss", "a@b"), "", 400},
		"another audience":           {with("aud", "https://evil.example/token"), "", 400},
		"another scope":              {with("scope", "https://www.googleapis.com/auth/cloud-platform"), "", 400},
		"from the future":            {with("iat", now.Add(time.Minute).Unix()), "", 400},
		"over":                       {with("exp", now.Unix()), "", 400},
		"for longer than an hour":    {with("exp", now.Add(2*time.Hour).Unix()), "", 400},
		"without an end":             {with("exp", nil), "", 400},
		"with a scope more is a yes": {with("scope", "email https://www.googleapis.com/auth/firebase.messaging"), "", 200},
	}
	g := start(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := g.login(t, test.content, test.keyID)
			if status != test.status {
				t.Errorf("status = %d %v, want %d", status, answer, test.status)
			}
			if status == 400 && answer["error"] != "invalid_grant" {
				t.Errorf("answer = %v, want invalid_grant", answer)
			}
		})
	}
}

// said is an error document.
type said struct {
	Error struct {
		Code    int    `json:"code"`
		Status  string `json:"status"`
		Details []struct {
			Type string `json:"@type"`
			Code string `json:"errorCode"`
		} `json:"details"`
	} `json:"error"`
}

func TestAMessageIsChecked(t *testing.T) {
	t.Parallel()
	message := func(content string) string { return `{"message":{"token":"` + phone + `",` + content + `}}` }
	tests := map[string]struct {
		body         string
		path, bearer string
		status       int
		code         string
	}{
		"a valid one":            {body: message(`"data":{"title":"Ada"},"android":{"priority":"high","ttl":"86400s","collapse_key":"x"}`), status: 200},
		"a part of a second":     {body: message(`"android":{"ttl":"3.5s"}`), status: 200},
		"not JSON":               {body: "{", status: 400, code: "INVALID_ARGUMENT"},
		"nothing":                {body: "{}", status: 400, code: "INVALID_ARGUMENT"},
		"two documents":          {body: message(`"data":{}`) + "{}", status: 400, code: "INVALID_ARGUMENT"},
		"an unknown field":       {body: message(`"dta":{}`), status: 400, code: "INVALID_ARGUMENT"},
		"data that is a number":  {body: message(`"data":{"unread":3}`), status: 400, code: "INVALID_ARGUMENT"},
		"a reserved key":         {body: message(`"data":{"google.x":"y"}`), status: 400, code: "INVALID_ARGUMENT"},
		"large data":             {body: message(`"data":{"x":"` + strings.Repeat("x", 4096) + `"}`), status: 400, code: "INVALID_ARGUMENT"},
		"a very large body":      {body: message(`"data":{"x":"` + strings.Repeat("x", 100_000) + `"}`), status: 413},
		"two targets":            {body: message(`"topic":"news"`), status: 400, code: "INVALID_ARGUMENT"},
		"no target":              {body: `{"message":{"data":{}}}`, status: 400, code: "INVALID_ARGUMENT"},
		"another priority":       {body: message(`"android":{"priority":"urgent"}`), status: 400, code: "INVALID_ARGUMENT"},
		"a ttl without unit":     {body: message(`"android":{"ttl":"60"}`), status: 400, code: "INVALID_ARGUMENT"},
		"a ttl of a month":       {body: message(`"android":{"ttl":"2592000s"}`), status: 400, code: "INVALID_ARGUMENT"},
		"an unknown phone":       {body: `{"message":{"token":"fcm:none"}}`, status: 400, code: "INVALID_ARGUMENT"},
		"a phone that is gone":   {body: `{"message":{"token":"` + gone + `"}}`, status: 404, code: "UNREGISTERED"},
		"another project":        {body: message(`"data":{}`), path: "/v1/projects/other-project/messages:send", status: 403},
		"another method":         {body: message(`"data":{}`), path: "/v1/projects/" + fcmtest.DefaultProject + "/messages:burn", status: 404},
		"another access token":   {body: message(`"data":{}`), bearer: "ya29.none", status: 401},
		"a valid one once again": {body: message(`"data":{}`), status: 200},
	}
	g := start(t)
	_, login := g.login(t, claims(), "")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.path == "" {
				test.path = "/v1/projects/" + fcmtest.DefaultProject + "/messages:send"
			}
			if test.bearer == "" {
				test.bearer, _ = login["access_token"].(string)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL()+test.path, bytes.NewBufferString(test.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+test.bearer)
			response, err := g.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status {
				t.Fatalf("answer = %d %s, want %d", response.StatusCode, body, test.status)
			}
			checkCode(t, body, test.status, test.code)
		})
	}
}

// checkCode fails unless an error document names its status and, if code is given, FCM's own code first.
func checkCode(t *testing.T, body []byte, status int, code string) {
	t.Helper()
	if status == http.StatusOK {
		return
	}
	var document said
	if err := json.Unmarshal(body, &document); err != nil || document.Error.Code != status || document.Error.Status == "" {
		t.Errorf("no error document: %s", body)
	}
	if code == "" {
		return
	}
	details := document.Error.Details
	if len(details) == 0 || details[0].Type != "type.googleapis.com/google.firebase.fcm.v1.FcmError" || details[0].Code != code {
		t.Errorf("details = %+v, want %s first", details, code)
	}
}
