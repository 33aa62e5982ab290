// Package tracing starts spans. Whether there are traces at all only the span in the context knows, which is the server's:
// without one nothing is recorded, at next to no cost.
//
// A span says what was done for whom, where and how it ended. It never holds an address, a credential, mail content, the
// text of an error or a URL with a query.
package tracing

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope is who made the spans.
const scope = "github.com/ens-operator/ens-operator/runtime"

// The attributes of spans.
const (
	// ActivityID is the id of runtime/requestid, by which the log is searched.
	ActivityID = attribute.Key("ens.activity_id")
	// User is the SHA-256 of the e-mail address.
	User = attribute.Key("ens.user")
	// Outcome is how it ended: a response code, the answer to Exchange, a push's outcome; else ok or failed.
	Outcome = attribute.Key("ens.outcome")
	// Operation is EWS's name of what Exchange was asked, Endpoint the EwsEndpoint.
	Operation = attribute.Key("ens.operation")
	Endpoint  = attribute.Key("ens.endpoint")
	// Provider is the PushProvider, Device the small number of a device.
	Provider = attribute.Key("ens.provider")
	Device   = attribute.Key("ens.device")
	// Count is how many things it was about.
	Count = attribute.Key("ens.count")
)

// Start begins a span below the one of ctx. The caller ends it.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	return start(ctx, name, trace.SpanKindInternal, attributes)
}

// StartCall is Start for a call to another server.
func StartCall(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	return start(ctx, name, trace.SpanKindClient, attributes)
}

func start(ctx context.Context, name string, kind trace.SpanKind, attributes []attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsSampled() {
		return ctx, noop.Span{}
	}
	return parent.TracerProvider().Tracer(scope).Start(ctx, name,
		trace.WithSpanKind(kind), trace.WithAttributes(slices.Clone(attributes)...))
}

// StartRoot begins the span of a request, whatever ctx comes from.
func StartRoot(ctx context.Context, provider trace.TracerProvider, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	return provider.Tracer(scope).Start(ctx, name,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
}

// End ends a span with outcome ok, or failed if there is an error, whose text is the log's.
func End(span trace.Span, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
		span.SetStatus(codes.Error, "")
	}
	EndAs(span, outcome)
}

// EndAs ends a span with an outcome of its own.
func EndAs(span trace.Span, outcome string) {
	if span.IsRecording() {
		span.SetAttributes(Outcome.String(outcome))
	}
	span.End()
}

// Conclude says how the request ended whose span is in ctx.
func Conclude(ctx context.Context, outcome string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(Outcome.String(outcome))
	}
}
