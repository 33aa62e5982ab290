// Command operatorbench measures the operator with many tenants: a real API server, a real Postgres and the real program,
// on this machine. Nothing makes pods.
//
// It prints what it has measured beside the goal, and fails only if something could not be measured: how fast things are
// says as much about the machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard()) // controller-runtime's client would complain that it has none
	var s settings
	flag.IntVar(&s.tenants, "tenants", 1000, "how many tenants")
	flag.DurationVar(&s.quiet, "quiet", 10*time.Minute, "how long to look whether anything is written while nothing happens")
	flag.DurationVar(&s.settled, "settled", 10*time.Second, "for how long nothing must be written until an operator counts as quiet")
	flag.IntVar(&s.foreign, "foreign", 300, "how many foreign Secrets of 1 MB are added")
	flag.IntVar(&s.restarts, "restarts", 1, "how often the start of an operator is measured")
	flag.StringVar(&s.profiles, "profiles", "", "a folder for profiles of the operators (processor, memory): of each start until it has looked at everything; they make it slower")
	flag.Parse()
	figures, err := bench(ctx, s, os.Stderr)
	report(os.Stdout, figures)
	if err != nil {
		fmt.Fprintln(os.Stderr, "operatorbench:", err)
		os.Exit(1)
	}
}

// settings are how much is measured.
type settings struct {
	tenants, foreign int
	quiet, settled   time.Duration
	restarts         int
	profiles         string
}

// figure is something that was measured.
type figure struct {
	what, measured, goal string
	// met says whether the goal is.
	met bool
}

func report(w io.Writer, figures []figure) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) //nolint:mnd // the gap between columns
	_, _ = fmt.Fprintln(table, "WHAT\tMEASURED\tGOAL\t")
	for _, f := range figures {
		verdict := "met"
		switch {
		case f.goal == "":
			verdict = ""
		case !f.met:
			verdict = "MISSED"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.what, f.measured, f.goal, verdict)
	}
	_ = table.Flush()
}
