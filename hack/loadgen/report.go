package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is something that was measured.
type figure struct {
	Stage string  `json:"stage"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Goal is the most it may be, or the least if AtLeast; none if 0.
	Goal    float64 `json:"goal,omitempty"`
	AtLeast bool    `json:"atLeast,omitempty"`
	// First is the same figure of what it is compared with in the same run; nothing is if 0.
	First float64 `json:"first,omitempty"`
}

func (f figure) verdict() string {
	switch {
	case f.Goal == 0:
		return ""
	case f.AtLeast && f.Value >= f.Goal, !f.AtLeast && f.Value <= f.Goal:
		return "met"
	default:
		return "MISSED"
	}
}

// report is all that one run has measured.
type report struct {
	Taken time.Time `json:"taken"`
	CPUs  int       `json:"cpus"`
	Users int       `json:"users"`
	// Reference is R in microseconds, as it was before each stage.
	Reference []float64 `json:"referenceMicroseconds"`
	Figures   []figure  `json:"figures"`

	before map[string]float64
}

func newReport(s settings) (*report, error) {
	r := &report{Taken: time.Now().UTC().Truncate(time.Second), CPUs: runtime.GOMAXPROCS(0), Users: s.users}
	if s.baseline == "" {
		return r, nil
	}
	content, err := os.ReadFile(s.baseline)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil // there is none yet
	}
	if err != nil {
		return r, fmt.Errorf("reading the baseline: %w", err)
	}
	var earlier report
	if err := json.Unmarshal(content, &earlier); err != nil {
		return r, fmt.Errorf("reading the baseline %s: %w", s.baseline, err)
	}
	r.before = map[string]float64{}
	for _, f := range earlier.Figures {
		r.before[f.Stage+"/"+f.Name] = f.Value
	}
	return r, nil
}

func (r *report) add(stage, name string, value float64, unit string) {
	r.addGoal(stage, name, value, unit, 0)
}

// addGoal adds something that may be at most as much as the goal.
func (r *report) addGoal(stage, name string, value float64, unit string, goal float64) {
	r.Figures = append(r.Figures, figure{Stage: stage, Name: name, Value: value, Unit: unit, Goal: goal})
}

// addLeast adds something that must be at least as much as the goal.
func (r *report) addLeast(stage, name string, value float64, unit string, goal float64) {
	r.Figures = append(r.Figures, figure{Stage: stage, Name: name, Value: value, Unit: unit, Goal: goal, AtLeast: true})
}

// inReference is a time as a multiple of R as it was just before.
func (r *report) inReference(d time.Duration) float64 {
	return microseconds(d) / r.Reference[len(r.Reference)-1]
}

// compare puts a stage's figures beside those of another.
func (r *report) compare(stage, with string) {
	first := map[[2]string]float64{}
	for i, f := range r.Figures {
		key := [2]string{f.Name, f.Unit}
		switch f.Stage {
		case with:
			first[key] = f.Value
		case stage:
			r.Figures[i].First = first[key]
		}
	}
}

func (r *report) save(path string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil { //nolint:gosec // measurements are for everybody
		return fmt.Errorf("writing what was measured: %w", err)
	}
	return nil
}

// print is the table for people.
func (r *report) print(w io.Writer) {
	if r == nil || len(r.Figures) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "%d users", r.Users)
	if len(r.Reference) > 0 { // there is none of another machine
		_, _ = fmt.Fprintf(w, ", %d CPUs, R = %.0f to %.0f µs", r.CPUs, slices.Min(r.Reference), slices.Max(r.Reference))
	}
	_, _ = fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) //nolint:mnd // the gap between columns
	header := "STAGE\tWHAT\tMEASURED\t\tGOAL\t\t"
	compared := slices.ContainsFunc(r.Figures, func(f figure) bool { return f.First != 0 })
	if compared {
		header += "TO THE FIRST\t"
	}
	if r.before != nil {
		header += "TO BASELINE\t"
	}
	_, _ = fmt.Fprintln(table, header)
	for _, f := range r.Figures {
		goal := ""
		if f.Goal != 0 {
			goal = number(f.Goal)
			if f.AtLeast {
				goal = "≥ " + goal
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t", f.Stage, f.Name, number(f.Value), f.Unit, goal, f.verdict())
		if f.First != 0 {
			_, _ = fmt.Fprintf(table, "×%.2f", f.Value/f.First)
		}
		if compared {
			_, _ = fmt.Fprint(table, "\t")
		}
		if earlier := r.before[f.Stage+"/"+f.Name]; earlier != 0 {
			_, _ = fmt.Fprintf(table, "×%.2f\t", f.Value/earlier)
		}
		_, _ = fmt.Fprintln(table)
	}
	_ = table.Flush()
}

// number shows three digits that count.
func number(v float64) string {
	switch {
	case v == float64(int64(v)):
		return fmt.Sprintf("%d", int64(v))
	case v >= 100: //nolint:mnd // no digit behind the point counts
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
