package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/egress"
	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/tracing"
)

// The bounds of what waits for the collector. What is beyond them is dropped: traces are worth less than mail.
const (
	// spanQueue is half a megabyte or so, and some seconds of a busy replica.
	spanQueue = 2048
	spanBatch = 512
	// spanDelay is how long a span waits for others to be sent with.
	spanDelay = 5 * time.Second
	// exportTimeout bounds one batch with its retries, and requestTimeout one request.
	exportTimeout  = 10 * time.Second
	requestTimeout = 5 * time.Second
	firstRetry     = time.Second
	// flushTimeout bounds what a stopping server waits for the collector.
	flushTimeout = 2 * time.Second
	// maxCollectorAnswer is more than any answer has to say.
	maxCollectorAnswer = 64 << 10
	// exportFailureLogged is how often at most it is logged that the collector fails.
	exportFailureLogged = time.Minute
	// maxSpanText and the others bound one span.
	maxSpanText       = 256
	maxSpanAttributes = 16
	maxSpanEvents     = 4
	maxSpanLinks      = 32
	perMille          = 1000
)

// tracer makes the traces of one configuration; nil makes none.
type tracer struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
}

// newTracer returns the tracer that a configuration wants, nil if it wants none. It connects with the first span. Nothing
// is taken from the environment but what the resource's attributes are to hold (OTEL_RESOURCE_ATTRIBUTES).
func newTracer(loaded *config.Loaded, o Options, instance string) (*tracer, error) {
	c := loaded.Config.Tracing
	if c == nil {
		return nil, nil //nolint:nilnil // no tracer makes no traces
	}
	dial := o.DialContext
	if dial == nil {
		dial = egress.Guard{AllowLoopback: loaded.Config.AllowLoopback}.DialContext
	}
	e, err := newExporter(*c, loaded, dial, o.Logger)
	if err != nil {
		return nil, err
	}
	t := loaded.Config.Tenant
	return &tracer{exporter: e, provider: sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(c.SamplePerMille)/perMille))),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: maxSpanText, AttributeCountLimit: maxSpanAttributes, EventCountLimit: maxSpanEvents,
			LinkCountLimit: maxSpanLinks, AttributePerEventCountLimit: maxSpanAttributes, AttributePerLinkCountLimit: maxSpanAttributes,
		}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "ens-runtime"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", instance), attribute.String("ens.tenant", t.Namespace+"/"+t.Name),
		)),
		sdktrace.WithBatcher(e, sdktrace.WithMaxQueueSize(spanQueue), sdktrace.WithMaxExportBatchSize(spanBatch),
			sdktrace.WithBatchTimeout(spanDelay), sdktrace.WithExportTimeout(exportTimeout)),
	)}, nil
}

// close sends what is still to be sent, for as long as flushTimeout allows.
func (t *tracer) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was not sent has been logged
	t.exporter.end()
	t.exporter.transport.CloseIdleConnections()
}

// exporter sends spans to the collector. A failure is logged here and goes no further: the SDK would print it past our log.
type exporter struct {
	sdktrace.SpanExporter
	transport *http.Transport
	log       *slog.Logger
	lifetime  context.Context //nolint:containedctx // ends a request that is under way when the server stops
	end       context.CancelFunc

	mu     sync.Mutex
	logged time.Time
}

func newExporter(c config.Tracing, loaded *config.Loaded, dial func(context.Context, string, string) (net.Conn, error), log *slog.Logger) (*exporter, error) {
	transport := &http.Transport{ // without a proxy
		DialContext:            dial,
		TLSClientConfig:        egress.TLSConfig(egress.Verification{Roots: loaded.TracingCAs}),
		TLSHandshakeTimeout:    requestTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxIdleConns:           1,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true,
	}
	// Every option that the environment could set is set here.
	options := []otlptracehttp.Option{
		otlptracehttp.WithHTTPClient(&http.Client{
			Transport: transport, Timeout: requestTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		otlptracehttp.WithEndpointURL(c.URL()),
		otlptracehttp.WithTLSClientConfig(nil),
		otlptracehttp.WithHeaders(nil),
		otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(requestTimeout),
		otlptracehttp.WithMaxResponseSize(maxCollectorAnswer),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: firstRetry, MaxInterval: requestTimeout, MaxElapsedTime: exportTimeout,
		}),
	}
	sender, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return nil, err
	}
	lifetime, end := context.WithCancel(context.Background())
	return &exporter{SpanExporter: sender, transport: transport, log: log, lifetime: lifetime, end: end}, nil
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.lifetime, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.failed(err, len(spans))
	}
	return nil
}

// failed logs that the collector did not take spans, now and then.
func (e *exporter) failed(err error, spans int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.Sub(e.logged) < exportFailureLogged {
		return
	}
	e.logged = now
	text := err.Error()
	if len(text) > maxSpanText { // it may hold the collector's whole answer
		text = text[:maxSpanText]
	}
	e.log.Warn("The collector of traces did not take them; they are lost", "spans", spans, "error", text)
}

// trace begins the span of a request, if there are traces. The returned function ends it.
func (s *Server) trace(r *http.Request, name string) (*http.Request, func()) {
	t := s.tracer.Load()
	if t == nil {
		return r, func() {}
	}
	ctx, span := tracing.StartRoot(r.Context(), t.provider, name, tracing.ActivityID.String(requestid.From(r.Context())))
	return r.WithContext(ctx), func() {
		if user := requestid.User(ctx); user != "" {
			span.SetAttributes(tracing.User.String(user))
		}
		span.End()
	}
}
