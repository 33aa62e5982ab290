// Command cluster brings up a Kubernetes with one node, of processes of this machine, and takes it down again:
//
//	go run ./hack/cluster up
//	eval "$(go run ./hack/cluster env)"
//	go run ./hack/cluster import bin/ens-operator-0.1.0.tar ghcr.io/ens-operator/ens-operator
//	go run ./hack/cluster down
//
// It needs root on Linux. See package onenode for what it is made of.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ens-operator/ens-operator/hack/cluster/onenode"
)

func main() {
	folder := flag.String("folder", onenode.DefaultFolder(), "everything of the cluster is in this folder")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: cluster [-folder FOLDER] up | down | env | import ARCHIVE [NAME]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *folder, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder string, arguments []string) error {
	cluster, err := onenode.New(folder, os.Stderr)
	if err != nil {
		return err
	}
	if len(arguments) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	switch command, arguments := arguments[0], arguments[1:]; command {
	case "up":
		return cluster.Up(ctx)
	case "down":
		return cluster.Down(ctx)
	case "env":
		return environment(ctx, cluster)
	case "import":
		if len(arguments) == 0 {
			return fmt.Errorf("import takes an archive")
		}
		return cluster.Import(ctx, arguments[0], arguments[1:]...)
	default:
		return fmt.Errorf("there is no command %s", command)
	}
}

// environment prints what a shell needs to work with the cluster.
func environment(ctx context.Context, cluster *onenode.Cluster) error {
	if err := cluster.Prepare(ctx); err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", cluster.Kubeconfig())
	fmt.Printf("export PATH=%s:$PATH\n", filepath.Dir(cluster.Kubectl()))
	return nil
}
