// Command runtime is ens-runtime: one tenant's server for Boxer and Exchange.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"k8s.io/utils/clock"

	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/idle"
	"github.com/ens-operator/ens-operator/runtime/server"
)

// version is set by the build.
var version = "0.0.0-dev"

// gcPercent is GOGC unless the environment says otherwise. The runtime holds little and makes much: at Go's own 100 a sixth of
// its CPU went into collecting a heap of a few megabytes. Where memory is limited, GOMEMLIMIT has it collect more often.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	options := server.Options{Version: version}
	flag.StringVar(&options.ConfigPath, "config", "/etc/ens/config.yaml", "the configuration file; secrets are read from the folders beside it")
	flag.StringVar(&options.Listen, "listen", "", "address for phones and Exchange, instead of the configuration's")
	flag.StringVar(&options.Metrics, "metrics", "", "address for metrics and probes, instead of the configuration's")
	flag.StringVar(&options.Admin, "admin", "", "loopback address for administration, instead of the configuration's")
	var logging config.Logging
	flag.StringVar((*string)(&logging.Format), "log-format", "", "json or ens2, instead of the configuration's")
	flag.StringVar((*string)(&logging.Level), "log-level", "", "debug, info, warn or error, instead of the configuration's")
	flag.Parse()
	if err := logging.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "ens-runtime:", err)
		os.Exit(2)
	}

	output := enslog.New(os.Stdout)
	output.Use(logging) // until the configuration has been read
	options.Logger = slog.New(output)
	options.Logging = func(c config.Logging) {
		output.Use(config.Logging{Format: cmp.Or(logging.Format, c.Format), Level: cmp.Or(logging.Level, c.Level)})
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go idle.ReturnMemory(ctx, clock.RealClock{})
	if err := run(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, "ens-runtime:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, options server.Options) error {
	s, err := server.New(ctx, options)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
