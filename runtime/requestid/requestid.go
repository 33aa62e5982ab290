// Package requestid gives each request an id by which its log lines (ActivityId, L-03), its calls to Exchange
// (client-request-id, E-18) and its answer (X-Request-Id) are found.
package requestid

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
)

// Header carries the id in our answers.
const Header = "X-Request-Id"

type key struct{}

// New gives ctx a fresh id.
func New(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, uuid.NewString())
}

// With gives ctx a known id, for work that outlives its request.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, key{}, id) }

// From returns the id of ctx, empty if it has none.
func From(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// Handler adds the id to every record that is logged with a context.
type Handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, record slog.Record) error {
	if id := From(ctx); id != "" {
		record.AddAttrs(slog.String("activityId", id))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h Handler) WithGroup(name string) slog.Handler { return Handler{h.Handler.WithGroup(name)} }
