package push_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/ens-operator/ens-operator/runtime/push"
)

func jsonSize(n push.Notification) (int, error) {
	encoded, err := json.Marshal(n)
	return len(encoded), err
}

func TestFitCutsPreviewThenSubjectThenSender(t *testing.T) {
	t.Parallel()
	family := "👨‍👩‍👧‍👦"
	tests := map[string]struct {
		in    push.Notification
		limit int
		want  push.Notification
	}{
		"what fits is left alone": {
			in:    push.Notification{Title: "Ada", Subtitle: "Engines", Body: "See attached"},
			limit: 22,
			want:  push.Notification{Title: "Ada", Subtitle: "Engines", Body: "See attached"},
		},
		"the preview goes first": {
			in:    push.Notification{Title: "Ada", Subtitle: "Engines", Body: "See attached"},
			limit: 16,
			want:  push.Notification{Title: "Ada", Subtitle: "Engines", Body: "See…"},
		},
		"the subject is cut when no preview is left": {
			in:    push.Notification{Title: "Ada", Subtitle: "Engines", Body: "See attached"},
			limit: 9,
			want:  push.Notification{Title: "Ada", Subtitle: "Eng…"},
		},
		"the sender is cut last": {
			in:    push.Notification{Title: "Ada Lovelace", Subtitle: "Engines", Body: "See attached"},
			limit: 7,
			want:  push.Notification{Title: "Ada …"},
		},
		"a family of four is one character": {
			in:    push.Notification{Title: "A", Body: "x" + family + family},
			limit: 1 + 1 + len(family) + len("…") + 3,
			want:  push.Notification{Title: "A", Body: "x" + family + "…"},
		},
		"a first character that is too large leaves the mark": {
			in:    push.Notification{Title: family},
			limit: 5,
			want:  push.Notification{Title: "…"},
		},
		"invalid bytes become replacement characters": {
			in:    push.Notification{Title: "a\xffb"},
			limit: 100,
			want:  push.Notification{Title: "a\uFFFDb"},
		},
	}
	length := func(n push.Notification) (int, error) { return len(n.Title) + len(n.Subtitle) + len(n.Body), nil }
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := push.Fit(test.in, test.limit, length)
			if err != nil || got != test.want {
				t.Errorf("Fit(%d) = %+v, %v; want %+v", test.limit, got, err, test.want)
			}
		})
	}
}

func TestFitFailsWhenTheTextsAreNotWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	_, err := push.Fit(push.Notification{Title: "a", MessageID: strings.Repeat("x", 100)}, 50, jsonSize)
	if !errors.Is(err, push.ErrTooLarge) {
		t.Errorf("err = %v, want ErrTooLarge", err)
	}
	broken := errors.New("broken")
	_, err = push.Fit(push.Notification{Title: "a"}, 50, func(push.Notification) (int, error) { return 99, broken })
	if !errors.Is(err, broken) {
		t.Errorf("err = %v, want measure's own", err)
	}
}

func FuzzFit(f *testing.F) {
	f.Add("Ada <ada@example.com>", "Engines & \"looms\"", strings.Repeat("e\u0301", 3000), 4096)
	f.Add("🏳️‍🌈", "\u2028\x00\xff", strings.Repeat("🇩🇪", 700), 300)
	f.Add(strings.Repeat("<", 5000), "", "", 700)
	f.Fuzz(func(t *testing.T, title, subtitle, body string, limit int) {
		limit = max(limit%push.MaxPayload, 0)
		in := push.Notification{Kind: push.NewMail, Title: title, Subtitle: subtitle, Body: body, UserID: "u"}
		out, err := push.Fit(in, limit, jsonSize)
		size, _ := jsonSize(out)
		if err != nil {
			if !errors.Is(err, push.ErrTooLarge) || out.Title+out.Subtitle+out.Body != "" {
				t.Fatalf("gave up with texts left or another error: %v", err)
			}
			return
		}
		if size > limit {
			t.Fatalf("size %d over the limit %d", size, limit)
		}
		for name, pair := range map[string][2]string{
			"title": {title, out.Title}, "subtitle": {subtitle, out.Subtitle}, "body": {body, out.Body},
		} {
			checkCut(t, name, strings.ToValidUTF8(pair[0], "\uFFFD"), pair[1])
		}
		if out.Body != "" && (out.Subtitle != strings.ToValidUTF8(subtitle, "\uFFFD")) {
			t.Fatal("the subject was cut before the preview was gone")
		}
	})
}

// checkCut fails unless cut is whole, or whole clusters of its beginning followed by the mark, or nothing.
func checkCut(t *testing.T, name, whole, cut string) {
	t.Helper()
	if !utf8.ValidString(cut) {
		t.Fatalf("%s is not UTF-8: %q", name, cut)
	}
	if cut == whole || cut == "" {
		return
	}
	kept, marked := strings.CutSuffix(cut, "…")
	if !marked || !strings.HasPrefix(whole, kept) {
		t.Fatalf("%s %q is not a beginning of %q", name, cut, whole)
	}
	for rest, state := whole, -1; kept != ""; {
		var cluster string
		cluster, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if !strings.HasPrefix(kept, cluster) {
			t.Fatalf("%s was cut within the character %q", name, cluster)
		}
		kept = kept[len(cluster):]
	}
}
