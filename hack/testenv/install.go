package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// ErrCannotInstall says that something is not there and that it takes somebody else to install it.
var ErrCannotInstall = errors.New("can be installed only by root on a system with apt-get")

// Install installs packages of Debian without starting their services, and says so on progress. It does nothing where
// there says that they are there already. The error is ErrCannotInstall if we are not root or have no apt-get.
func Install(ctx context.Context, progress io.Writer, there func() bool, packages ...string) (err error) {
	if there() {
		return nil
	}
	names := strings.Join(packages, ", ")
	apt, err := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || err != nil {
		return fmt.Errorf("%s %w", names, ErrCannotInstall)
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	unlock, err := lock(ctx, installLock, progress, "another process to install "+names)
	if err != nil {
		return err
	}
	defer unlock()
	if there() {
		return nil // somebody else did it while we waited
	}
	watch := startWatch(progress, "installing "+names+" with apt-get")
	defer func() { watch.done(err) }()
	restorePolicy, err := forbidServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restorePolicy()) }()
	install := append([]string{"install", "--yes", "--no-install-recommends"}, packages...)
	for _, arguments := range [][]string{{"update"}, install} {
		if err := runApt(ctx, apt, arguments...); err != nil {
			return fmt.Errorf("installing %s, or install them yourself: %w", names, err)
		}
	}
	return nil
}
