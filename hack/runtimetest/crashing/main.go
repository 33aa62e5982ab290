// Command crashing is ens-runtime that kills itself as kill -9 does, when it has reached a step of its work as often as
// told. It is for tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/ens-operator/ens-operator/runtime/requestid"
	"github.com/ens-operator/ens-operator/runtime/server"
	"github.com/ens-operator/ens-operator/runtime/step"
)

func main() {
	options := server.Options{Version: "crashing"}
	flag.StringVar(&options.ConfigPath, "config", "", "the configuration file")
	where := flag.String("step", "", "the step to die at")
	arrivals := flag.Int64("arrival", 1, "how often the step is reached until then")
	flag.Parse()

	options.Logger = slog.New(requestid.Handler{Handler: slog.NewJSONHandler(os.Stdout, nil)})
	options.Steps = dieAt(step.Step(*where), *arrivals)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := server.New(ctx, options)
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crashing:", err)
		os.Exit(1)
	}
}

// dieAt kills the process when the step has been reached so often. Who has reached it does not get any further.
func dieAt(where step.Step, arrivals int64) step.Hook {
	var reached atomic.Int64
	return func(s step.Step) {
		if s != where || reached.Add(1) < arrivals {
			return
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
