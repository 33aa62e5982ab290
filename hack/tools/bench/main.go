// Command bench holds the hot paths to the allocations of a baseline: it fails if a benchmark allocates more than there, and says
// which and by how much. Both files are what `go test -bench` prints; make bench-hot makes and compares them.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
)

func main() {
	if len(os.Args) != 3 { //nolint:mnd // the program's name and two files
		fmt.Fprintln(os.Stderr, "usage: bench baseline now")
		os.Exit(2) //nolint:mnd // as the flag package
	}
	if err := compare(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	// ofProgram begins the names of benchmarks that count what a whole program allocates. The others count exactly.
	ofProgram = "HotPost/"
	// tolerance is how much more those may allocate, as a part: what the program does by the clock, and how many events share a
	// statement, makes up to 1.6 % from run to run here, with the least of six taken; 6 leave room for a slower machine.
	tolerance = 0.06
	// unit is what is compared. Times are not: they say as much about the machine.
	unit = "allocs/op"
)

// deliberate is how to take what is measured now for the baseline.
const deliberate = "if it has to be so, run make bench-hot SAVE=1, commit the baseline, and say in the commit why"

// compare prints how the allocations of now are beside the baseline, and is an error if there is more of them anywhere.
func compare(w io.Writer, baseline, now string) error {
	before, err := read(baseline)
	if err != nil {
		return err
	}
	after, err := read(now)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) //nolint:mnd // the gap between columns
	var problems []string
	for _, name := range names(before, after) {
		was, known := before[name]
		is, measured := after[name]
		verdict := judge(name, was, known, is, measured)
		_, _ = fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%s\n", name, was, is, verdict)
		if verdict != "" {
			problems = append(problems, name+": "+verdict)
		}
	}
	_, _ = fmt.Fprintf(w, "%s, the least of all runs: benchmark, baseline, now\n", unit)
	_ = table.Flush()
	if len(problems) > 0 {
		return fmt.Errorf("%s\nFind out what allocates (-memprofile of the benchmark; BENCH_FLAGS='-profiles folder' of make bench); %s", strings.Join(problems, "\n"), deliberate)
	}
	return nil
}

// judge is what is wrong with a benchmark, nothing if all is well.
func judge(name string, was float64, known bool, is float64, measured bool) string {
	switch {
	case !known:
		return "is not in the baseline"
	case !measured:
		return "was not run"
	case is > most(name, was):
		return fmt.Sprintf("%.1f more allocations than in the baseline (%.1f, at most %.1f)", is-was, was, most(name, was))
	default:
		return ""
	}
}

// most is how much a benchmark may allocate.
func most(name string, was float64) float64 {
	if strings.HasPrefix(name, ofProgram) {
		return was * (1 + tolerance)
	}
	return was
}

func names(before, after map[string]float64) []string {
	var all []string
	for name := range before {
		all = append(all, name)
	}
	for name := range after {
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// read is the least of a file's allocations by benchmark: what else a machine does adds to them and takes nothing away.
func read(path string) (map[string]float64, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no baseline yet: %w; %s", err, deliberate)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	least := map[string]float64{}
	reader := benchfmt.NewReader(file, path)
	for reader.Scan() {
		result, isResult := reader.Result().(*benchfmt.Result)
		if !isResult {
			continue
		}
		value, counted := result.Value(unit)
		if !counted {
			continue
		}
		name := result.Name.String()
		if earlier, seen := least[name]; seen {
			value = math.Min(value, earlier)
		}
		least[name] = value
	}
	if err := reader.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(least) == 0 {
		return nil, fmt.Errorf("%s has no benchmark that counts allocations", path)
	}
	return least, nil
}
