package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

var errNoOpenSSL = errors.New("install openssl (package openssl of any system), or run this as root on a system with apt-get to have it installed")

// OpenSSL returns where the openssl command is, whose server can renegotiate as IIS does. Debian's Postgres brings it
// along; where it is missing all the same, it is installed.
func OpenSSL(ctx context.Context, progress io.Writer) (path string, err error) {
	const name = "openssl"
	if path, err = exec.LookPath(name); err == nil {
		return path, nil
	}
	apt, err := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || err != nil {
		return "", errNoOpenSSL
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	watch := startWatch(progress, "installing openssl with apt-get")
	defer func() { watch.done(err) }()
	for _, arguments := range [][]string{{"update"}, {"install", "--yes", "--no-install-recommends", name}} {
		if err := runApt(ctx, apt, arguments...); err != nil {
			return "", fmt.Errorf("%w\n%w", err, errNoOpenSSL)
		}
	}
	return exec.LookPath(name)
}
