package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const was = `goos: linux
BenchmarkHotMessages/new_mail-2  1500  11741 ns/op  8776 B/op  7 allocs/op
BenchmarkHotMessages/new_mail-2  1500  11741 ns/op  8776 B/op  8 allocs/op
BenchmarkHotPost/mail-2          1500  2196000 ns/op  23549 B/op  700.0 allocs/op
`

func TestMoreAllocationsThanInTheBaselineFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// from is replaced by to in what was measured before.
		from, to string
		// want is part of the complaint, empty if there is none.
		want string
	}{
		"as before":                             {},
		"slower, and more bytes":                {"11741 ns/op  8776 B/op", "99999 ns/op  9999 B/op", ""},
		"one more where all is counted exactly": {"7 allocs", "8 allocs", "HotMessages/new_mail-2: 1.0 more allocations than in the baseline (7.0, at most 7.0)"},
		"one more, but in another run only":     {"8 allocs", "9 allocs", ""},
		"one less":                              {"7 allocs", "6 allocs", ""},
		"what a program's clock makes":          {"700.0 allocs", "741.0 allocs", ""},
		"more than a program's clock makes":     {"700.0 allocs", "743.0 allocs", "HotPost/mail-2: 43.0 more allocations"},
		"a benchmark that was not run":          {"BenchmarkHotPost/mail", "BenchmarkHotPost/other", "HotPost/mail-2: was not run"},
		"a benchmark that is new":               {"BenchmarkHotPost/mail", "BenchmarkHotPost/other", "HotPost/other-2: is not in the baseline"},
		"what counts no allocations":            {" allocs/op", " apples/op", "no benchmark that counts allocations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var table strings.Builder
			err := compare(&table, file(t, was), file(t, strings.ReplaceAll(was, c.from, c.to)))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("complains: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("the complaint is %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheComplaintSaysHowToReplaceTheBaseline(t *testing.T) {
	t.Parallel()
	for name, baseline := range map[string]string{"a baseline that is exceeded": file(t, strings.ReplaceAll(was, "7 allocs", "5 allocs")), "none": "missing.txt"} {
		if err := compare(io.Discard, baseline, file(t, was)); err == nil || !strings.Contains(err.Error(), "make bench-hot SAVE=1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "benchmarks.txt")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
