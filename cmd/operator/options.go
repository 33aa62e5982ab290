package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ens-operator/ens-operator/controllers/database"
	"github.com/ens-operator/ens-operator/controllers/metricsauth"
	"github.com/ens-operator/ens-operator/controllers/shard"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// version is set by the linker for a release.
var version = "latest"

// databaseURLVariable is where the database URL comes from if no file is named.
const databaseURLVariable = "ENS_DATABASE_URL"

// options are what the flags say.
type options struct {
	leaderElect            bool
	leaderNamespace        string
	metricsAddress         string
	metricsSecure          bool
	metricsCertificates    string
	healthAddress          string
	allowLoopback          bool
	runtimeImage           string
	namespaces             []string
	clusterID              string
	workers                int
	shard                  shard.Shard
	leaderElectionID       string
	maxRollouts            uint
	databaseURL            func() (secret.Value, error)
	databaseAuthorities    func() ([]byte, error)
	runtimeDatabaseHost    string
	runtimeDatabasePort    uint16
	runtimeDatabaseSSLMode string
	logLevel               slog.Level
}

// parseOptions reads flags and environment.
func parseOptions(flags *flag.FlagSet, arguments []string, environment func(string) string) (options, error) {
	var o options
	var namespaces, databaseFile, selector string
	var databasePort uint
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "wait until no other operator works in this cluster")
	flags.StringVar(&o.leaderNamespace, "leader-election-namespace", "", "where the operators agree on who works; empty for the operator's own namespace")
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443", "where Prometheus finds metrics; 0 for nowhere")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", true, "serve metrics over https, to those only who may get the URL /metrics")
	flags.StringVar(&o.metricsCertificates, "metrics-certificates", "", "a folder with tls.crt and tls.key for the metrics; without one the operator makes a certificate of its own")
	flags.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "where /healthz and /readyz are; 0 for nowhere")
	flags.BoolVar(&o.allowLoopback, "allow-loopback", false, "let tenants reach loopback and link-local addresses; for tests and the demo only")
	flags.StringVar(&o.runtimeImage, "runtime-image", "ghcr.io/ens-operator/ens-runtime:"+version, "the container image of tenants that ask for no other")
	flags.StringVar(&namespaces, "watch-namespaces", "", "the namespaces to work in, with commas between; empty for all")
	flags.StringVar(&selector, "watch-label-selector", "", "work only on EnsTenants, EwsEndpoints and PushProviders with these labels, as kubectl's --selector; empty for all. Several operators of a cluster need selectors that have nothing in common")
	flags.StringVar(&o.leaderElectionID, "leader-election-id", "", "the Lease by which the operators agree on who works; empty for "+leaderElectionID+", with --watch-label-selector for one that is made of it")
	flags.StringVar(&o.clusterID, "cluster-id", "", "tells this cluster from others that use the same database, and must never change; empty for the UID of namespace kube-system")
	flags.IntVar(&o.workers, "workers", 0, "how many objects of a kind are worked on at once; 0 for 10")
	flags.UintVar(&o.maxRollouts, "max-rollouts", 1, "how many tenants' pods are replaced at once because --runtime-image has become another one; 0 for any number")
	flags.StringVar(&databaseFile, "database-url-file", "", "the file with the connection string of the operator's role in Postgres, beside which "+database.AuthoritiesKey+" may hold the authorities that the server is verified against; without it the environment variable "+databaseURLVariable+" is read")
	flags.StringVar(&o.runtimeDatabaseHost, "runtime-database-host", "", "where tenants reach the database, if not where the operator does (a pooler, say)")
	flags.UintVar(&databasePort, "runtime-database-port", 0, "the port there; 0 for the operator's own")
	flags.StringVar(&o.runtimeDatabaseSSLMode, "runtime-database-sslmode", "", "the tenants' sslmode; empty for the operator's own")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	if err := flags.Parse(arguments); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if databasePort > math.MaxUint16 {
		return options{}, fmt.Errorf("--runtime-database-port %d is no port", databasePort)
	}
	o.runtimeDatabasePort = uint16(databasePort)
	for namespace := range strings.SplitSeq(namespaces, ",") {
		if namespace = strings.TrimSpace(namespace); namespace != "" {
			o.namespaces = append(o.namespaces, namespace)
		}
	}
	var err error
	if o.shard, err = shard.Parse(selector); err != nil {
		return options{}, fmt.Errorf("--watch-label-selector: %w", err)
	}
	if o.leaderElectionID == "" {
		o.leaderElectionID = o.shard.LeaderElectionID(leaderElectionID)
	}
	if databaseFile != "" {
		o.databaseAuthorities = fileIfThere(filepath.Join(filepath.Dir(databaseFile), database.AuthoritiesKey))
	}
	o.databaseURL, err = databaseURLSource(databaseFile, environment(databaseURLVariable))
	return o, err
}

// databaseURLSource reads the URL from the file each time it is asked, so that a changed password is taken up.
func databaseURLSource(file, variable string) (func() (secret.Value, error), error) {
	switch {
	case file != "":
		return func() (secret.Value, error) {
			text, err := os.ReadFile(file)
			if err != nil {
				return secret.Value{}, fmt.Errorf("reading the database URL: %w", err)
			}
			return secret.FromString(strings.TrimSpace(string(text))), nil
		}, nil
	case variable != "":
		return func() (secret.Value, error) { return secret.FromString(variable), nil }, nil
	default:
		return nil, errors.New("name the file with the database URL (--database-url-file), or set " + databaseURLVariable)
	}
}

// fileIfThere reads a file each time it is asked; one that is not there is nil.
func fileIfThere(file string) func() ([]byte, error) {
	return func() ([]byte, error) {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return content, err
	}
}

// metricsFilter lets those read metrics whom the API server's RBAC allows to.
func (o options) metricsFilter() metricsFilterProvider {
	if !o.metricsSecure {
		return nil
	}
	return metricsauth.Filter
}

type metricsFilterProvider = func(*rest.Config, *http.Client) (metrics.Filter, error)
