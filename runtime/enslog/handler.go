package enslog

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/ens-operator/ens-operator/runtime/requestid"
)

const (
	// dateLayout is yyyy/MM/dd HH:mm:ss.fff, in UTC (L-02).
	dateLayout = "2006/01/02 15:04:05.000"
	// noActivity stands where a line belongs to no request, as .NET writes an empty GUID.
	noActivity = "00000000-0000-0000-0000-000000000000"
	// unexplained is in every sample of the original; no document says what it means.
	unexplained = "[0000000-0000000]"
	// ownLogger is the logger of what the original did not log.
	ownLogger = "EnsOperator.Runtime"
	// usualLine is what most lines are shorter than, in bytes.
	usualLine = 512
)

// handler writes the original's layout (L-01): date, machine, activity id, a field of zeros, thread, level, logger and
// message, with a tab between them.
type handler struct {
	w io.Writer
	// fixed is what stands between activity id and level. Go does not number what runs; the process's id stands for the
	// thread's.
	machine, fixed string
	// attributes are those that were added for good, as text; group is the prefix of those to come.
	attributes, group string
}

func newHandler(w io.Writer) *handler {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return &handler{
		w: w, machine: string(appendClean(nil, cmp.Or(name, "unknown"))),
		fixed: "\t" + unexplained + "\t(" + strconv.Itoa(os.Getpid()) + ")\t",
	}
}

// Enabled implements slog.Handler. Output has decided already.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler. Whatever a record holds, it becomes one line.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	b := make([]byte, 0, usualLine)
	b = record.Time.UTC().AppendFormat(b, dateLayout)
	b = append(b, '\t')
	b = append(b, h.machine...)
	b = append(b, '\t')
	b = appendValue(b, cmp.Or(requestid.From(ctx), noActivity))
	b = append(b, h.fixed...)
	b = append(b, levelName(record.Level)...)
	b = append(b, '\t')
	user := requestid.User(ctx)
	if original, found := lineOf(record); found {
		b = append(b, original.event.logger...)
		b = append(b, '\t')
		b = original.appendMessage(b, user)
	} else {
		b = append(b, ownLogger...)
		b = append(b, '\t')
		b = appendUser(b, user)
		b = appendClean(b, record.Message)
		b = append(b, h.attributes...)
		record.Attrs(func(attr slog.Attr) bool {
			b = appendAttribute(b, h.group, attr)
			return true
		})
	}
	_, err := h.w.Write(append(b, '\n'))
	return err
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with, b := *h, []byte(h.attributes)
	for _, attr := range attrs {
		b = appendAttribute(b, h.group, attr)
	}
	with.attributes = string(b)
	return &with
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	if name != "" {
		with.group += name + "."
	}
	return &with
}

// levelName is the original's name of a level (L-06).
func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "Debug"
	case level < slog.LevelWarn:
		return "Info"
	case level < slog.LevelError:
		return "Warn"
	default:
		return "Error"
	}
}

// appendUser begins a message with whose it is (L-05), with the blanks of the original.
func appendUser(b []byte, user string) []byte {
	if user == "" {
		return append(b, "User Id:[no-user-id]    "...)
	}
	b = append(b, "User Id:["...)
	b = appendValue(b, user)
	return append(b, "]  "...)
}

// appendAttribute adds ` key=[value]`, a group's members one by one, and nothing for an error that there is not.
func appendAttribute(b []byte, group string, attr slog.Attr) []byte {
	value := attr.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if attr.Key != "" {
			group += attr.Key + "."
		}
		for _, member := range value.Group() {
			b = appendAttribute(b, group, member)
		}
		return b
	}
	if attr.Key == "" || value.Kind() == slog.KindAny && value.Any() == nil {
		return b
	}
	b = append(b, ' ')
	b = appendClean(b, group+attr.Key)
	b = append(b, "=["...)
	b = appendValue(b, value.String())
	return append(b, ']')
}

// appendClean adds text in which nothing ends the line, begins another column or turns the direction of reading: all that
// is not printable is written as in a Go string.
func appendClean(b []byte, text string) []byte {
	for i, r := range text {
		switch {
		case r == utf8.RuneError: // as it is not known what it was, nor how long
			b = utf8.AppendRune(b, r)
		case unicode.IsPrint(r):
			b = append(b, text[i:i+utf8.RuneLen(r)]...)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
	}
	return b
}

// appendValue adds what stands in brackets. Brackets in it become parentheses, so that it ends where it seems to.
func appendValue(b []byte, value string) []byte {
	from := len(b)
	b = appendClean(b, value)
	for i := range b[from:] {
		switch b[from+i] {
		case '[':
			b[from+i] = '('
		case ']':
			b[from+i] = ')'
		}
	}
	return b
}

// lineOf returns what a record is in the original's words, if it is.
func lineOf(record slog.Record) (found line, ok bool) {
	record.Attrs(func(attr slog.Attr) bool {
		if attr.Value.Kind() == slog.KindLogValuer {
			found, ok = attr.Value.Any().(line)
		}
		return !ok
	})
	return found, ok
}
