package ews

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// previewUnits is how much of a text Exchange keeps for item:Preview, in UTF-16 units.
const previewUnits = 256

// previewOf makes of a plain text what item:Preview is for servers that have none: its beginning, in which every run of
// white space is one blank. It does not end in the middle of a character.
func previewOf(text string) string {
	var b strings.Builder
	units, blank := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) {
			blank = units > 0
			continue
		}
		need := utf16.RuneLen(r)
		if blank {
			need++
		}
		if units+need > previewUnits {
			break
		}
		if blank {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		units, blank = units+need, false
	}
	return b.String()
}
