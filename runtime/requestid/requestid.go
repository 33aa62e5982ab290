// Package requestid gives each request an id by which its log lines (ActivityId, L-03), its calls to Exchange
// (client-request-id, E-18) and its answer (X-Request-Id) are found, and remembers whose request it is (L-05).
package requestid

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/google/uuid"
)

// Header carries the id in our answers.
const Header = "X-Request-Id"

type key struct{}

// request is what is known of one: the user turns out only while it is served.
type request struct {
	id   string
	user atomic.Pointer[string]
}

// New gives ctx a fresh id.
func New(ctx context.Context) context.Context { return With(ctx, uuid.NewString()) }

// With gives ctx a known id, for work that outlives its request.
func With(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, key{}, &request{id: id})
}

// From returns the id of ctx, empty if it has none.
func From(ctx context.Context) string {
	if r, ok := ctx.Value(key{}).(*request); ok {
		return r.id
	}
	return ""
}

// Identify remembers whose request it is: userID is the lower-case hex SHA-256 of the e-mail address. A context without
// an id remembers nothing.
func Identify(ctx context.Context, userID string) {
	if r, ok := ctx.Value(key{}).(*request); ok {
		r.user.Store(&userID)
	}
}

// User returns whose request it is, empty if that is not known.
func User(ctx context.Context) string {
	if r, ok := ctx.Value(key{}).(*request); ok {
		if user := r.user.Load(); user != nil {
			return *user
		}
	}
	return ""
}

// Handler adds the id and the user to every record that is logged with a context.
type Handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, record slog.Record) error {
	if id := From(ctx); id != "" {
		record.AddAttrs(slog.String("activityId", id))
	}
	if user := User(ctx); user != "" {
		record.AddAttrs(slog.String("userId", user))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h Handler) WithGroup(name string) slog.Handler { return Handler{h.Handler.WithGroup(name)} }
