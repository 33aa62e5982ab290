package protocol

import "testing"

func TestTheVersionOfTheBuildBecomesFourNumbers(t *testing.T) {
	t.Parallel()
	for build, want := range map[string]string{
		"1.2.3":                    "1.2.3.0",
		"v1.2.3":                   "1.2.3.0",
		"1.2.3.4":                  "1.2.3.4",
		"1.2.3.4.5":                "1.2.3.4",
		"2.0.1-rc.7":               "2.0.1.0",
		"2.0.1+build.9":            "2.0.1.0",
		"0.0.0-dev":                "0.0.0.0",
		"":                         "0.0.0.0",
		"nightly":                  "0.0.0.0",
		"1.x.3":                    "1.0.3.0",
		"1.99999999999999999999.3": "1.0.3.0",
		"-1.2":                     "0.0.0.0",
	} {
		if got := fourParts(build); got != want {
			t.Errorf("%q becomes %q, want %q", build, got, want)
		}
	}
}
