// Command local is cert-manager's controller, webhook or cainjector, put together from cert-manager's own packages: its
// commands are modules that are not published. It has self-signed and CA issuers only.
//
// CM_ROLE says which of the three it is, so that cert-manager's own chart, which passes flags only, can be used as it is.
// The module's path lies below cert-manager's, so that its internal packages may be imported.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

// roles are the three commands.
var roles = map[string]func(context.Context, *pflag.FlagSet, []string) error{
	"controller": runController,
	"webhook":    runWebhook,
	"cainjector": runInjector,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx = logf.NewContext(ctx, klog.Background())
	ctrl.SetLogger(klog.Background())
	name := os.Getenv("CM_ROLE")
	run, found := roles[name]
	if !found {
		fmt.Fprintln(os.Stderr, "set CM_ROLE to controller, webhook or cainjector")
		os.Exit(1)
	}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true // the chart passes more than is needed here
	if err := run(ctx, flags, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
