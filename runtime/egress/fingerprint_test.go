package egress_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/egress"
)

const canonical = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func withColons(digits string) string {
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		b.WriteString(":" + digits[i:i+2])
	}
	return b.String()[1:]
}

func TestParseFingerprint(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text  string
		valid bool
	}{
		"the canonical form":                      {canonical, true},
		"upper case":                              {strings.ToUpper(canonical), true},
		"with colons, as openssl prints":          {strings.ToUpper(withColons(canonical)), true},
		"with colons in lower case":               {withColons(canonical), true},
		"with the spaces of a careless copy":      {" " + canonical + "\n", true},
		"nothing":                                 {"", false},
		"a digit too few":                         {canonical[1:], false},
		"a digit too many":                        {canonical + "0", false},
		"a letter that is no digit":               {"g" + canonical[1:], false},
		"a SHA-1 fingerprint":                     {withColons(canonical[:40]), false},
		"a colon at the end":                      {withColons(canonical) + ":", false},
		"a colon at the wrong place":              {canonical[:3] + ":" + canonical[3:], false},
		"colons between some of the bytes":        {withColons(canonical[:32]) + canonical[32:], false},
		"a byte lost between two colons":          {strings.Replace(withColons(canonical), ":d0:", "::", 1), false},
		"another separator than colons":           {strings.ReplaceAll(withColons(canonical), ":", "-"), false},
		"letters that fold to ASCII when lowered": {strings.Repeat("K", 64), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := egress.ParseFingerprint(test.text)
			switch {
			case test.valid && (err != nil || got != canonical):
				t.Errorf("got %q, %v, want %q", got, err, canonical)
			case !test.valid && err == nil:
				t.Errorf("got %q, want an error", got)
			case !test.valid && !strings.Contains(err.Error(), "64 hex digits"):
				t.Errorf("the error does not say what is wanted: %v", err)
			}
		})
	}
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(canonical)
	f.Add(strings.ToUpper(withColons(canonical)))
	f.Add(":")
	f.Add(withColons(canonical)[:94])
	f.Fuzz(func(t *testing.T, text string) {
		got, err := egress.ParseFingerprint(text)
		if err != nil {
			return
		}
		if sum, err := hex.DecodeString(got); err != nil || hex.EncodeToString(sum) != got || len(sum) != 32 {
			t.Fatalf("%q was read as %q, which is not canonical", text, got)
		}
		for _, form := range []string{got, withColons(got), strings.ToUpper(got)} {
			if again, err := egress.ParseFingerprint(form); err != nil || again != got {
				t.Fatalf("%q was read as %q, %v, want %q", form, again, err, got)
			}
		}
	})
}
