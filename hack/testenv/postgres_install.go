package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

const (
	// installLimit bounds an installation: 50 MB from a mirror, and waiting for another process that does the same.
	installLimit = 10 * time.Minute

	// installLock lets one process at a time install something.
	installLock = "/run/lock/ens-operator-install"

	// clusterDefaults is where Debian's package reads whether to make a server of its own while it is installed.
	clusterDefaults = "/etc/postgresql-common/createcluster.conf"
	// servicePolicy is asked by Debian's packages before they start a service.
	servicePolicy = "/usr/sbin/policy-rc.d"
)

var errCannotInstall = errors.New("install Postgres 15 or newer (Debian and Ubuntu: apt-get install postgresql; " +
	"Fedora: dnf install postgresql-server; macOS: brew install postgresql), " +
	"or run this as root on a system with apt-get to have it installed")

// installPostgres installs Debian's package. The package would make a server and start it; both are suppressed while
// it is installed, and the files changed for that are put back as they were.
func installPostgres(ctx context.Context, places PostgresPlaces, progress io.Writer) (err error) {
	apt, lookErr := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || lookErr != nil {
		return errCannotInstall
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	unlock, err := lock(ctx, installLock, progress, "another process to install Postgres")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := places.Find(ctx); err == nil {
		return nil // somebody else did it while we waited
	}

	watch := startWatch(progress, "installing Postgres with apt-get")
	defer func() { watch.done(err) }()
	restorePolicy, err := forbidServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restorePolicy()) }()
	install := func(arguments ...string) error {
		if err := runApt(ctx, apt, arguments...); err != nil {
			return fmt.Errorf("%w\n%w", err, errCannotInstall)
		}
		return nil
	}
	if err := install("update"); err != nil {
		return err
	}
	// postgresql-common first: it brings the file that says whether the server's package makes a server.
	if err := install("install", "--yes", "--no-install-recommends", "postgresql-common"); err != nil {
		return err
	}
	restoreDefaults, err := suppressCluster()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restoreDefaults()) }()
	return install("install", "--yes", "--no-install-recommends", "postgresql")
}

func runApt(ctx context.Context, apt string, arguments ...string) error {
	command := exec.CommandContext(ctx, apt, append([]string{"-q"}, arguments...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %v: %w\n%s", arguments, err, output[max(0, len(output)-logTail):])
	}
	return nil
}

// suppressCluster makes the package create no server, until restore is called.
func suppressCluster() (restore func() error, err error) {
	before, err := os.ReadFile(clusterDefaults)
	if err != nil {
		return nil, fmt.Errorf("reading the defaults of postgresql-common: %w", err)
	}
	info, err := os.Stat(clusterDefaults)
	if err != nil {
		return nil, fmt.Errorf("reading the defaults of postgresql-common: %w", err)
	}
	write := func(text []byte) error { return os.WriteFile(clusterDefaults, text, info.Mode().Perm()) }
	// The last line counts.
	if err := write(slices.Concat(before, []byte("\ncreate_main_cluster = false\n"))); err != nil {
		return nil, fmt.Errorf("telling postgresql-common not to make a server: %w", err)
	}
	return func() error { return write(before) }, nil
}

// forbidServices makes packages start nothing, until restore is called. A policy that is there already stays.
func forbidServices() (restore func() error, err error) {
	const forAllToRun = 0o755
	file, err := os.OpenFile(servicePolicy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, forAllToRun)
	if errors.Is(err, os.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("forbidding packages to start services: %w", err)
	}
	restore = func() error { return os.Remove(servicePolicy) }
	// 101 is "action not allowed" in Debian's policy-rc.d interface.
	_, err = file.WriteString("#!/bin/sh\nexit 101\n")
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("forbidding packages to start services: %w", err), restore())
	}
	return restore, nil
}
