// Package profile has a program write profiles of itself. The benchmark builds it into an operator of its own; the
// operator that is shipped has nothing of it.
package profile

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// FolderVariable names the environment variable with the folder that profiles are written to; without it there are none.
const FolderVariable = "OPERATORBENCH_PROFILES"

// Signal has the program write what it has found since it began, once.
const Signal = syscall.SIGUSR1

func init() { //nolint:gochecknoinits // what is imported has no other way to come first
	folder := os.Getenv(FolderVariable)
	if folder == "" {
		return
	}
	if err := start(folder); err != nil {
		fmt.Fprintln(os.Stderr, "no profiles:", err)
	}
}

// start begins to look where time goes, and writes that and where memory is when it is asked to.
func start(folder string) error {
	where, err := os.Create(file(folder, "cpu"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(where); err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, Signal)
	go func() {
		<-asked
		pprof.StopCPUProfile()
		_ = where.Close() // a profile that is cut short is seen to be
		runtime.GC()      // what is in use counts as of the last collection
		for _, kind := range []string{"allocs", "heap"} {
			if err := write(folder, kind); err != nil {
				fmt.Fprintln(os.Stderr, "no profile:", err)
			}
		}
	}()
	return nil
}

func file(folder, kind string) string {
	return filepath.Join(folder, fmt.Sprintf("%d.%s.pprof", os.Getpid(), kind))
}

func write(folder, kind string) error {
	into, err := os.Create(file(folder, kind))
	if err != nil {
		return err
	}
	defer into.Close()
	return pprof.Lookup(kind).WriteTo(into, 0)
}
