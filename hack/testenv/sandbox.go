package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A sandbox is a temporary folder that disappears together with the processes noted in it, also if this process
// crashes, is killed, or calls os.Exit: a janitor, a small shell process, waits for its standard input to end, which
// the kernel sees to in every case, then kills what is left and removes the folder.
type sandbox struct {
	folder  string
	stdin   io.Closer
	janitor *exec.Cmd
	closing sync.Once
	err     error
}

// janitorScript gets the folder as $1. It asks with SIGQUIT first, which makes Postgres release its shared memory,
// and kills after 5 s. Signals from the terminal are not meant for it.
const janitorScript = `
trap '' HUP INT QUIT TERM
while read -r _; do :; done
pids=
for file in "$1"/*.pid; do
	[ -s "$file" ] && pids="$pids $(cat "$file")"
done
alive() { for pid in $pids; do kill -0 "$pid" && return 0; done; return 1; }
for pid in $pids; do kill -QUIT "$pid"; done
tries=0
while alive && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
for pid in $pids; do kill -KILL "$pid"; done
rm -rf -- "$1"
`

// newSandbox makes the folder inside parent, named for kind, and starts its janitor.
func newSandbox(parent, kind string) (*sandbox, error) {
	folder, err := os.MkdirTemp(parent, "ens-testenv-"+kind+"-")
	if err == nil {
		folder, err = filepath.Abs(folder) // others do not work in our working directory
	}
	if err != nil {
		return nil, fmt.Errorf("making a temporary folder for %s: %w", kind, err)
	}
	janitor := exec.Command("/bin/sh", "-c", janitorScript, "ens-testenv-janitor", folder)
	janitor.Dir = "/"
	janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := janitor.StdinPipe()
	if err == nil {
		err = janitor.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the janitor of %s: %w", folder, err), os.RemoveAll(folder))
	}
	return &sandbox{folder: folder, stdin: stdin, janitor: janitor}, nil
}

// path is a path inside the sandbox.
func (s *sandbox) path(name string) string { return filepath.Join(s.folder, name) }

// note hands a process to the janitor.
func (s *sandbox) note(name string, pid int) error {
	// Only the owner may write it: the janitor may be root and kills what it reads there.
	const ownerOnly = 0o600
	if err := os.WriteFile(s.path(name+".pid"), []byte(strconv.Itoa(pid)), ownerOnly); err != nil {
		return fmt.Errorf("noting the process id of %s: %w", name, err)
	}
	return nil
}

// wrap makes a program to be run in place of the given one, which notes its process id for the janitor first: for
// processes that a library starts without telling their ids.
func (s *sandbox) wrap(name, program string) (string, error) {
	script := fmt.Sprintf("#!/bin/sh\necho $$ > %s\nexec %s \"$@\"\n", shellQuote(s.path(name+".pid")), shellQuote(program))
	wrapper := s.path(name)
	const onlyForUs = 0o700
	if err := os.WriteFile(wrapper, []byte(script), onlyForUs); err != nil {
		return "", fmt.Errorf("wrapping %s: %w", name, err)
	}
	return wrapper, nil
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// forget takes a process that has ended from the janitor, because its id may soon be another's.
func (s *sandbox) forget(name string) error {
	if err := os.Remove(s.path(name + ".pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the process id of %s: %w", name, err)
	}
	return nil
}

// close lets the janitor do its work now and waits for it.
func (s *sandbox) close() error {
	s.closing.Do(func() {
		s.err = s.stdin.Close()
		if err := s.janitor.Wait(); err != nil {
			s.err = errors.Join(s.err, fmt.Errorf("cleaning up %s: %w", s.folder, err))
		}
	})
	return s.err
}
