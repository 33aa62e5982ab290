package apnstest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
)

const topic = "com.example.mail"

var (
	phone  = strings.Repeat("ab", 32)
	gone   = strings.Repeat("cd", 32)
	now    = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	diedAt = time.UnixMilli(1_795_000_000_123)
)

// start starts a calm fake with two phones, whose clock stands at now.
func start(t *testing.T) (*apnstest.Server, apnstest.Key, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(now)
	server := apnstest.Start(apnstest.Options{Calm: true, Clock: clock, Logf: t.Logf})
	t.Cleanup(server.Close)
	server.AddDevice(phone, topic)
	server.AddDevice(gone, topic)
	server.Unregister(gone, diedAt)
	return server, server.NewKey(), clock
}

// bearer signs a provider token.
func bearer(t *testing.T, key apnstest.Key, issuer string, issued time.Time) string {
	t.Helper()
	private, err := jwt.ParseECPrivateKeyFromPEM(key.P8)
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": issuer, "iat": issued.Unix()})
	token.Header["kid"] = key.KeyID
	text, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return "bearer " + text
}

// dial makes one connection.
func dial(t *testing.T, server *apnstest.Server) *http.ClientConn {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()}, Protocols: protocols}
	conn, err := transport.NewClientConn(t.Context(), "https", strings.TrimPrefix(server.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answer is what the server said.
type answer struct {
	status    int
	Reason    string `json:"reason"`
	Timestamp int64  `json:"timestamp"`
	id        string
}

// request is a valid push of a mail.
func request(t *testing.T, server *apnstest.Server, authorization string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL()+"/3/device/"+phone, nil)
	if err != nil {
		t.Fatal(err)
	}
	setBody(r, `{"aps":{"alert":{"title":"Ada"},"badge":1}}`)
	r.Header = http.Header{
		"Authorization": {authorization}, "Apns-Topic": {topic}, "Apns-Push-Type": {"alert"}, "Apns-Priority": {"10"},
		"Apns-Expiration": {"0"}, "Apns-Collapse-Id": {"mail-1"},
	}
	return r
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

func send(t *testing.T, conn *http.ClientConn, r *http.Request) answer {
	t.Helper()
	response, err := conn.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{status: response.StatusCode, id: response.Header.Get("Apns-Id")}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestWhatAppleRefusesIsRefused(t *testing.T) {
	t.Parallel()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	body := func(text string) func(*http.Request) { return func(r *http.Request) { setBody(r, text) } }
	path := func(path string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = path } }
	both := func(changes ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			for _, change := range changes {
				change(r)
			}
		}
	}
	background := both(header("Apns-Push-Type", "background"), header("Apns-Priority", "5"))
	const silent = `{"aps":{"content-available":1}}`
	tests := map[string]struct {
		change func(*http.Request)
		status int
		reason string
	}{
		"nothing, if all is right":       {func(*http.Request) {}, 200, ""},
		"nothing, if it is a badge":      {both(body(`{"aps":{"badge":0}}`), header("Apns-Priority", "5")), 200, ""},
		"nothing, if it is background":   {both(background, body(silent)), 200, ""},
		"GET":                            {func(r *http.Request) { r.Method = http.MethodGet }, 405, "MethodNotAllowed"},
		"another path":                   {path("/2/device/" + phone), 404, "BadPath"},
		"no device token":                {path("/3/device/"), 400, "MissingDeviceToken"},
		"a device token that is not hex": {path("/3/device/" + strings.Repeat("zz", 32)), 400, "BadDeviceToken"},
		"a short device token":           {path("/3/device/abcd"), 400, "BadDeviceToken"},
		"an unknown device":              {path("/3/device/" + strings.Repeat("ef", 32)), 400, "BadDeviceToken"},
		"a device that is gone":          {path("/3/device/" + gone), 410, "Unregistered"},
		"no provider token":              {func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingProviderToken"},
		"another scheme":                 {header("Authorization", "Basic dTpw"), 403, "MissingProviderToken"},
		"a provider token of nobody":     {header("Authorization", "bearer a.b.c"), 403, "InvalidProviderToken"},
		"no topic":                       {func(r *http.Request) { r.Header.Del("Apns-Topic") }, 400, "MissingTopic"},
		"an unknown topic":               {header("Apns-Topic", "com.example.none"), 400, "TopicDisallowed"},
		"another app's topic":            {header("Apns-Topic", "com.example.other"), 400, "DeviceTokenNotForTopic"},
		"no push type":                   {func(r *http.Request) { r.Header.Del("Apns-Push-Type") }, 400, "InvalidPushType"},
		"another push type":              {header("Apns-Push-Type", "loud"), 400, "InvalidPushType"},
		"priority 7":                     {header("Apns-Priority", "7"), 400, "BadPriority"},
		"background at once":             {both(background, header("Apns-Priority", "10"), body(silent)), 400, "BadPriority"},
		"background with an alert":       {background, 400, "InvalidPushType"},
		"alert without anything":         {body(silent), 400, "InvalidPushType"},
		"an expiration that is a date":   {header("Apns-Expiration", "tomorrow"), 400, "BadExpirationDate"},
		"a long collapse id":             {header("Apns-Collapse-Id", strings.Repeat("x", 65)), 400, "BadCollapseId"},
		"a message id that is none":      {header("Apns-Id", "1"), 400, "BadMessageId"},
		"a header twice":                 {func(r *http.Request) { r.Header.Add("Apns-Topic", topic) }, 400, "DuplicateHeaders"},
		"no payload":                     {body(""), 400, "PayloadEmpty"},
		"a payload that is not JSON":     {body("{"), 400, "PayloadEmpty"},
		"a payload without aps":          {body(`{"ens":{}}`), 400, "PayloadEmpty"},
		"a misspelled field":             {body(`{"aps":{"alert":{"titel":"Ada"}}}`), 400, "PayloadEmpty"},
		"a large payload":                {body(`{"aps":{"badge":1},"x":"` + strings.Repeat("x", 4096) + `"}`), 413, "PayloadTooLarge"},
		"a huge payload":                 {body(`{"aps":{"badge":1},"x":"` + strings.Repeat("x", 200_000) + `"}`), 413, "PayloadTooLarge"},
	}
	server, key, _ := start(t)
	server.AddDevice(strings.Repeat("01", 32), "com.example.other")
	authorization := bearer(t, key, key.TeamID, now)
	conn := dial(t, server)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(t, server, authorization)
			test.change(r)
			got := send(t, conn, r)
			if got.status != test.status || got.Reason != test.reason {
				t.Errorf("answer = %d %s, want %d %s", got.status, got.Reason, test.status, test.reason)
			}
			if got.status == 410 && got.Timestamp != diedAt.UnixMilli() {
				t.Errorf("timestamp = %d, want %d", got.Timestamp, diedAt.UnixMilli())
			}
			if got.status == 200 && got.id == "" {
				t.Error("no apns-id")
			}
		})
	}
}

func TestProviderTokensAreJudgedByAge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		issued time.Duration
		issuer string
		reason string
	}{
		"issued now":               {0, "", ""},
		"an hour old":              {-time.Hour, "", ""},
		"older than an hour":       {-time.Hour - time.Second, "", "ExpiredProviderToken"},
		"from the future":          {time.Second, "", "InvalidProviderToken"},
		"of a team not the key's ": {0, "OTHERTEAM1", "InvalidProviderToken"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, key, _ := start(t)
			if test.issuer == "" {
				test.issuer = key.TeamID
			}
			got := send(t, dial(t, server), request(t, server, bearer(t, key, test.issuer, now.Add(test.issued))))
			if got.Reason != test.reason {
				t.Errorf("answer = %d %s, want %q", got.status, got.Reason, test.reason)
			}
		})
	}
}

func TestAProviderTokenThatChangesTooSoonMakesTheConnectionUnusable(t *testing.T) {
	t.Parallel()
	server, key, clock := start(t)
	first, second := bearer(t, key, key.TeamID, now), bearer(t, key, key.TeamID, now.Add(-time.Minute))
	conn, other := dial(t, server), dial(t, server)
	expect := func(what string, conn *http.ClientConn, authorization, reason string) {
		t.Helper()
		if got := send(t, conn, request(t, server, authorization)); got.Reason != reason {
			t.Errorf("%s: answer = %d %s, want %q", what, got.status, got.Reason, reason)
		}
	}
	expect("the first token", conn, first, "")
	expect("another one at once", conn, second, "TooManyProviderTokenUpdates")
	expect("the first one there", conn, first, "TooManyProviderTokenUpdates")
	expect("the first one elsewhere", other, first, "")
	clock.Step(20 * time.Minute)
	expect("another one after 20 minutes", other, second, "")
}

func TestTheNumberOfStreamsGoesUpWithAValidPushAndDownWithARefusal(t *testing.T) {
	t.Parallel()
	server, key, _ := start(t)
	conn := dial(t, server)
	good := bearer(t, key, key.TeamID, now)
	steps := []struct {
		what          string
		authorization string
		streams       int
	}{
		{"a push that is refused", "bearer none", 1}, {"a valid push", good, 100}, {"a refused one", "bearer none", 1}, {"a valid one", good, 100},
	}
	for _, step := range steps {
		send(t, conn, request(t, server, step.authorization))
		// A calm server sends the SETTINGS before the answer. The stream of the push itself may not be free yet.
		if got := conn.Available() + conn.InFlight(); got != step.streams {
			t.Errorf("after %s: %d streams, want %d", step.what, got, step.streams)
		}
	}
}

func TestAClientThatIgnoresTheNumberOfStreamsIsRefused(t *testing.T) {
	t.Parallel()
	server, _, _ := start(t)
	server.OnRequest(func(apnstest.Request) *apnstest.Fault { return &apnstest.Fault{Hang: true} })
	raw, err := (&tls.Dialer{Config: &tls.Config{RootCAs: server.RootCAs(), NextProtos: []string{"h2"}}}).
		DialContext(t.Context(), "tcp", strings.TrimPrefix(server.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if _, err := io.WriteString(raw, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(raw, raw)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if got := readUntil[*http2.SettingsFrame](t, framer); !granted(got, 1) {
		t.Errorf("the first SETTINGS do not grant one stream: %v", got)
	}
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for name, value := range map[string]string{":method": "POST", ":scheme": "https", ":path": "/3/device/" + phone, ":authority": "apple"} {
		_ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	for _, id := range []uint32{1, 3} {
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := readUntil[*http2.RSTStreamFrame](t, framer); got.StreamID != 3 || got.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("got %v, want the second stream refused", got)
	}
	if stats := server.Stats(); stats.RefusedStreams != 1 {
		t.Errorf("stats = %+v, want one refused stream", stats)
	}
}

// readUntil reads frames until one of a type comes.
func readUntil[T http2.Frame](t *testing.T, framer *http2.Framer) T {
	t.Helper()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if wanted, ok := frame.(T); ok {
			return wanted
		}
	}
}

func granted(settings *http2.SettingsFrame, streams uint32) bool {
	value, ok := settings.Value(http2.SettingMaxConcurrentStreams)
	return ok && value == streams
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server, _, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := server.Wait(ctx, phone, 1); err == nil {
		t.Error("no error although nothing has come")
	}
}

func TestTheSameSeedBehavesTheSame(t *testing.T) {
	t.Parallel()
	streams := func(seed uint64) int {
		server := apnstest.Start(apnstest.Options{Seed: seed, Logf: t.Logf})
		defer server.Close()
		server.AddDevice(phone, topic)
		key := server.NewKey()
		conn := dial(t, server)
		raised := make(chan struct{}, 1)
		conn.SetStateHook(func(conn *http.ClientConn) {
			if conn.Available() > 1 {
				select {
				case raised <- struct{}{}:
				default:
				}
			}
		})
		send(t, conn, request(t, server, bearer(t, key, key.TeamID, time.Now())))
		<-raised
		return conn.Available() + conn.InFlight()
	}
	if a, b := streams(7), streams(7); a != b {
		t.Errorf("%d and %d streams with the same seed", a, b)
	}
	if a, b := streams(7), streams(8); a == b {
		t.Errorf("%d streams with another seed too", a)
	}
}
