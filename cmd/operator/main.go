// Command ens-operator runs Email Notification Service tenants on Kubernetes.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ens-operator/ens-operator/controllers"
	"github.com/ens-operator/ens-operator/controllers/database"
)

// leaderElectionID names the Lease by which the operator's pods agree on who works; a shard has one of its own.
const leaderElectionID = "ens-operator.ens-operator.io"

// gcPercent is GOGC unless the environment says otherwise. The operator holds much and makes little, so that collecting twice
// as often as Go does by default costs next to nothing, and saves a quarter of its memory.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if arguments := os.Args[1:]; len(arguments) == 2 && arguments[0] == probeCommand {
		p := prober{token: tokenFile, patience: probePatience, interval: probeInterval}
		if err := p.run(ctrl.SetupSignalHandler(), arguments[1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "ens-operator:", err)
			os.Exit(1)
		}
		return
	}
	options, err := parseOptions(flag.CommandLine, os.Args[1:], os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ens-operator:", err)
		os.Exit(exitUsage)
	}
	logger := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: options.logLevel}))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // the Kubernetes client's own logs
	if err := run(ctrl.SetupSignalHandler(), options); err != nil {
		ctrl.Log.Error(err, "Stopped")
		os.Exit(1)
	}
}

// exitUsage is the usual exit status of a program that was called wrongly.
const exitUsage = 2

func run(ctx context.Context, options options) error {
	db, err := database.Open(ctx, database.Options{
		URL:            options.databaseURL,
		Authorities:    options.databaseAuthorities,
		RuntimeHost:    options.runtimeDatabaseHost,
		RuntimePort:    options.runtimeDatabasePort,
		RuntimeSSLMode: options.runtimeDatabaseSSLMode,
	})
	if err != nil {
		return err
	}
	defer db.Close()
	mgr, err := newManager(options)
	if err != nil {
		return err
	}
	err = controllers.Setup(ctx, mgr, options.namespaces, controllers.Options{
		RuntimeImage:  options.runtimeImage,
		MaxRollouts:   int(min(options.maxRollouts, math.MaxInt32)),
		AllowLoopback: options.allowLoopback,
		ClusterID:     options.clusterID,
		Database:      db,
		Workers:       options.workers,
		Shard:         options.shard,
	})
	if err != nil {
		return err
	}
	if options.allowLoopback {
		ctrl.Log.Info("Tenants may reach loopback addresses; this is for tests and the demo only")
	}
	return mgr.Start(ctx)
}

func newManager(options options) (ctrl.Manager, error) {
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("looking for the Kubernetes API server: %w", err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache:  controllers.CacheOptions(options.namespaces),
		Metrics: metrics.Options{
			BindAddress:    options.metricsAddress,
			SecureServing:  options.metricsSecure,
			CertDir:        options.metricsCertificates,
			FilterProvider: options.metricsFilter(),
			// HTTP/2 stays off: nobody needs it here, and its streams can be abused to exhaust a server.
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		},
		HealthProbeBindAddress:  options.healthAddress,
		LeaderElection:          options.leaderElect,
		LeaderElectionID:        options.leaderElectionID,
		LeaderElectionNamespace: options.leaderNamespace,
		// Safe because the process ends as soon as the manager does.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, nil
}
