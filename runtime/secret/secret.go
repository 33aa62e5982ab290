// Package secret holds values that must never be printed: passwords, tokens, keys, database URLs.
//
// A secret.Value prints as "[redacted]" with every verb of fmt, in slog, in JSON and in YAML, also when it
// stands in an unexported field of a struct that somebody prints by mistake.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Redacted is what a Value prints as.
const Redacted = "[redacted]"

// Value is a secret. The zero Value is empty and ready to use.
//
// The bytes are held behind two pointers because fmt does not call methods on unexported fields: it walks into them.
// Behind one pointer it still goes when the verb does not fit (%s); a pointer to a pointer it prints as an address.
type Value struct {
	held **[]byte
}

// New returns a Value that holds b itself, not a copy, so that Wipe clears the caller's bytes too.
func New(b []byte) Value { return Value{held: new(&b)} }

// FromString returns a Value with a copy of s. The string itself cannot be wiped; prefer New where bytes are at hand.
func FromString(s string) Value { return New([]byte(s)) }

// Reveal returns the secret bytes. The name is meant to be seen in review: each call is a place where a secret leaves
// the type that protects it. The caller must not keep the slice beyond the work that needs it.
func (v Value) Reveal() []byte {
	if v.held == nil {
		return nil
	}
	return **v.held
}

// RevealString returns the secret as a string, which cannot be wiped; for libraries that take nothing else.
func (v Value) RevealString() string { return string(v.Reveal()) }

// IsZero reports whether the Value is empty.
func (v Value) IsZero() bool { return len(v.Reveal()) == 0 }

// Equal compares two secrets in constant time for equal lengths.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare(v.Reveal(), other.Reveal()) == 1
}

// Wipe overwrites the bytes with zeros and empties the Value and all its copies.
func (v Value) Wipe() {
	if v.held == nil {
		return
	}
	clear(**v.held)
	**v.held = nil
}

// Format implements fmt.Formatter for every verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue implements slog.LogValuer.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText implements encoding.TextUnmarshaler, so that a secret can be read from JSON without ever being a field
// of type string.
func (v *Value) UnmarshalText(text []byte) error {
	*v = New(append([]byte(nil), text...))
	return nil
}
