package testenv_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

// program writes a shell script.
func program(t *testing.T, file, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// install imitates an installed Postgres.
func install(t *testing.T, folder string, version string) {
	t.Helper()
	program(t, filepath.Join(folder, "initdb"), "exit 1")
	program(t, filepath.Join(folder, "postgres"), fmt.Sprintf("echo 'postgres (PostgreSQL) %s (Debian %[1]s-0)'", version))
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange func(t *testing.T, root string)
		want    string // the folder, or with "error: " before it what the error says
	}{
		"the one in the path": {func(t *testing.T, root string) {
			install(t, root+"/path", "16.1")
			install(t, root+"/lib/17/bin", "17.0")
		}, "path"},
		"the one that a link in the path leads to": {func(t *testing.T, root string) {
			install(t, root+"/lib/15/bin", "15.18")
			install(t, root+"/lib/17/bin", "17.0")
			if err := errors.Join(os.Mkdir(root+"/path", 0o755),
				os.Symlink(root+"/lib/15/bin/postgres", root+"/path/postgres")); err != nil {
				t.Fatal(err)
			}
		}, "lib/15/bin"},
		"the one that pg_config knows": {func(t *testing.T, root string) {
			install(t, root+"/elsewhere", "15.2")
			install(t, root+"/lib/17/bin", "17.0")
			program(t, root+"/path/pg_config", `[ "$1" = --bindir ] && echo `+root+"/elsewhere")
		}, "elsewhere"},
		"the newest installed one, by number and not by letter": {func(t *testing.T, root string) {
			install(t, root+"/lib/9.6/bin", "9.6.24")
			install(t, root+"/lib/15/bin", "15.18")
			install(t, root+"/lib/100/bin", "100.1")
		}, "lib/100/bin"},
		"not one that is too old, if there is another": {func(t *testing.T, root string) {
			install(t, root+"/path", "14.2")
			install(t, root+"/lib/15/bin", "15.18")
		}, "lib/15/bin"},
		"not one without a server, which client packages leave": {func(t *testing.T, root string) {
			program(t, root+"/path/pg_config", "echo "+root+"/lib/17/bin")
			program(t, root+"/lib/17/bin/psql", "exit 1")
			install(t, root+"/lib/15/bin", "15.18")
		}, "lib/15/bin"},
		"a beta": {func(t *testing.T, root string) {
			install(t, root+"/lib/18/bin", "18beta1")
		}, "lib/18/bin"},
		"none but a too old one": {func(t *testing.T, root string) {
			install(t, root+"/path", "14.2")
		}, "error: of version 15 or newer: ROOT/path has version 14"},
		"one that reports no version": {func(t *testing.T, root string) {
			install(t, root+"/path", "unknown")
		}, "error: no Postgres server found"},
		"none at all": {func(*testing.T, string) {}, "error: no Postgres server found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			test.arrange(t, root)
			places := testenv.PostgresPlaces{Path: root + "/empty:" + root + "/path", Globs: []string{root + "/lib/*/bin"}}
			folder, err := places.Find(t.Context())
			if message, failure := strings.CutPrefix(test.want, "error: "); failure {
				message = strings.ReplaceAll(message, "ROOT", root)
				if !errors.Is(err, testenv.ErrNoPostgres) || !strings.Contains(err.Error(), message) {
					t.Fatalf("found %q, error %v, want ErrNoPostgres with %q", folder, err, message)
				}
				return
			}
			if want := filepath.Join(root, test.want); err != nil || folder != want {
				t.Fatalf("found %q, error %v, want %s", folder, err, want)
			}
		})
	}
}
