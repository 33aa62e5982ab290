package callback

import (
	"errors"
	"io"
	"mime"
	"strings"
	"unicode"

	"golang.org/x/text/encoding/ianaindex"
)

// display is foreign text as a phone may show it in one line. What the sender wrote must not be able to pass for something
// else, and has to be readable as its author meant it: in any script, and in any direction.
func display(text string) string {
	if strings.Contains(text, "=?") {
		text = decodeWords(text)
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r):
			return ' '
		case steers(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.Join(strings.Fields(text), " ")
}

// steers reports whether r makes what follows read in a direction that its letters do not have: with it the name of
// a program can be made to end like that of a document. Text of any language comes out right without. The marks (LRM, RLM, ALM) turn nothing round, and
// joiners are parts of words and emoji; both stay.
func steers(r rune) bool {
	return r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069' || r == '\uFEFF'
}

var errCharset = errors.New("unknown charset")

// decodeWords decodes the encoded words of mail headers (RFC 2047), as they stand where a mail program has encoded a name
// twice. What cannot be decoded stays as it is.
func decodeWords(text string) string {
	decoder := mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
		encoding, err := ianaindex.MIME.Encoding(charset)
		if err != nil || encoding == nil {
			return nil, errCharset
		}
		return encoding.NewDecoder().Reader(input), nil
	}}
	decoded, err := decoder.DecodeHeader(text)
	if err != nil {
		return text
	}
	return decoded
}

// senderOf is whom a mail is from, empty if nobody can be named: the name, unless that is only an entry of Exchange's own
// directory (X.500), else the address.
func senderOf(name, address string) string {
	if name = display(name); name != "" && !strings.HasPrefix(strings.ToLower(name), "/o=") {
		return name
	}
	return display(address)
}
