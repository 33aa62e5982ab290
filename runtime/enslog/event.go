package enslog

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Event is something that the original logs too: a row of the catalogue. Log logs it.
type Event struct {
	level   slog.Level
	logger  string
	opening opening
	parts   []part
	// words are what it is called in our own words, with the values as attributes.
	words string
}

// opening is how the original begins a message.
type opening int

const (
	// openingUser names the user, if one is known.
	openingUser opening = iota
	// openingNobody never does, as where the original talks to CNS.
	openingNobody
	// openingBlank leaves a blank in its place, as where the original loads its tokens.
	openingBlank
)

// part is a stretch of text and the name of the value after it, empty for none.
type part struct{ text, name string }

// userPlaceholder is the name of the value that the context knows.
const userPlaceholder = "u"

// event makes an Event. The original's message has {name} where a value stands, and {u} where the user does.
func event(level slog.Level, logger, original, words string) *Event {
	e := &Event{level: level, logger: logger, words: words}
	for rest := original; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		name := ""
		if found {
			name, after, _ = strings.Cut(after, "}")
		}
		e.parts = append(e.parts, part{text, name})
		rest = after
	}
	return e
}

// begins returns e with another opening.
func (e *Event) begins(o opening) *Event {
	with := *e
	with.opening = o
	return &with
}

// In returns e as logged by the method of the controller that serves a call, e.g. Unregister.
func (e *Event) In(method string) *Event {
	with := *e
	with.logger = controller + method
	return &with
}

// Log logs e with its values, in the order of the message. Whose event it is, the context says (requestid.Identify). It
// costs next to nothing where its level is not logged.
func (e *Event) Log(ctx context.Context, log *slog.Logger, values ...string) {
	level := e.levelIn(log.Handler())
	if !log.Enabled(ctx, level) {
		return
	}
	record := slog.NewRecord(time.Now(), level, e.words, 0)
	record.AddAttrs(slog.Any(lineKey, line{event: e, values: slices.Clone(values)}))
	for _, part := range e.parts {
		if part.name != "" && part.name != userPlaceholder && len(values) > 0 {
			record.AddAttrs(slog.String(part.name, values[0]))
			values = values[1:]
		}
	}
	_ = log.Handler().Handle(ctx, record) // there is nowhere to say that logging failed
}

// levelIn is the level at which a handler is given e. What the original tells of each mail at level info are details
// beside the one line of our own that says that it was told, so in JSON they have the level of details.
func (e *Event) levelIn(handler slog.Handler) slog.Level {
	if output, ok := handler.(*Output); ok && e.level == slog.LevelInfo && !output.chosen.ens2.Load() {
		return slog.LevelDebug
	}
	return e.level
}

// lineKey is the key of the attribute in which a line travels.
const lineKey = "ens2"

// line is an Event with its values. No other handler shows it: it is a group without members.
type line struct {
	event  *Event
	values []string
}

// LogValue implements slog.LogValuer.
func (line) LogValue() slog.Value { return slog.GroupValue() }

// appendMessage adds the original's message.
func (l line) appendMessage(b []byte, user string) []byte {
	switch l.event.opening {
	case openingUser:
		b = appendUser(b, user)
	case openingNobody:
		b = appendUser(b, "")
	case openingBlank:
		b = append(b, "User Id:[ ] "...)
	}
	values := l.values
	for _, part := range l.event.parts {
		b = append(b, part.text...)
		switch {
		case part.name == userPlaceholder:
			b = appendValue(b, user)
		case part.name != "" && len(values) > 0:
			b = appendValue(b, values[0])
			values = values[1:]
		}
	}
	return b
}
