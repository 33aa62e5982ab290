package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// collector takes traces in OTLP over HTTP, and refuses what is anything else.
type collector struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*tracepb.Span
	raw     bytes.Buffer
	headers []http.Header
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/v1/traces" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("the collector was sent %s %s of type %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		var message coltracepb.ExportTraceServiceRequest
		unzipped, err := gzip.NewReader(r.Body)
		var content []byte
		if err == nil {
			content, err = io.ReadAll(unzipped)
		}
		if err == nil {
			err = proto.Unmarshal(content, &message)
		}
		if err != nil {
			t.Errorf("the collector cannot read what it was sent: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(content)
		c.headers = append(c.headers, r.Header)
		for _, resource := range message.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// traced has everything traced and sent to an address with the collector's certificate.
func traced(t *testing.T, c *collector, x *runtimetest.Tenant) {
	t.Helper()
	x.Write(t, filepath.Join(config.TracingFolder, config.CABundleFile),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}))
	x.Config.Tracing = &config.Tracing{Endpoint: c.URL, SamplePerMille: 1000, CABundle: true}
	x.WriteConfig(t)
}

// all returns the spans that have come.
func (c *collector) all() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// tree is a span with what is below it, in the order of their beginnings: name[attributes](children).
func tree(spans []*tracepb.Span, root *tracepb.Span) string {
	var b strings.Builder
	b.WriteString(root.Name)
	for _, attribute := range root.Attributes {
		switch attribute.Key {
		case "ens.operation", "ens.provider", "ens.outcome", "ens.endpoint":
			b.WriteString(" " + attribute.Value.GetStringValue())
		}
	}
	var below []string
	slices.SortStableFunc(spans, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	for _, span := range spans {
		if bytes.Equal(span.ParentSpanId, root.SpanId) {
			below = append(below, tree(spans, span))
		}
	}
	if len(below) > 0 {
		b.WriteString("(" + strings.Join(below, ", ") + ")")
	}
	return b.String()
}

// beat has Exchange post so many heartbeats, one after the other.
func beat(t *testing.T, x *runtimetest.Tenant, times int) {
	t.Helper()
	for range times {
		before := len(x.Exchange.Callbacks())
		x.Exchange.Heartbeat(alice)
		_, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Number > before && c.Reply == "OK" })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// roots are the traces as trees, and the names of all spans.
func roots(spans []*tracepb.Span) (trees []string, names map[string]bool) {
	names = map[string]bool{}
	for _, span := range spans {
		names[span.Name] = true
		if len(span.ParentSpanId) == 0 {
			trees = append(trees, tree(spans, span))
		}
	}
	return trees, names
}

func TestAMailIsOneTraceWithoutASecret(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	x := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Calm: true}})
	traced(t, c, x)
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	phone.WithEmail = true
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	deliver(t, x, lunch)
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	// Google's libraries can trace by themselves.
	waitFresh(t, phone)
	android := x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, android, 6)
	deliver(t, x, lunch)
	if _, err := x.FCM.Wait(runtimetest.Context(t), android.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	const heartbeats = 5
	beat(t, x, heartbeats)
	webhook := x.Exchange.Subscriptions()[0].URL
	if err := replica.Stop(); err != nil { // which sends what is still to be sent
		t.Fatal(err)
	}

	spans := c.all()
	trees, names := roots(spans)
	for _, want := range []string{
		"getpublickey UpdateSuccess",
		"registerdevicev2 UserSubscribed(EWS GetFolder mail ok, EWS GetFolder mail ok, EWS Subscribe mail ok, work)",
		"pushnotificationlistener OK(journal write ok, work(EWS GetItem mail ok, push apple accepted, journal complete ok))",
	} {
		if !slices.Contains(trees, want) {
			t.Errorf("there is no trace\n%s\namong\n%s", want, strings.Join(trees, "\n"))
		}
	}
	// Nothing is to be done after the answer to a heartbeat, unless it finds the user being worked on.
	if n := len(slices.DeleteFunc(trees, func(t string) bool { return t != "pushnotificationlistener OK(work)" })); n >= heartbeats {
		t.Errorf("%d heartbeats made work", n)
	}
	var activities int
	for _, span := range spans {
		for _, attribute := range span.Attributes {
			if attribute.Key == "ens.user" && attribute.Value.GetStringValue() != phone.UserID() {
				t.Errorf("the user is %s", attribute.Value)
			}
			if attribute.Key == "ens.activity_id" {
				activities++
			}
		}
	}
	for name := range names {
		if !slices.Contains([]string{"getpublickey", "registerdevicev2", "status", "pushnotificationlistener", "journal write", "journal complete", "work", "EWS", "push"}, name) {
			t.Errorf("there are spans that nobody knows of: %s", name)
		}
	}
	if activities < 3 {
		t.Errorf("%d spans have an activity id", activities)
	}
	_, query, _ := strings.Cut(webhook, "?")
	for name, secret := range map[string]string{
		"the password": phone.Password, "the e-mail address": alice, "the subject": lunch.Subject, "the sender": lunch.FromName,
		"the API token": x.APIToken, "the webhook's query": query, "the device token": phone.DeviceToken, "the Android phone's token": android.DeviceToken, "a URL": "https://",
	} {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
			if bytes.Contains(c.raw.Bytes(), []byte(form)) {
				t.Errorf("%s stands in a trace", name)
			}
		}
	}
}

// Not parallel: it sets the environment, which must have no say.
func TestTracesAreOffUnlessTheConfigurationSaysOtherwise(t *testing.T) {
	stray, c := newCollector(t), newCollector(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": stray.URL, "OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_TRACES_SAMPLER": "always_off",
		"OTEL_EXPORTER_OTLP_HEADERS": "x-stray=1", "OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
		"HTTPS_PROXY": stray.URL, "HTTP_PROXY": stray.URL, "OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_SDK_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	if n := len(c.all()) + len(stray.all()); n > 0 {
		t.Fatalf("%d spans were sent although nobody asked for them", n)
	}

	traced(t, c, x)
	runtimetest.Eventually(t, func() string { // spans are sent some seconds after they end
		if _, err := phone.Status(t.Context()); err != nil {
			return err.Error()
		}
		if len(c.all()) == 0 {
			return "no traces come after the configuration has been changed"
		}
		return ""
	})
	if err := replica.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(stray.all()); n > 0 {
		t.Errorf("%d spans went where the environment says", n)
	}
	if c.headers[0].Get("X-Stray") != "" {
		t.Error("a header was taken from the environment")
	}
}

func TestACollectorThatDoesNotAnswerDelaysNothing(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	asked := make(chan struct{}, 64)
	hung := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hold
	}))
	t.Cleanup(hung.Close)
	t.Cleanup(func() { close(hold) })
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: func(c *config.Config) {
		c.Tracing = &config.Tracing{Endpoint: hung.URL, SamplePerMille: 1000}
	}})
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	<-asked // from now on the collector holds whoever waits for it
	for told := range 3 {
		deliver(t, x, lunch)
		if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, told+1); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if err := replica.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
}
