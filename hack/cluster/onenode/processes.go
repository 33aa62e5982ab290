package onenode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long a process may take to end before it is killed.
const stopLimit = 10 * time.Second

// start starts a program that goes on when we end. Its output goes to log/<name>.log, its process id to run/<name>.pid.
func (c *Cluster) start(ctx context.Context, name, program string, arguments ...string) error {
	log, err := os.Create(c.path("log", name+".log"))
	if err != nil {
		return err
	}
	defer log.Close() // the program has its own handle
	command := exec.CommandContext(context.WithoutCancel(ctx), program, arguments...)
	command.Dir, command.Stdout, command.Stderr = c.folder, log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { _ = command.Wait() }() // no zombie while we live; afterwards it is init's
	const private = 0o600
	return os.WriteFile(c.pidFile(name), []byte(strconv.Itoa(command.Process.Pid)), private)
}

func (c *Cluster) pidFile(name string) string { return c.path("run", name+".pid") }

// stop ends a process that was started by name, if it still runs.
func (c *Cluster) stop(ctx context.Context, name string) error {
	text, err := os.ReadFile(c.pidFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("the process id of %s: %w", name, err)
	}
	if err := c.end(ctx, pid); err != nil {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	return os.Remove(c.pidFile(name))
}

// end asks a process of the cluster to end, and kills it if it does not.
func (c *Cluster) end(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	signal := syscall.SIGTERM
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for c.owns(pid) {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		select {
		case <-ctx.Done():
			if signal == syscall.SIGKILL {
				return errors.New("it does not end even when killed")
			}
			signal = syscall.SIGKILL
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
			defer cancel()
		case <-tick.C:
		}
	}
	return nil
}

// owns says whether a process is one of the cluster's: its arguments name the folder. The id of one that has ended may be
// another's by now.
func (c *Cluster) owns(pid int) bool {
	arguments, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && strings.Contains(string(arguments), c.folder)
}

// shims are the processes that containerd leaves when it ends: one for each pod.
func (c *Cluster) shims() []int {
	var found []int
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, folder := range folders {
		program, err := os.Readlink(filepath.Join(folder, "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(program), "containerd-shim") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil && c.owns(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// run runs a command of the system to its end.
func run(ctx context.Context, name string, arguments ...string) error {
	if output, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
