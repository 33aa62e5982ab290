package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// TestAFewTenantsAreMeasured runs the benchmark small. How fast things are is not judged here; what must not happen is.
func TestAFewTenantsAreMeasured(t *testing.T) {
	log.SetLogger(logr.Discard())
	profiles := t.TempDir()
	figures, err := bench(t.Context(), settings{
		tenants: 3, foreign: 2, quiet: 2 * time.Second, settled: 2 * time.Second, restarts: 2, profiles: profiles,
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	for _, f := range figures {
		if f.goal == "none" {
			writes++
			if !f.met {
				t.Errorf("%s: %s", f.what, f.measured)
			}
		}
	}
	if writes != 3 {
		t.Errorf("%d figures are of writes that must not be", writes)
	}
	if found, err := filepath.Glob(filepath.Join(profiles, "*.heap.pprof")); err != nil || len(found) != 2 {
		t.Errorf("there are %d profiles of memory (%v)", len(found), err)
	}
	var table bytes.Buffer
	report(&table, figures)
	if lines := strings.Count(table.String(), "\n"); lines != len(figures)+1 {
		t.Errorf("the table has %d lines:\n%s", lines, table.String())
	}
}
