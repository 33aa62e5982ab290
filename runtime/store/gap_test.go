package store_test

import (
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store"
)

func TestAGapHoldsWhatHasNotBeenSeen(t *testing.T) {
	t.Parallel()
	gap := store.Gap{Since: start, Seen: []store.ItemHash{store.HashItem("seen"), store.HashItem("seen too")}}
	read, err := store.ParseGap(gap.String())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		item    string
		arrived time.Time
		want    bool
	}{
		"a mail a second later":                      {"new", start.Add(time.Second), true},
		"a mail that was seen, were it later":        {"seen", start.Add(time.Second), true},
		"a mail of the same second":                  {"new", start, true},
		"the mail of that second that was seen":      {"seen", start, false},
		"the other one":                              {"seen too", start, false},
		"a mail a second earlier":                    {"new", start.Add(-time.Second), false},
		"a mail whose arrival Exchange did not tell": {"new", time.Time{}, false},
	} {
		if got := read.Holds(test.item, test.arrived); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

// FuzzParseGap reads what it makes up as a row of the journal.
func FuzzParseGap(f *testing.F) {
	f.Add("2026-11-26T00:00:00Z 1y2p0ij32e8e7 -1y2p0ij32e8e8")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		gap, err := store.ParseGap(text)
		if err != nil {
			return
		}
		again, err := store.ParseGap(gap.String())
		if err != nil || !again.Since.Equal(gap.Since) || len(again.Seen) != len(gap.Seen) {
			t.Errorf("%q is read as %v and again as %v: %v", text, gap, again, err)
		}
	})
}
