package callback

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTextsAreShownAsTheirAuthorsMeantThem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"plain text":                          {"Lunch at noon?", "Lunch at noon?"},
		"Arabic and English together":         {"مرحبا world", "مرحبا world"},
		"marks of direction stay":             {"\u200Fabc\u200E \u061C", "\u200Fabc\u200E \u061C"},
		"an override of direction goes":       {"report\u202Efdp.exe", "reportfdp.exe"},
		"isolates go":                         {"\u2067abc\u2069 \u2068d\u2069", "abc d"},
		"an emoji of several parts stays":     {"👩\u200D👩\u200D👧 party", "👩\u200D👩\u200D👧 party"},
		"a Persian word with a non-joiner":    {"می\u200Cخواهم", "می\u200Cخواهم"},
		"several lines become one":            {"Hello\r\n\tworld\n\n", "Hello world"},
		"a NUL and a bell":                    {"a\x00b\x07", "a b"},
		"no UTF-8":                            {"caf\xe9", "caf\uFFFD"},
		"a byte order mark":                   {"\uFEFFHello", "Hello"},
		"an encoded word":                     {"=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"},
		"encoded words and plain ones":        {"Re: =?iso-8859-1?Q?Gr=FC=DFe?= an =?utf-8?q?Zo=C3=AB?=", "Re: Grüße an Zoë"},
		"a charset of the far east":           {"=?iso-2022-jp?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"},
		"a charset that nobody knows":         {"=?x-nobody?Q?abc?=", "=?x-nobody?Q?abc?="},
		"what only begins like one":           {"a =? b", "a =? b"},
		"an override inside an encoded word":  {"=?utf-8?B?4oCuZmRw?=", "fdp"},
		"a line break inside an encoded word": {"=?utf-8?Q?a=0D=0Ab?=", "a b"},
		"nothing but spaces":                  {" \u00a0\u2003 ", ""},
	} {
		if got := display(test.text); got != test.want {
			t.Errorf("%s: %q is shown as %q, want %q", name, test.text, got, test.want)
		}
	}
}

func TestASenderIsNamedIfThereIsAName(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ name, address, want string }{
		"a name":           {"Bob", "bob@example.com", "Bob"},
		"an address alone": {"", "bob@example.com", "bob@example.com"},
		"a name of spaces": {" ", "bob@example.com", "bob@example.com"},
		"an entry of the directory and no address":  {"/O=EXCHANGELABS/OU=GROUP/CN=RECIPIENTS/CN=BOB", "", ""},
		"an entry of the directory and the address": {"/o=Labs/cn=bob", "bob@example.com", "bob@example.com"},
		"nobody": {"", "", ""},
	} {
		if got := senderOf(test.name, test.address); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// FuzzDisplay shows what it makes up as a subject.
func FuzzDisplay(f *testing.F) {
	f.Add("=?utf-8?B?R3LDvMOfZQ==?= \u202Ex")
	f.Add("=?iso-2022-jp?B?GyRCJDMkcyRLJEEkTxsoQg==?=")
	f.Add("=?utf-8?Q?=3D=3Futf-8=3FQ=3Fa=3F=3D?=")
	f.Fuzz(func(t *testing.T, text string) {
		shown := display(text)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool { return unicode.IsControl(r) || steers(r) }) ||
			shown != strings.TrimSpace(shown) {
			t.Errorf("%q is shown as %q", text, shown)
		}
	})
}
