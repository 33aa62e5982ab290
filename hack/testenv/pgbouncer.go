package testenv

import (
	"context"
	"errors"
	"io"
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
	err = Install(ctx, progress, func() bool { _, err := find(); return err == nil }, "pgbouncer")
	if errors.Is(err, ErrCannotInstall) {
		return "", ErrNoPgBouncer
	}
	if err != nil {
		return "", err
	}
	return find()
}
