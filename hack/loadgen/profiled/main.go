// Command profiled is ens-runtime that profiles itself when it is told to: SIGUSR1 begins, SIGUSR2 ends and writes the
// profiles (CPU and allocations) into a folder. Its clock may run faster than the real one. It is for the load generator.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/ens-operator/ens-operator/hack/loadgen/quick"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/enslog"
	"github.com/ens-operator/ens-operator/runtime/server"
)

// gcPercent is that of cmd/runtime.
const gcPercent = 400

func main() {
	debug.SetGCPercent(gcPercent)
	options := server.Options{Version: "profiled"}
	flag.StringVar(&options.ConfigPath, "config", "", "the configuration file")
	folder := flag.String("profiles", ".", "where the profiles are written to")
	origin := flag.Int64("clock-origin", time.Now().UnixNano(), "when the clock told the real time, in Unix nanoseconds")
	speed := flag.Int("clock-speed", 1, "how many times as fast the clock runs since then")
	flag.Parse()
	if *speed > 1 {
		options.Clock = quick.New(time.Unix(0, *origin), *speed)
	}
	output := enslog.New(os.Stdout)
	output.Use(config.Logging{})
	options.Logger, options.Logging = slog.New(output), output.Use
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var profiling sync.WaitGroup
	profiling.Go(func() { profile(ctx, *folder) })
	s, err := server.New(ctx, options)
	if err == nil {
		err = s.Run(ctx)
		stop()
		profiling.Wait() // the last one may be being written
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1)
	}
}

// profile writes a pair of profiles for each pair of signals, numbered from 1, until ctx ends, which ends the last one too.
func profile(ctx context.Context, folder string) {
	begin, end := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	signal.Notify(end, syscall.SIGUSR2)
	for number := 1; ; number++ {
		select {
		case <-begin:
		case <-ctx.Done():
			return
		}
		if err := one(ctx, folder, number, end); err != nil {
			fmt.Fprintln(os.Stderr, "profiled:", err)
		}
	}
}

func one(ctx context.Context, folder string, number int, end <-chan os.Signal) error {
	name := func(kind string) string { return filepath.Join(folder, fmt.Sprintf("%s-%d.pprof", kind, number)) }
	before, after := pprof.Lookup("allocs"), pprof.Lookup("allocs")
	err := write(name("allocs-before"), func(w io.Writer) error { return before.WriteTo(w, 0) })
	cpu := write(name("cpu"), func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		select {
		case <-end:
		case <-ctx.Done():
		}
		pprof.StopCPUProfile()
		return nil
	})
	return errors.Join(err, cpu, write(name("allocs"), func(w io.Writer) error { return after.WriteTo(w, 0) }))
}

func write(path string, content func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(content(file), file.Close())
}
