package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is whom Postgres runs as: ourselves, or another user if we are root.
type account struct {
	// credential is nil for ourselves.
	credential *syscall.Credential
}

// unprivileged are the users that root gives a server to, in this order. The server must be able to look its own name
// up, so a bare user id will not do.
var unprivileged = []string{"postgres", "nobody", "daemon"}

func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range unprivileged {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("reading the ids of user %s: %w", name, err)
		}
		return account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, fmt.Errorf("cannot run Postgres as root, and none of the users %v exists to run it as", unprivileged)
}

// command is a command run as the account, with an environment in which nothing of ours (PGDATA, PGHOST, LC_ALL)
// changes what Postgres does.
func (a account) command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	// A process group of its own: Ctrl-C in a terminal reaches us, and we stop the server.
	command.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential, Setpgid: true}
	return command
}

// own makes folder for the account, inside parent, which stays ours and can be passed through.
func (a account) own(parent, folder string) error {
	const (
		passable = 0o711
		private  = 0o700
	)
	if err := os.Chmod(parent, passable); err != nil {
		return fmt.Errorf("opening the way to the data folder: %w", err)
	}
	if err := os.Mkdir(folder, private); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	return a.take(folder)
}

// write makes a file that only the account can read.
func (a account) write(file, text string) error {
	const private = 0o600
	if err := os.WriteFile(file, []byte(text), private); err != nil {
		return fmt.Errorf("writing for Postgres: %w", err)
	}
	return a.take(file)
}

func (a account) take(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("giving %s to the user Postgres runs as: %w", path, err)
	}
	return nil
}

// temporary is the folder for temporary files, or another one if another user cannot get there.
func (a account) temporary() string {
	if a.credential == nil {
		return os.TempDir()
	}
	for _, folder := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if openToAll(folder) {
			return folder
		}
	}
	return os.TempDir()
}

// openToAll reports whether every folder on the way to folder, itself included, can be passed by everybody.
func openToAll(folder string) bool {
	const passableByOthers = 0o001
	for {
		info, err := os.Stat(folder)
		if err != nil || info.Mode().Perm()&passableByOthers == 0 {
			return false
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return true
		}
		folder = parent
	}
}
