// Package enslog writes the runtime's log: as JSON, or as the lines that the original wrote on premises (format ens2), so
// that searches, alerts and scripts made for them go on working (L-01 to L-22).
//
// catalogue.go has the original's messages. What is logged besides, in the words of our own, goes into the same lines
// under a logger of our own.
package enslog

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/requestid"
)

// Output is a slog.Handler whose format and level can be changed while it is used.
type Output struct {
	json, ens2 slog.Handler
	chosen     *chosen
}

// chosen is shared by all handlers that were derived from one Output.
type chosen struct {
	ens2  atomic.Bool
	level slog.LevelVar
}

// New returns an Output that writes to w, one Write a line. It logs JSON from level info until Use says otherwise.
func New(w io.Writer) *Output {
	lines := &lineWriter{w: w}
	o := &Output{chosen: &chosen{}}
	o.json = requestid.Handler{Handler: slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: &o.chosen.level})}
	o.ens2 = newHandler(lines)
	return o
}

// Use changes format and level from the next record on. What is not set is as config.Config.Effective has it.
func (o *Output) Use(c config.Logging) {
	c = c.Effective()
	o.chosen.level.Set(c.Level.Slog())
	o.chosen.ens2.Store(c.Format == config.LogENS2)
}

// Enabled implements slog.Handler.
func (o *Output) Enabled(_ context.Context, level slog.Level) bool {
	return level >= o.chosen.level.Level()
}

// Handle implements slog.Handler.
func (o *Output) Handle(ctx context.Context, record slog.Record) error {
	if o.chosen.ens2.Load() {
		return o.ens2.Handle(ctx, record)
	}
	return o.json.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (o *Output) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Output{json: o.json.WithAttrs(attrs), ens2: o.ens2.WithAttrs(attrs), chosen: o.chosen}
}

// WithGroup implements slog.Handler.
func (o *Output) WithGroup(name string) slog.Handler {
	return &Output{json: o.json.WithGroup(name), ens2: o.ens2.WithGroup(name), chosen: o.chosen}
}

// lineWriter keeps lines apart that come at the same time, also while the format changes.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(line)
}
