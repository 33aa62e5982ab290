package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// TestAFewTenantsAreMeasured runs the benchmark small. How fast things are is not judged here; what must not happen is.
func TestAFewTenantsAreMeasured(t *testing.T) {
	log.SetLogger(logr.Discard())
	figures, err := bench(t.Context(), settings{tenants: 3, foreign: 2, quiet: 2 * time.Second, settled: 2 * time.Second}, t.Output())
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
	if writes != 2 {
		t.Errorf("%d figures are of writes that must not be", writes)
	}
	var table bytes.Buffer
	report(&table, figures)
	if lines := strings.Count(table.String(), "\n"); lines != len(figures)+1 {
		t.Errorf("the table has %d lines:\n%s", lines, table.String())
	}
}
