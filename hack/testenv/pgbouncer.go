package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// ErrNoPgBouncer says that PgBouncer is not there and that it takes somebody else to install it.
var ErrNoPgBouncer = errors.New("install PgBouncer (package pgbouncer of any system), or run this as root on a system with apt-get to have it installed")

// PgBouncer returns where PgBouncer is. If it is not there, and we are root on a system with apt-get, it installs Debian's
// package without starting its service, and says so on progress; else the error is ErrNoPgBouncer.
func PgBouncer(ctx context.Context, progress io.Writer) (path string, err error) {
	find := func() (string, error) {
		for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // not every user has sbin in PATH
			if path, err := exec.LookPath(name); err == nil {
				return path, nil
			}
		}
		return "", ErrNoPgBouncer
	}
	if path, err = find(); err == nil {
		return path, nil
	}
	apt, err := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || err != nil {
		return "", ErrNoPgBouncer
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	unlock, err := lock(ctx, installLock, progress, "another process to install PgBouncer")
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, err = find(); err == nil {
		return path, nil // somebody else did it while we waited
	}
	watch := startWatch(progress, "installing PgBouncer with apt-get")
	defer func() { watch.done(err) }()
	restorePolicy, err := forbidServices()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restorePolicy()) }()
	for _, arguments := range [][]string{{"update"}, {"install", "--yes", "--no-install-recommends", "pgbouncer"}} {
		if err := runApt(ctx, apt, arguments...); err != nil {
			return "", fmt.Errorf("installing PgBouncer, or install it yourself (package pgbouncer): %w", err)
		}
	}
	return find()
}
