package soap

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxReference is the length of the longest reference that scan reads, without & and ;.
const maxReference = len("#x10FFFF")

// unescape replaces XML's own entities and references to characters. ok is false if there is anything else.
func unescape(text string) (plain string, ok bool) {
	next := strings.IndexByte(text, '&')
	if next < 0 {
		return text, true
	}
	var b strings.Builder
	b.Grow(len(text))
	for ; next >= 0; next = strings.IndexByte(text, '&') {
		b.WriteString(text[:next])
		reference, rest, found := strings.Cut(text[next+1:], ";")
		if !found || len(reference) > maxReference {
			return "", false
		}
		c, known := character(reference)
		if !known {
			return "", false
		}
		b.WriteRune(c)
		text = rest
	}
	b.WriteString(text)
	return b.String(), true
}

// character is what a reference stands for.
func character(reference string) (rune, bool) {
	switch reference {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, numeric := strings.CutPrefix(reference, "#")
	base := 10
	if hexadecimal, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hexadecimal, 16
	}
	number, err := strconv.ParseUint(digits, base, 32)
	if !numeric || err != nil || number > utf8.MaxRune {
		return 0, false
	}
	return rune(number), isXML(rune(number))
}

// isXML tells whether XML knows a character (XML 1.0, Char).
func isXML(c rune) bool {
	switch {
	case c == '\t', c == '\n', c == '\r', c >= ' ' && c < 0xd800, c >= 0xe000 && c < 0xfffe, c > 0xffff:
		return true
	}
	return false
}
