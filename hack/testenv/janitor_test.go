package testenv_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// victimVariable makes the test binary start a server and wait to be killed.
const victimVariable = "ENS_TESTENV_VICTIM"

// TestVictim is not a test by itself: TestKilledProcessLeavesNothing runs it in a process of its own.
func TestVictim(t *testing.T) {
	switch os.Getenv(victimVariable) {
	case "postgres":
		connection := connect(t, testenv.Postgres(t).URL())
		fmt.Println("victim", filepath.Dir(filepath.Dir(show(t, connection, "SHOW data_directory"))))
	case "kube":
		testenv.Kube(t)
		folders, err := filepath.Glob(filepath.Join(os.TempDir(), "ens-testenv-kube-*"))
		if err != nil || len(folders) != 1 {
			t.Fatalf("the API server keeps its files in %v (%v), want one folder", folders, err)
		}
		fmt.Println("victim", folders[0])
	default:
		t.Skip("runs only inside TestKilledProcessLeavesNothing")
	}
	select {}
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"postgres", "kube"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$")
			victim.Env = append(os.Environ(), victimVariable+"="+server, "TMPDIR="+t.TempDir())
			output, err := victim.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			folder, said := "", []string{}
			for lines := bufio.NewScanner(output); folder == "" && lines.Scan(); said = append(said, lines.Text()) {
				folder, _ = strings.CutPrefix(lines.Text(), "victim ")
				if folder == lines.Text() {
					folder = ""
				}
			}
			if folder == "" {
				t.Fatalf("the process ended before it had started a server: %q", said)
			}
			if processes(t, folder) < 2 { // the server and the janitor
				t.Errorf("no running server has its files in %s", folder)
			}
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait() // it was killed
			awaitGone(t, folder, 15*time.Second)
		})
	}
}

// awaitGone waits until a folder and all processes whose arguments name it are gone. Nothing but looking tells when a
// janitor whose parent died is done.
func awaitGone(t *testing.T, folder string, patience time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(folder)
		removed, running := errors.Is(err, fs.ErrNotExist), processes(t, folder)
		if removed && running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s after the end: folder removed %t, processes left %d", patience, removed, running)
		}
	}
}

// processes counts the processes whose arguments name folder.
func processes(t *testing.T, folder string) int {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, folder) {
			count++
		}
	}
	return count
}
