package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain has R, which is measured before each stage, measured for an instant and not for a second: nobody looks at it here.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" { // make bench-hot says itself how long
		if err := flag.Set("test.benchtime", "20ms"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestTheLastStagesProfilesAreWhole ends the program right after the stage, as a run that asks for one stage does.
func TestTheLastStagesProfilesAreWhole(t *testing.T) {
	t.Parallel()
	s := settings{users: 10, inFlight: 2, stage: 100 * time.Millisecond, only: "heartbeats", profiles: filepath.Join(t.TempDir(), "new")}
	if _, err := bench(t.Context(), s, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu-1.pprof", "allocs-before-1.pprof", "allocs-1.pprof"} {
		if err := unpack(filepath.Join(s.profiles, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unpack reads a file that has been packed by gzip, as profiles are, to its end, where its sum stands.
func unpack(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	packed, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, packed)
	return err
}

// TestAFewUsersAreMeasured runs everything small. How fast things are is not judged here; that nothing is lost is.
func TestAFewUsersAreMeasured(t *testing.T) {
	s := settings{users: 40, inFlight: 8, stage: 300 * time.Millisecond, exchangeDelay: time.Millisecond, providerDelay: time.Millisecond}
	r, err := bench(t.Context(), s, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range r.Figures {
		values[f.Stage+"/"+f.Name] = f.Value
	}
	for _, stage := range []string{"heartbeats", "mails", "reads", "day", "half", "burst"} {
		for _, name := range []string{"posts", "statements a post", "WAL a post", "allocations a post"} {
			if values[stage+"/"+name] <= 0 {
				t.Errorf("%s/%s is %v", stage, name, values[stage+"/"+name])
			}
		}
	}
	if values["burst/posts"] != 40 {
		t.Errorf("a mail to everyone made %v posts for 40 users", values["burst/posts"])
	}
	// What was written for machines is what the next run is compared with.
	saved := filepath.Join(t.TempDir(), "baseline.json")
	if err := r.save(saved); err != nil {
		t.Fatal(err)
	}
	s.baseline = saved
	again, err := newReport(s)
	if err != nil {
		t.Fatal(err)
	}
	again.Figures, again.Reference = r.Figures, r.Reference
	var table bytes.Buffer
	again.print(&table)
	if lines := strings.Count(table.String(), "\n"); lines != len(r.Figures)+2 || !strings.Contains(table.String(), "×1.00") {
		t.Errorf("the table has %d lines for %d figures:\n%s", lines, len(r.Figures), table.String())
	}
}

func TestAGoalIsMetOrMissed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		figure figure
		want   string
	}{
		"without a goal":      {figure{Value: 5}, ""},
		"less than the most":  {figure{Value: 5, Goal: 6}, "met"},
		"as much as the most": {figure{Value: 6, Goal: 6}, "met"},
		"more than the most":  {figure{Value: 7, Goal: 6}, "MISSED"},
		"less than the least": {figure{Value: 5, Goal: 6, AtLeast: true}, "MISSED"},
		"more than the least": {figure{Value: 7, Goal: 6, AtLeast: true}, "met"},
	} {
		if got := c.figure.verdict(); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
