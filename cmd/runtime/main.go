// Command runtime is ens-runtime: one tenant's server for Boxer and Exchange.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/server"
)

// version is set by the build.
var version = "0.0.0-dev"

func main() {
	options := server.Options{Version: version}
	flag.StringVar(&options.ConfigPath, "config", "/etc/ens/config.yaml", "the configuration file; secrets are read from the folders beside it")
	flag.StringVar(&options.Listen, "listen", "", "address for phones and Exchange, instead of the configuration's")
	flag.StringVar(&options.Metrics, "metrics", "", "address for metrics and probes, instead of the configuration's")
	flag.StringVar(&options.Admin, "admin", "", "loopback address for administration, instead of the configuration's")
	level := slog.LevelInfo
	flag.TextVar(&level, "log-level", level, "debug, info, warn or error")
	flag.Parse()

	options.Logger = slog.New(requestid.Handler{Handler: slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level})})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
