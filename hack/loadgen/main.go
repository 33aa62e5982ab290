// Command loadgen measures the runtime under load: the real program with a real Postgres, on this machine, posted to as
// Exchange posts for very many users, over loopback.
//
// It prints what it has measured beside the goal, times as multiples of a reference that is measured in the same run (R, one
// private operation of RSA-2048). It fails only if something could not be measured, or if a notification was lost or shown
// twice: how fast things are says as much about the machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var s settings
	var output string
	flag.IntVar(&s.users, "users", 100_000, "how many users have a phone and a subscription")
	flag.DurationVar(&s.stage, "stage", 20*time.Second, "how long each kind of load is kept up")
	flag.IntVar(&s.inFlight, "in-flight", 256, "how many events are under way at once where as much as possible is done")
	flag.DurationVar(&s.exchangeDelay, "exchange-delay", 10*time.Millisecond, "how long each request takes on the simulated Exchange")
	flag.DurationVar(&s.providerDelay, "provider-delay", 20*time.Millisecond, "how long a push takes at most at the simulated provider")
	flag.Float64Var(&s.quota, "quota", 0, "how many cores the runtime may use, by a control group of its own; as many as there are if 0")
	flag.IntVar(&s.hurry, "hurry", 2, "how much sooner than the real one the simulated Exchange posts again, where posts are shed on purpose")
	flag.StringVar(&s.only, "only", "", "the stages to run, separated by commas; all unless set")
	flag.StringVar(&s.baseline, "baseline", "", "a file of -json to compare with")
	flag.StringVar(&s.profiles, "profiles", "", "a folder for CPU and allocation profiles of the runtime, two of each stage")
	flag.BoolVar(&s.statements, "statements", false, "print which statements each stage has sent")
	flag.StringVar(&output, "json", "", "a file to write what was measured to, for machines")
	flag.StringVar(&s.set, "set", "standard", "the set of stages: standard, variants (ways of a mail beside one another), storm (registrations), "+
		"large (a million users), aging (a day of heartbeats) or target (a tenant that is installed)")
	s.target.flags(flag.CommandLine)
	flag.Parse()
	if s.set == "target" {
		s.modest(flag.CommandLine)
	}
	run := sets[s.set]
	if run == nil {
		fmt.Fprintln(os.Stderr, "loadgen: there is no set", s.set)
		os.Exit(1)
	}
	report, err := run(ctx, s, os.Stderr)
	report.print(os.Stdout)
	if err == nil && output != "" {
		err = report.save(output)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// settings are how much is measured.
type settings struct {
	users, inFlight              int
	stage                        time.Duration
	exchangeDelay, providerDelay time.Duration
	only, baseline, profiles     string
	statements                   bool
	// quota is in cores, 0 for none.
	quota       float64
	hurry       int
	set         string
	arrangement arrangement
	target      targetSettings
}

// arrangement is how a set of stages differs from the standard one. The zero value does not.
type arrangement struct {
	// configure changes the runtime's configuration.
	configure func(*config.Config)
	// populate makes the users in place of fill.
	populate func(context.Context, *pgxpool.Pool, *credential.Keyring, string, int) (*population, error)
	// subscribed and newest are as of exchange.Options.
	subscribed func(exchange.Mailbox, exchange.Target)
	newest     func(exchange.Mailbox) []exchange.Listed
	// ways are those that the users' mail goes; unless set, everybody's is the common one.
	ways []way
	// speed is how many times as fast as the real one the clock of runtime, Exchange and Apple runs.
	speed int
	// database are further parameters of Postgres.
	database map[string]string
}

// sets are the sets of stages by name.
var sets = map[string]func(context.Context, settings, io.Writer) (*report, error){
	"standard": bench, "variants": variants, "storm": storm, "large": large, "aging": aging, "target": target,
}

func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
